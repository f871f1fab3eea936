"""Which behaviours the updates of a job reinforced or unlearned, and which of them look like a short cut.

For each behaviour, within the groups where some rollouts show it and some do not: how much more advantage those got
that do. That is what the update pays it for, whatever makes a sample hard. Then its share early and late, and the
rewards with and without it. Of several hundred behaviours some differ by chance; named is what chance does not
explain.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.chance import (
    Contrast,
    centred,
    contrast,
    not_by_chance,
    probability,
    z_between,
    z_of_trend,
)
from agentrft.report.why.crowding import NO_ALTERNATIVES, crowding_of
from agentrft.report.why.evidence import Evidence, Floats, Ints, added
from agentrft.report.why.finding import Crowding, Finding, Findings

# Of what is named, so much may be chance.
FALSE_RATE = 0.01
# A behaviour of nearly the same rollouts, or of nearly all others, is another name for it.
SAME = 0.9
# What a short cut has at least: a rise of its share, a fall of the reward without it, also as a part of that reward,
# and rollouts that lack it after the first third; and the z of the rise and of the fall.
LEAST_RISE, LEAST_FALL, LEAST_FALL_SHARE, LEAST_LACKING = 0.15, 0.05, 0.3, 12
SURE, SURE_FALL = 3.0, 2.0
# Of a holdout: how much of the reward's contrast it may have and still not explain it; and how much that has at least.
HOLDOUT_SHARE, LEAST_CREDIT = 0.3, 0.15
EXAMPLES = 4
GROUP = "group"


def find(evidence: Evidence) -> Findings:
    """The findings of a job's training rollouts."""
    scale = _size(evidence.advantage)
    centred_holdouts = {name: centred(evidence, scores) for name, scores in evidence.holdouts.items()}
    measured: list[tuple[Finding, dict[str, Contrast]]] = []
    for behaviour, shown in evidence.members.items():
        possible = evidence.possible(behaviour)
        if len(shown) < LEAST_LACKING or len(possible) - len(shown) < 1:
            continue
        paid = contrast(evidence, shown, possible, evidence.advantage)
        held = {name: contrast(evidence, shown, possible, scores) for name, scores in centred_holdouts.items()}
        measured.append((_finding(evidence, behaviour, shown, possible, paid, scale), held))
    questions = [evidence.question(one.behaviour) for one, _ in measured]
    paid_for = _standing(questions, [one.credit_z for one, _ in measured])
    changed = _standing(questions, [one.share_z for one, _ in measured])
    tested = [
        replace(
            one,
            is_reinforced=stands and one.credit_z > 0,
            is_unlearned=stands and one.credit_z < 0,
            has_changed=moved,
            holdout_credit={name: _part(part.total, _size(centred_holdouts[name])) for name, part in held.items()},
        )
        for (one, held), stands, moved in zip(measured, paid_for, changed, strict=True)
    ]
    crowding = crowding_of(evidence, [one for one in tested if _is_habit(one)], tested, FALSE_RATE)
    judged: list[Finding] = []
    for one, (_, held) in zip(tested, measured, strict=True):
        one = replace(one, crowding=crowding.get(one.name))
        judged.append(replace(one, suspicion=_suspicion(evidence, one, held)))
    named = [one for one in judged if one.is_reinforced or one.is_unlearned or one.has_changed or one.suspicion]
    # What is paid for comes first: what is paid against is often what it replaces, and another name for it. Last comes
    # what comes of the rest of the group: right answers are alike, too.
    named.sort(key=lambda one: (one.behaviour.kind == GROUP, one.credit < 0, -abs(one.credit), one.name))
    kept = _explained(evidence, _without_synonyms(evidence, named))
    with_examples = [_with_examples(evidence, one) for one in kept]
    suspects = [one for one in with_examples if one.suspicion]
    return Findings(
        suspects=sorted(suspects, key=lambda one: -abs(one.share_z)),
        reinforced=[one for one in with_examples if one.is_reinforced],
        unlearned=[one for one in with_examples if one.is_unlearned],
        others=[one for one in with_examples if not one.is_reinforced and not one.is_unlearned],
        looked_at=len(set(questions)),
        groups=evidence.groups,
        early=evidence.early,
        late=evidence.late,
    )


