"""Work is shared out over ranks as evenly as whole groups allow, and nothing of it is lost or done twice."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrft.learner import TrainingGroup, TrainingRow
from agentrft.learner.advantages import planned_groups
from agentrft.learner.algorithms import ALGORITHMS
from agentrft.learner.options import UpdateOptions
from agentrft.learner.plan import UpdatePlan
from agentrft.learner.ranks.balance import shared_out
from agentrft.learner.ranks.shares import rows_by_rank, shares_of, tree_flops
from agentrft.models.costs import packed_costs
from tests.learner.rows import row
from tests.tiny_model import CONFIGS

FLOPS = tree_flops(packed_costs(CONFIGS["llama"](), 4), all_weights=False)


@given(costs=st.lists(st.floats(0, 1e15), max_size=40), ranks=st.integers(1, 8))
def test_every_piece_has_one_rank_and_none_has_more_than_the_bound(costs: list[float], ranks: int) -> None:
    shares = shared_out(costs, [0.0] * ranks)
    assert sorted(place for share in shares for place in share) == list(range(len(costs)))
    loads = [sum(costs[place] for place in share) for share in shares]
    largest = max(costs, default=0.0)
    assert max(loads) <= sum(costs) / ranks + (1 - 1 / ranks) * largest + 1e-9 * sum(costs)


def test_what_a_rank_has_to_do_already_counts() -> None:
    assert shared_out([3.0, 2.0, 1.0], [5.0, 0.0]) == [[2], [0, 1]]


def a_group(source: random.Random, tokens: int) -> TrainingGroup:
    prompt = source.choices(range(50), k=5)
    rows = [row([(False, prompt), (True, source.choices(range(50), k=tokens))], rollout) for rollout in range(3)]
    return TrainingGroup(rows, [1.0, 0.0, 0.5])


def a_plan(*, minibatches: int, epochs: int, replay: int = 0, groups: int = 9) -> UpdatePlan:
    source = random.Random(1)
    given = [a_group(source, source.randrange(2, 200)) for _ in range(groups)]
    extra = [row([(False, [1]), (True, source.choices(range(50), k=8))], 0) for _ in range(replay)]
    planned = planned_groups(given, ALGORITHMS["grpo"], UpdateOptions())
    return UpdatePlan.of(planned, minibatches=minibatches, epochs=epochs, order=random.Random(2), replay=extra)


@pytest.mark.parametrize("ranks", [1, 2, 3, 20])
def test_ranks_have_the_same_minibatches_and_every_group_is_with_one_of_them(ranks: int) -> None:
    plan = a_plan(minibatches=2, epochs=3, replay=5)
    shares = shares_of(plan, ranks, FLOPS)
    assert len(shares) == ranks
    assert all(len(share.minibatches) == len(plan.minibatches) for share in shares)
    owners = [{group.number for group in share.groups} for share in shares]
    assert sorted(number for own in owners for number in own) == sorted(group.number for group in plan.groups)
    for index, whole in enumerate(plan.minibatches):
        parts = [share.minibatches[index] for share in shares]
        assert all(part.size == whole.size for part in parts), "losses are divided by the whole minibatch's"
        numbers = [group.number for part in parts for group in part.groups]
        assert sorted(numbers) == sorted(group.number for group in whole.groups)
        for own, part in zip(owners, parts, strict=True):
            assert {group.number for group in part.groups} <= own, "a group is with the same rank in every epoch"
        replayed = [id(one) for part in parts for one in part.replay]
        assert sorted(replayed) == sorted(id(one) for one in whole.replay)


def test_a_minibatch_that_is_first_seen_is_balanced_by_what_its_trees_cost() -> None:
    plan = a_plan(minibatches=1, epochs=1, groups=24)
    costs = {group.number: FLOPS(group.rows) for group in plan.groups}
    loads = [sum(costs[group.number] for group in share.groups) for share in shares_of(plan, 4, FLOPS)]
    assert max(loads) <= 1.05 * sum(loads) / 4


def test_what_is_shared_costs_once() -> None:
    prompt, answer = list(range(40)), [3, 4, 5]
    one = row([(False, prompt), (True, answer)], 0)
    other = row([(False, prompt), (True, [9, 8, 7])], 1)
    assert FLOPS([one, other]) < 1.3 * FLOPS([one])
    apart = TrainingRow([7, *one.token_ids[1:]], one.sampled_positions, one.sampling_logprobs, 1)
    assert FLOPS([one, apart]) == pytest.approx(2 * FLOPS([one]))


def test_rows_are_shared_out_too() -> None:
    rows = [row([(False, [1, 2]), (True, [3] * (1 + index))], index) for index in range(7)]
    shares = rows_by_rank(rows, 3, FLOPS)
    assert sorted(one.rollout for share in shares for one in share) == list(range(7))
    assert all(shares)
