"""What an update is predicted to keep until its backward pass is what it keeps, whatever the shape of its attention."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, PretrainedConfig, Qwen3Config, Qwen3MoeConfig

from agentrft.learner import Policy, TrainingRow, tree_plan
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.learner.tree_plan import TreePlan
from agentrft.models.auto import auto_class
from agentrft.models.planned import use_planned_attention
from tests.learner.kept import bytes_of, kept_for_backward

SHAPE: dict[str, Any] = {"vocab_size": 300, "num_hidden_layers": 3, "tie_word_embeddings": True}
CONFIGS = {
    "heads as wide as the model": LlamaConfig(**SHAPE, hidden_size=128, intermediate_size=256, num_attention_heads=4),
    "few keys": LlamaConfig(
        **SHAPE, hidden_size=128, intermediate_size=384, num_attention_heads=4, num_key_value_heads=1
    ),
    # As Qwen3-0.6B, whose heads are together twice as wide as its layers.
    "wide heads": Qwen3Config(
        **SHAPE, hidden_size=128, intermediate_size=384, num_attention_heads=8, num_key_value_heads=4, head_dim=32
    ),
    # Whose merged weights are a third of what is kept.
    "experts with adapters": Qwen3MoeConfig(
        **SHAPE,
        hidden_size=128,
        moe_intermediate_size=128,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=64,
        num_experts_per_tok=2,
    ),
}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["on a CPU", "elsewhere"])
@pytest.mark.parametrize("shape", CONFIGS)
def test_an_update_keeps_what_is_predicted(shape: str, elsewhere: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if elsewhere:
        attend = TreePlan.attend

        def attend_there(self: TreePlan, *arguments: Any) -> Tensor:
            self._on_cpu = False
            return attend(self, *arguments)

        monkeypatch.setattr(TreePlan, "attend", attend_there)
    # Probabilities are not counted, and of large trees not kept.
    monkeypatch.setattr(tree_plan, "MAX_STORED_BYTES", 0)
    config: PretrainedConfig = CONFIGS[shape]
    model = auto_class(config).from_config(config).eval().requires_grad_(False)
    use_planned_attention(model)
    forward = Policy(model, lora_rank=2, seed=0).forward
    source = torch.Generator().manual_seed(0)
    prompt = torch.randint(300, (600,), generator=source).tolist()
    rows = [
        TrainingRow([*prompt, *torch.randint(300, (200,), generator=source).tolist()], [700], [-1.0], rollout)
        for rollout in range(4)
    ]
    tree = build_token_tree(rows)
    predicted = forward.costs.kept_bytes(tree.unique_tokens)
    with kept_for_backward(monkeypatch) as kept:
        tree_logprobs(forward, tree, rows, 1.0)
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    # What tells a tile's queries apart from keys is one for all layers.
    counted = (one for place, one in kept.items() if place not in weights and one.shape[:2] != (1, 1))
    measured = bytes_of(counted)
    assert 0.75 * predicted < measured < 1.1 * predicted