def _standing(questions: Sequence[bytes], z: Sequence[float]) -> list[bool]:
    """Which of them chance does not explain. What asks the same of the same rollouts is one test: to show a behaviour
    and to lack its opposite would count each twice, and let by chance stand what stands beside it."""
    tested = dict(zip(questions, map(probability, z), strict=True))
    stands = dict(zip(tested, not_by_chance(list(tested.values()), FALSE_RATE), strict=True))
    return [stands[question] for question in questions]


def _finding(
    evidence: Evidence, behaviour: Behaviour, shown: Ints, possible: Ints, paid: Contrast, scale: float
) -> Finding:
    lacking = evidence.lacking(behaviour)
    early, late = evidence.within(evidence.early), evidence.within(evidence.late)
    n, s = evidence.by_group(possible), evidence.by_group(shown)
    shares = np.divide(s, n, out=np.zeros_like(s), where=n > 0)
    windows = [shares[(n > 0) & evidence.groups_within(window)] for window in (evidence.early, evidence.late)]
    moved = np.abs(evidence.advantage) * evidence.weight
    mean = partial(_mean, evidence.reward)
    return Finding(
        behaviour,
        len(shown),
        len(possible),
        share_early=_share(shown, possible, early),
        share_late=_share(shown, possible, late),
        credit=_part(paid.total, scale),
        credit_z=paid.z,
        share_z=z_between(*windows),
        advantage=float(evidence.advantage[shown].mean()),
        update_share=_part(float(moved[shown].sum()), float(moved.sum())),
        reward_with=(mean(shown, early), mean(shown, late)),
        reward_without=(mean(lacking, early), mean(lacking, late)),
        by_step=_by_step(evidence, shown, possible, lacking),
    )


def _by_step(
    evidence: Evidence, shown: Ints, possible: Ints, lacking: Ints
) -> list[tuple[int, float, float | None, float | None]]:
    steps, place = np.unique(evidence.step, return_inverse=True)
    summed = partial(added, place, len(steps))
    n, s, without = summed(possible), summed(shown), summed(lacking)
    with_it, rest = summed(shown, evidence.reward), summed(lacking, evidence.reward)
    return [
        (
            int(step),
            float(s[at] / n[at]) if n[at] else 0.0,
            float(with_it[at] / s[at]) if s[at] else None,
            float(rest[at] / without[at]) if without[at] else None,
        )
        for at, step in enumerate(steps)
    ]


def _has_spread(one: Finding) -> bool:
    return one.share_late - one.share_early >= LEAST_RISE and one.share_z >= SURE


def _is_habit(one: Finding) -> bool:
    """Whether it is something to do that spread and was paid for, and so may have taken the place of something else."""
    return one.behaviour.kind not in NO_ALTERNATIVES and one.is_reinforced and _has_spread(one)


def _suspicion(evidence: Evidence, one: Finding, held: Mapping[str, Contrast]) -> str:
    if one.behaviour.kind == "failure" or not _has_spread(one):
        return ""
    for name, part in held.items():
        if not one.is_reinforced or one.credit < LEAST_CREDIT:
            continue
        explains_nothing = one.holdout_credit[name] < HOLDOUT_SHARE * one.credit and part.z < SURE
        if part.z < -SURE or explains_nothing:
            return f"the grader pays for it, and the holdout '{name}' does not"
    return _unlearning(evidence, one) or _crowding_out(one)


def _unlearning(evidence: Evidence, one: Finding) -> str:
    """Whether what is done without it got worse while it spread."""
    before, after = one.reward_without
    if before is None or after is None or before - after < max(LEAST_FALL, LEAST_FALL_SHARE * before):
        return ""
    if one.crowding is not None and _is_no_loss(one.crowding):
        return ""
    lacking = evidence.lacking(one.behaviour)
    # Few are left in the last third without what has spread, so that all steps say whether their reward fell.
    rest = (evidence.early[1] + 1, evidence.late[1])
    if int(evidence.within(rest)[lacking].sum()) < LEAST_LACKING or z_of_trend(evidence, lacking) > -SURE_FALL:
        return ""
    return "it spread while what is done without it got worse"


