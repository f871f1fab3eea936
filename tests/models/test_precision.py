"""A model in bfloat16 is proven by its numbers in float32, where rounding alone takes it far from transformers."""

import copy
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from agentrft.errors import UserError
from agentrft.models import architecture, planned
from agentrft.models.attention import ScoreRules
from agentrft.models.precision import in_float32
from tests.model_families import FAMILIES, family_model

IDS = torch.arange(20, 44).unsqueeze(0)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("family", [*FAMILIES])
def test_a_pass_in_float32_leaves_the_weights_as_they_were(family: str) -> None:
    model = family_model(family).plain.to(torch.bfloat16)
    before = [(weight, weight.data_ptr(), weight.clone()) for weight in (*model.parameters(), *model.buffers())]
    wide = copy.deepcopy(model).float()
    rounded = logits(model)
    with in_float32(model):
        assert torch.allclose(logits(model), logits(wide), atol=1e-4)
    for weight, place, values in before:
        assert weight.data_ptr() == place
        assert torch.equal(weight, values)
    assert torch.equal(logits(model), rounded)


def test_an_error_in_a_pass_leaves_the_weights_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model("llama").plain.to(torch.bfloat16)
    monkeypatch.setattr(model.model.layers[1].mlp, "forward", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError), in_float32(model):
        logits(model)
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}


def with_large_scores(family: str) -> PreTrainedModel:
    """Biases as Qwen2.5 has them: they make scores of thousands, which bfloat16 rounds to multiples of eight."""
    model = family_model(family).planned.to(torch.bfloat16)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith(("q_proj.bias", "k_proj.bias")):
                weight.copy_(torch.randn(weight.shape, generator=source) * 100)
            if name == "lm_head.weight":
                weight.mul_(8)
    return model


def test_a_model_that_rounding_takes_far_off_is_taken() -> None:
    model = with_large_scores("qwen2")
    assert architecture._difference(model) > architecture.ROUNDED_TOLERANCE
    architecture.prove(model)


def test_what_is_forgotten_is_noticed_beside_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_large_scores("qwen2_window")
    rules: Callable[..., ScoreRules] = lambda *_, **__: ScoreRules()  # noqa: E731  # one line, used here only
    monkeypatch.setattr(planned, "ScoreRules", rules)
    with pytest.raises(UserError, match="computed otherwise here than by transformers"):
        architecture.prove(model)
