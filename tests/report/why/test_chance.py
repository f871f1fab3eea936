"""How rare what is found would be by chance: also of few groups, and of behaviours that are opposites."""

import itertools
import math

import numpy as np
import pytest

from agentrft.report.tails import normal_tail
from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.chance import contrast, z_between
from agentrft.report.why.evidence import Evidence
from agentrft.report.why.findings import find

TRIALS = 4000


def evidence(advantage: list[list[float]], **members: list[int]) -> Evidence:
    """Of groups of rollouts, all in step 1; members by their behaviour's name."""
    values = np.array([one for group in advantage for one in group])
    count = len(values)
    return Evidence.of_columns(
        step=np.ones(count, dtype=np.int64),
        sample=[f"s{number}" for number, group in enumerate(advantage) for _ in group],
        reward=values,
        advantage=values,
        holdouts={},
        amounts={name: np.zeros(count) for name in ("answer_words", "sampled_tokens", "reasoning_tokens", "calls")},
        members={Behaviour(name, "calls"): np.array(rows, dtype=np.int64) for name, rows in members.items()},
        ids=[str(number) for number in range(count)],
    )


@pytest.mark.parametrize("groups", [3, 5, 8])
def test_a_rare_behaviour_of_few_groups_is_as_rare_as_counting_says(groups: int) -> None:
    # In each group one rollout of eight is right, and that one alone shows it: by chance once in 8 ** groups.
    some = evidence([[1.0] + [0.0] * 7 for _ in range(groups)], it=[8 * number for number in range(groups)])

    found = contrast(some, some.members[Behaviour("it", "calls")], np.arange(8 * groups), some.advantage)

    # Never rarer than it is, and the more often said the further out it is.
    assert -groups * math.log(8) - 1e-6 <= math.log(normal_tail(found.z)) <= -0.75 * groups * math.log(8)
    assert normal_tail(math.sqrt(7 * groups)) < normal_tail(found.z) / 30


def test_what_chance_gives_is_as_rare_as_all_permutations_say() -> None:
    rewards = [[0.0, 0.1, 0.5, 1.0, 1.0, 0.3], [0.2, 0.9, 0.4, 0.0]]
    some = evidence(rewards, it=[3, 4, 7])
    shown = some.members[Behaviour("it", "calls")]
    found = contrast(some, shown, np.arange(10), some.advantage)
    totals = [
        sum(first) - 2 * np.mean(rewards[0]) + second - np.mean(rewards[1])
        for first in itertools.combinations(rewards[0], 2)
        for second in rewards[1]
    ]
    assert found.total == pytest.approx(max(totals))
    as_far = sum(one >= found.total - 1e-9 for one in totals) / len(totals)
    assert normal_tail(found.z) == pytest.approx(as_far, rel=0.5)


@pytest.mark.parametrize("count", [6, 8, 20])
def test_two_means_of_few_groups_differ_as_often_by_chance_as_their_z_says(count: int) -> None:
    draw = np.random.default_rng(0)
    far = [abs(z_between(draw.normal(size=count), draw.normal(size=count))) > 1.96 for _ in range(TRIALS)]
    assert sum(far) / TRIALS == pytest.approx(0.05, abs=0.012)


def test_a_behaviour_and_its_opposite_are_counted_once() -> None:
    draw = np.random.default_rng(1)
    groups = [list(draw.normal(size=8)) for _ in range(20)]
    shows = sorted(draw.choice(160, size=60, replace=False).tolist())
    lacks = sorted(set(range(160)) - set(shows))

    alone = find(evidence(groups, calls=shows))
    both = find(evidence(groups, calls=shows, never=lacks, again=shows))

    assert alone.looked_at == both.looked_at == 1