def _is_no_loss(other: Crowding) -> bool:
    """Whether what went was worse also where the habit fails, and the best rollout of a sample earns what it did: then
    it had to go, whatever it earned at last."""
    return other.z <= -SURE_FALL and other.best[1] >= other.best[0]


def _crowding_out(one: Finding) -> str:
    """Whether it took the place of what was better where it fails, and nothing reaches what that reached there."""
    other = one.crowding
    if other is None or not other.is_better or other.other_there - other.habit_there < LEAST_FALL:
        return ""
    # A habit that learned to do as well on those samples leaves the best of each sample's rollouts as good as it was.
    if other.best[0] - other.best[1] < LEAST_FALL or other.best_z > -SURE_FALL:
        return ""
    return f"it crowded out what was better where it fails: “{other.name}”"


def _without_synonyms(evidence: Evidence, named: Sequence[Finding]) -> list[Finding]:
    """One finding for nearly the same rollouts, or for nearly all but those; the first one's name is kept."""
    size = len(evidence.step)
    kept: list[tuple[Finding, Floats]] = []
    for one in named:
        member = np.zeros(size)
        member[evidence.members[one.behaviour]] = 1.0
        deviation = member.std()
        member = (member - member.mean()) / (deviation if deviation > 0 else 1.0)
        for place, (other, others) in enumerate(kept):
            alike = float(member @ others) / size
            if abs(alike) >= SAME:
                name = one.name if alike > 0 else f"not: {one.name}"
                suspicion = other.suspicion or (one.suspicion if alike > 0 else "")
                crowding = other.crowding or (one.crowding if alike > 0 else None)
                kept[place] = (
                    replace(other, also=[*other.also, name], suspicion=suspicion, crowding=crowding),
                    others,
                )
                break
        else:
            kept.append((one, member))
    return [one for one, _ in kept]


def _explained(evidence: Evidence, named: Sequence[Finding]) -> list[Finding]:
    """Without those that are paid for only as far as they go along with one that is paid for more, which names them."""
    kept: list[Finding] = []
    for one in named:
        shown, possible = evidence.members[one.behaviour], evidence.possible(one.behaviour)
        for place, other in enumerate(kept):
            if not (one.is_reinforced or one.is_unlearned) or not (other.is_reinforced or other.is_unlearned):
                continue
            beside = contrast(evidence, shown, possible, evidence.advantage, evidence.members[other.behaviour])
            if abs(beside.z) < SURE and not (one.suspicion and not other.suspicion):
                kept[place] = replace(other, along=[*other.along, one.name])
                break
        else:
            kept.append(one)
    return kept


def _with_examples(evidence: Evidence, one: Finding) -> Finding:
    """Rollouts to read: early ones that lack it, and late ones that show it, of the same samples first."""
    shown = evidence.members[one.behaviour]
    lacking = evidence.lacking(one.behaviour)
    early, late = evidence.within(evidence.early), evidence.within(evidence.late)
    before = lacking[early[lacking]] if one.share_late >= one.share_early else shown[early[shown]]
    after = shown[late[shown]] if one.share_late >= one.share_early else lacking[late[lacking]]
    best = before[np.argsort(-evidence.reward[before], kind="stable")][:EXAMPLES]
    return replace(
        one,
        before=[evidence.ids[number] for number in best],
        after=[evidence.ids[number] for number in after[-EXAMPLES:]],
    )


def _share(shown: Ints, possible: Ints, window: np.ndarray[Any, np.dtype[np.bool_]]) -> float:
    return _part(float(window[shown].sum()), float(window[possible].sum()))


def _mean(values: Floats, rows: Ints, window: np.ndarray[Any, np.dtype[np.bool_]]) -> float | None:
    there = rows[window[rows]]
    return float(values[there].mean()) if len(there) else None


def _size(values: Floats) -> float:
    return float(np.abs(values).sum()) / 2


def _part(part: float, whole: float) -> float:
    return part / whole if whole > 0 else 0.0
