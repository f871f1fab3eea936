"""Every family computes here what transformers computes: in the tree learner, in the engine, and with adapters."""

import asyncio
import random
from collections.abc import Callable, Iterator
from functools import cache

import pytest
import torch

from agentrft.errors import UserError
from agentrft.learner import Policy
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.models import planned
from agentrft.models.architecture import inspect_architecture, prove
from agentrft.models.attention import ScoreRules
from agentrft.models.forward import TransformersForward, forward_of
from tests.engine.sessions import Transcript, converse, largest_error, random_ids, running_engine
from tests.learner.masters import with_random_masters
from tests.learner.rows import group_of_depth_three, padded_sampled_logprobs
from tests.learner.test_tree_forward import token_weights
from tests.model_families import FAMILIES, REFUSED, family_model
from tests.models.architectures import tree_errors

cached_model = cache(family_model)
# Linear attention normalises its keys, where random weights leave little of them.
TOLERANCE = 1e-4
WINDOWED = [
    "mistral",
    "qwen2_window",
    "gemma2",
    "gemma3",
    "gemma4",
    "gemma4_moe",
    "phi3",
    "olmo3",
    "gpt_oss",
    "cohere2",
    "exaone4",
]
# One of each kind; the rest is held in `make test-models`, where docs/models.md's table is made.
KINDS = ["mistral", "qwen3_moe", "qwen3_5", "gemma2", "gemma4", "gpt_oss", "nemotron_h"]
ALL = [one if one in KINDS else pytest.param(one, marks=pytest.mark.slow) for one in FAMILIES]
RECURRENT = [
    "qwen3_next",
    "qwen3_5",
    "qwen3_5_moe",
    "granitemoehybrid",
    "granitemoehybrid_dense",
    "lfm2",
    "lfm2_moe",
    "nemotron_h",
    "falcon_h1",
]


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize("family", ALL)
def test_a_tree_has_transformers_logprobs_and_gradients(family: str, recomputed: bool) -> None:
    logprob_error, gradient_error = tree_errors(cached_model(family), recomputed)
    assert logprob_error < TOLERANCE
    assert gradient_error < TOLERANCE


@pytest.mark.parametrize("family", ALL)
def test_adapters_are_learned_and_merged(family: str) -> None:
    model, rows = family_model(family), group_of_depth_three(shared_results=True)
    policy = with_random_masters(Policy(model.planned.requires_grad_(False), lora_rank=2, seed=0))
    policy.write_to(TransformersForward(model.plain))
    sampled = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0)
    expected = padded_sampled_logprobs(model.plain, rows, 1.0)
    sampled.logprobs.mul(token_weights(len(expected))).sum().backward()
    assert float((sampled.logprobs - expected).abs().max().detach()) < TOLERANCE
    assert all(master.grad is not None and float(master.grad.abs().max()) > 0 for master in policy.masters)


async def rollouts(family: str, *, slots: int = 5) -> tuple[list[Transcript], int]:
    """Sessions of many lengths beyond the slots, half of them a group; and how many tokens they shared."""
    source = random.Random(1)
    prompts = [random_ids(source, source.randint(1, 60)) for _ in range(6)] + [random_ids(source, 50)] * 6
    model = cached_model(family)
    async with running_engine(model, slots=slots, batch=3, prefill_tokens=64, forward=TransformersForward) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, prompt, turns=1 + i % 4, seed=i) for i, prompt in enumerate(prompts))
        )
        return transcripts, engine.counters["prefix_tokens_shared"]


@pytest.mark.parametrize("family", ALL)
async def test_the_engine_samples_with_transformers_logprobs(family: str) -> None:
    transcripts, shared = await rollouts(family)
    assert largest_error(cached_model(family), transcripts) < TOLERANCE
    # The prompt's last token is computed for each of a group.
    assert shared >= 5 * 49


@pytest.mark.parametrize("family", ["qwen3_5", "gpt_oss"])
async def test_with_a_slot_for_each_a_groups_prompt_is_computed_once(family: str) -> None:
    transcripts, shared = await rollouts(family, slots=12)
    assert largest_error(cached_model(family), transcripts) < TOLERANCE
    assert shared >= 5 * 49


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_judged_without_weights_and_proven_with_them(family: str) -> None:
    model = cached_model(family)
    judged = inspect_architecture(FAMILIES[family](), torch.float32)
    forward = forward_of(model.planned)
    assert judged.cache_shapes == TransformersForward(model.planned).cache_shapes == forward.cache_shapes
    assert judged.path == ("transformers" if isinstance(forward, TransformersForward) else "fast")
    assert (family in WINDOWED or family.removesuffix("_images") in [*WINDOWED, "mistral3"]) == any(
        shape.window for shape in judged.cache_shapes.keys.values()
    )
    assert (family.removesuffix("_images") in RECURRENT) == bool(judged.cache_shapes.states)
    prove(model.planned)


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Lets a part of what architectures do to scores be forgotten."""
    kept = ScoreRules

    def forget(part: str) -> None:
        def rules(window: int | None, softcap: float | None, sinks: torch.Tensor | None) -> ScoreRules:
            given = {"window": window, "softcap": softcap, "sinks": sinks, part: None}
            return kept(**given)  # pyright: ignore[reportArgumentType]

        monkeypatch.setattr(planned, "ScoreRules", rules)

    yield forget


@pytest.mark.parametrize(
    ("family", "part"), [("gpt_oss", "sinks"), ("gemma2", "softcap"), *((one, "window") for one in WINDOWED)]
)
def test_what_is_forgotten_is_noticed(family: str, part: str, without: Callable[[str], None]) -> None:
    model = family_model(family)
    prove(model.planned)
    without(part)
    with pytest.raises(UserError, match="computed otherwise here than by transformers"):
        prove(model.planned)


@pytest.mark.parametrize("family", RECURRENT)
def test_a_state_that_is_lost_is_noticed(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = family_model(family)
    monkeypatch.setattr(planned.MixerStates, "get_conv_state", lambda *_, **__: None)
    monkeypatch.setattr(planned.MixerStates, "get_recurrent_state", lambda *_, **__: None)
    monkeypatch.setattr(planned.MixerStates, "update_conv_state", lambda self, inputs, *_, **__: inputs)
    with pytest.raises(UserError, match="computed otherwise here than by transformers"):
        prove(model.planned)


@pytest.mark.parametrize("family", REFUSED)
def test_what_is_not_computed_is_refused_by_its_configuration(family: str) -> None:
    config, reason = REFUSED[family]
    with pytest.raises(UserError, match=reason) as refused:
        inspect_architecture(config())
    assert "docs/models.md" in refused.value.remedy


def test_thirty_billion_parameters_are_judged_without_memory() -> None:
    config = FAMILIES["qwen3_moe"]()
    config.update({"num_hidden_layers": 48, "hidden_size": 2048, "num_experts": 128, "moe_intermediate_size": 768})
    config.update({"num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936})
    judged = inspect_architecture(config)
    assert judged.parameters == pytest.approx(30.5e9, rel=0.01)
    assert judged.cache_shapes.elements_per_token == 48 * 4 * 128 * 2
