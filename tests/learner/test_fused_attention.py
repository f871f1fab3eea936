"""What devices other than a CPU do for attention over a tree: as exact, and with no more kept than need be."""

from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.learner import tree_forward, tree_plan
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_plan import TreePlan
from tests.learner.kept import bytes_of, kept_for_backward
from tests.learner.rows import group_of_depth_three
from tests.learner.test_tree_forward import GRADIENT_TOLERANCE, LOGPROB_TOLERANCE, compare
from tests.model_families import family_model
from tests.tiny_model import tiny_model

cached_family = cache(family_model)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a device that is no CPU."""
    attend = TreePlan.attend

    def attend_there(self: TreePlan, *arguments: Any) -> Tensor:
        self._on_cpu = False
        return attend(self, *arguments)

    monkeypatch.setattr(TreePlan, "attend", attend_there)


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("tile_tokens", [3, 17, 1000])
@pytest.mark.parametrize("recomputed", [False, True])
def test_the_fused_kernel_agrees_with_the_padded_computation(
    monkeypatch: pytest.MonkeyPatch, tile_tokens: int, recomputed: bool
) -> None:
    monkeypatch.setattr(tree_plan, "tiles_of", partial(tree_plan.tiles_of, tile_tokens=tile_tokens))
    monkeypatch.setattr(tree_forward, "_too_large", lambda *_: recomputed)
    logprob_error, gradient_error = compare(tiny_model("qwen3"), group_of_depth_three(shared_results=False))
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


def bytes_kept(plan: TreePlan, parts: list[Tensor], monkeypatch: pytest.MonkeyPatch) -> int:
    """Of one layer's attention, without what tells a tile's queries apart from keys, which is one for all layers."""
    with kept_for_backward(monkeypatch) as kept:
        plan.attend(0, parts[0], parts[1], parts[2], 0.2)
    return bytes_of(tensor for tensor in kept.values() if tensor.shape[:2] != (1, 1))


@pytest.mark.usefixtures("elsewhere")
def test_it_keeps_no_copies_of_the_trunk_for_each_branch(monkeypatch: pytest.MonkeyPatch) -> None:
    tree = build_token_tree(group_of_depth_three(shared_results=False))
    parts = [torch.randn(heads, tree.unique_tokens, 24, requires_grad=True) for heads in (6, 2, 2)]
    shape = {"layers": 1, "heads": 6, "dtype": torch.float32, "device": torch.device("cpu")}
    copies = bytes_kept(TreePlan(tree, **shape, recompute=True), parts, monkeypatch)
    own = bytes_kept(TreePlan(tree, **shape), parts, monkeypatch)
    # Query, key, value and the result, and a number for each query.
    assert own < 1.3 * 2 * (6 + 2) * tree.unique_tokens * 24 * 4 < copies


@pytest.mark.parametrize("family", ["gpt_oss", "gemma2"])
def test_probabilities_that_are_too_many_are_made_again(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Those of sinks and soft caps, which no fused kernel computes."""
    rows, kept = group_of_depth_three(shared_results=False), []
    for stored_bytes in (1 << 30, 0):
        monkeypatch.setattr(tree_plan, "MAX_STORED_BYTES", stored_bytes)
        logprob_error, gradient_error = compare(cached_family(family), rows)
        assert logprob_error < LOGPROB_TOLERANCE
        assert gradient_error < GRADIENT_TOLERANCE
        tree = build_token_tree(rows)
        plan = TreePlan(tree, layers=1, heads=4, dtype=torch.float32, device=torch.device("cpu"))
        parts = [torch.randn(heads, tree.unique_tokens, 16, requires_grad=True) for heads in (4, 2, 2)]
        rules = tree_plan.ScoreRules(softcap=2.0, sinks=torch.zeros(4))
        monkeypatch.setattr(plan, "attend", partial(plan.attend, rules=rules))
        kept.append(bytes_kept(plan, parts, monkeypatch))
    assert kept[1] < kept[0] / 2
