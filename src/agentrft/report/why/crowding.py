"""Crowding out: a habit that spread, and another behaviour that went, though where the habit fails it was the better.

That a worse behaviour gives way to a better one is what training is for. So a pair is held to samples on which the same
policy did both, and asked whether the habit is as good as the other on every sample. To look at the samples on which
the habit earned little, and to find that the other earned more there, would prove nothing: by luck alone some are low.
So whether a rollout's sample is one of them is told by the *other* rollouts of its group that show the habit. Where the
habit is as good everywhere, the expected difference is then 0 or less, whatever the samples are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from agentrft.report.tails import normal_tail
from agentrft.report.why.behaviour import Kind
from agentrft.report.why.chance import LEAST_GROUPS, not_by_chance, z_between, z_of_mean
from agentrft.report.why.evidence import Evidence, Ints, added
from agentrft.report.why.finding import Crowding, Finding

# The other is all but gone: how often it was seen at least, what may be left of that, and the z of its fall.
LEAST_SHARE, MOST_LEFT, SURE = 0.05, 0.25, 3.0
# Of two that take each other's place, so many of the one's rollouts may show both.
MOST_SHARED = 0.1
# What comes of the others of a group, and what is no way to answer, takes nothing's place.
NO_ALTERNATIVES: tuple[Kind, ...] = ("group", "failure")


def crowding_of(
    evidence: Evidence, habits: Sequence[Finding], all_found: Sequence[Finding], rate: float
) -> dict[str, Crowding]:
    """By the habits' names, whose place they took: what was better where the habit fails, beyond chance, if there is
    such a one; and of those what was lost the most of.

    Args:
        habits: what spread.
        all_found: among which there are those that went.
        rate: of the pairs that stand, so many may be chance.
    """
    gone = [one for one in all_found if _is_gone(one)]
    measured = list(_measured(evidence, habits, gone))
    # What the same rollouts show is one test, whatever its names; and one-sided, so that the many that are rightly gone
    # make nothing else stand.
    tested = {question: normal_tail(one.z) for question, _, one in measured}
    stands = dict(zip(tested, not_by_chance(list(tested.values()), rate), strict=True))
    found: dict[str, Crowding] = {}
    for question, habit, one in measured:
        one = replace(one, is_better=stands[question])
        if habit not in found or _rank(one) > _rank(found[habit]):
            found[habit] = one
    return found


def _measured(
    evidence: Evidence, habits: Sequence[Finding], gone: Sequence[Finding]
) -> Iterator[tuple[tuple[bytes, bytes], str, Crowding]]:
    """Of each pair that can be compared: which rollouts it is of, the habit's name, and what was found."""
    for habit in habits:
        shows_habit = evidence.members[habit.behaviour]
        has_habit = np.zeros(len(evidence.step), dtype=bool)
        has_habit[shows_habit] = True
        for other in gone:
            shows_other = evidence.members[other.behaviour]
            if int(has_habit[shows_other].sum()) > MOST_SHARED * len(shows_other):
                continue
            if (one := crowding(evidence, habit, other)) is not None:
                yield (shows_habit.tobytes(), shows_other.tobytes()), habit.name, one


def crowding(evidence: Evidence, habit: Finding, other: Finding) -> Crowding | None:
    """What became of a pair; None where too few samples have both."""
    shows_habit, shows_other = evidence.members[habit.behaviour], evidence.members[other.behaviour]
    counts, sums = evidence.by_group(shows_habit), evidence.by_group(shows_habit, evidence.reward)
    other_counts, other_sums = evidence.by_group(shows_other), evidence.by_group(shows_other, evidence.reward)
    # Of one rollout alone nobody else tells how the habit does.
    has_both = (counts > 1) & (other_counts > 0)
    if int(has_both.sum()) < LEAST_GROUPS:
        return None
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=counts > 0)
    other_means = np.divide(other_sums, other_counts, out=np.zeros_like(sums), where=other_counts > 0)
    failing = _where_the_rest_fails(evidence, shows_habit, shows_habit[has_both[evidence.group[shows_habit]]])
    place = evidence.group[failing]
    # Each group counts by the part of its rollouts with the habit whose others fail.
    weight = 1 / counts[place]
    more = weight * (other_means[place] - evidence.reward[failing])
    early, late = evidence.groups_within(evidence.early), evidence.groups_within(evidence.late)
    best = evidence.best
    return Crowding(
        name=other.name,
        share=(other.share_early, other.share_late),
        samples=int(has_both.sum()),
        better=int((other_means > means)[has_both].sum()),
        failing=len(np.unique(place)),
        habit_there=float(np.average(evidence.reward[failing], weights=weight)) if len(failing) else 0.0,
        other_there=float(np.average(other_means[place], weights=weight)) if len(failing) else 0.0,
        z=z_of_mean(added(place, evidence.groups, np.arange(len(place)), more)[has_both]),
        best=(float(best[early].mean()), float(best[late].mean())),
        best_z=z_between(best[early], best[late]),
    )


def _where_the_rest_fails(evidence: Evidence, shows_habit: Ints, rows: Ints) -> Ints:
    """Of some rollouts that show a habit, those where the others of their group that show it earned less than it does
    on average; each has at least one such other."""
    counts, sums = evidence.by_group(shows_habit), evidence.by_group(shows_habit, evidence.reward)
    place = evidence.group[rows]
    rest = (sums[place] - evidence.reward[rows]) / (counts[place] - 1)
    # Sums of the same numbers differ in their last digits.
    return rows[rest < float(evidence.reward[shows_habit].mean()) - 1e-9]


def _is_gone(one: Finding) -> bool:
    if one.behaviour.kind in NO_ALTERNATIVES or not one.has_changed or one.share_z > -SURE:
        return False
    return one.share_early >= LEAST_SHARE and one.share_late <= MOST_LEFT * one.share_early


def _rank(one: Crowding) -> tuple[bool, float]:
    return one.is_better, one.share[0] - one.share[1]
