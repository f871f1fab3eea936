"""Groups computed together give the update that they give one by one."""

import pytest
import torch

from agentrft.learner import Learner, Policy, TrainingGroup, TrainingRow
from agentrft.learner.flops import update_flops, visible_pairs
from agentrft.learner.packing import packs_of, rows_together
from agentrft.learner.token_tree import build_token_tree
from agentrft.models.packed import PackedModel
from agentrft.models.peak import matmul_flops_per_s
from tests.learner.rows import group_of_depth_three, row
from tests.tiny_model import tiny_model

SYSTEM = [7, 8, 9, 10, 11, 12]


def group(seed: int, rollouts: int = 3) -> TrainingGroup:
    """Rollouts of a prompt that begins as every group's does."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(20, 300, (count,), generator=generator).tolist()

    prompt = [*SYSTEM, *tokens(5)]
    rows = [row([(False, prompt), (True, tokens(4 + index))], index) for index in range(rollouts)]
    return TrainingGroup(rows, [float(index % 2) + 0.1 * seed for index in range(rollouts)])


def updated(algorithm: str, groups: list[TrainingGroup], max_tokens: int) -> tuple[list[torch.Tensor], Learner, object]:
    policy = Policy(tiny_model("llama").planned, lora_rank=4, seed=0)
    learner = Learner(
        policy,
        algorithm=algorithm,
        learning_rate=1e-3,
        temperature=1.0,
        max_grad_norm=1.0,
        max_tokens_per_pass=max_tokens,
    )
    metrics = learner.update(learner.plan(groups))
    return policy.masters, learner, metrics


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
def test_any_packing_gives_the_same_update_with_fewer_tokens(algorithm: str) -> None:
    groups = [group(seed, rollouts=2 + seed % 3) for seed in range(6)]
    apart, _, one_by_one = updated(algorithm, groups, max_tokens=1)
    for max_tokens, passes in ((60, range(2, 6)), (10_000, [1])):
        together, _, metrics = updated(algorithm, groups, max_tokens)
        assert metrics.passes in passes
        assert metrics.groups_trained == 6
        assert metrics.loss == pytest.approx(one_by_one.loss, abs=1e-5)
        assert metrics.grad_norm == pytest.approx(one_by_one.grad_norm, rel=1e-4)
        assert metrics.total_tokens == one_by_one.total_tokens
        for left, right in zip(apart, together, strict=True):
            assert torch.allclose(left, right, atol=1e-5)
    assert one_by_one.passes == 6
    assert metrics.unique_tokens == one_by_one.unique_tokens - 5 * len(SYSTEM)


def test_passes_stay_within_their_tokens_unless_one_group_does_not() -> None:
    groups = [group(seed, rollouts=count) for seed, count in enumerate([2, 6, 3, 2, 5, 2])]
    sizes = {id(g): build_token_tree(g.rows).unique_tokens for g in groups}
    packs = packs_of(groups, 45)
    assert sorted(id(g) for pack in packs for g in pack) == sorted(sizes)
    for pack in packs:
        assert sum(sizes[id(g)] for g in pack) <= 45 or len(pack) == 1
    assert len(packs) < len(groups)


def test_rollouts_are_numbered_through() -> None:
    rows = rows_together([group(0, rollouts=2), group(1, rollouts=3)])
    assert [r.rollout for r in rows] == [0, 1, 2, 3, 4]


def test_flops_are_those_of_the_tokens_that_see_each_other() -> None:
    prompt, sampled, rollouts = 20, 5, 3
    rows = [
        TrainingRow([*range(prompt), *range(100 + 10 * i, 100 + 10 * i + sampled)], [prompt], [-1.0], i)
        for i in range(rollouts)
    ]
    tree = build_token_tree(rows)
    pairs = prompt * (prompt + 1) / 2 + rollouts * (sampled * prompt + sampled * (sampled + 1) / 2)
    assert visible_pairs(tree) == pairs
    forward = PackedModel(tiny_model("llama").planned)
    per_layer = 48 * 8 * (2 * 6 + 2 * 2) + 3 * 48 * 96
    linear, attention, head = 4 * per_layer * 3 * tree.unique_tokens, 12 * 6 * 8 * 3 * pairs, 4 * 48 * 300 * 7
    assert update_flops(forward.costs, tree, 7, all_weights=False) == linear + attention + head
    assert update_flops(forward.costs, tree, 7, all_weights=True) == 1.5 * (linear + head) + attention


def test_every_update_says_how_much_of_the_machine_it_used() -> None:
    rows = group_of_depth_three(shared_results=True)
    _, _, metrics = updated("grpo", [TrainingGroup(rows, [float(i % 2) for i in range(8)])], 4096)
    assert metrics.unique_tokens_per_s == pytest.approx(metrics.unique_tokens / metrics.seconds)
    peak = matmul_flops_per_s(torch.float32, torch.device("cpu"))
    assert metrics.peak_share == pytest.approx(metrics.flops_per_s / peak)
    assert 0 < metrics.peak_share < 1
