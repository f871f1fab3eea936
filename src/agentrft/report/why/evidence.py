"""All training rollouts of a job as columns, and what they say about one behaviour.

Rollouts of a group are alike, so that everything is first added up within groups, and groups are what is counted.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from agentrft.report.why.behaviour import Behaviour
from agentrft.report.why.facts import RolloutFacts

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
# Early and late are so much of the steps each.
WINDOW_SHARE = 1 / 3
# Amounts of which more than the median of the early steps is a behaviour; "{}" is that median.
AMOUNTS = {
    "answer_words": "gives a longer answer (more than {} words)",
    "sampled_tokens": "writes more (over {} tokens in all)",
    "reasoning_tokens": "thinks longer (over {} tokens)",
    "calls": "makes more calls (over {})",
}


@dataclass(frozen=True)
class Evidence:
    """The rollouts that have a reward, in any order.

    Attributes:
        step, group: of each; groups are numbered through the job.
        weight: sampled tokens of each.
        holdouts: scores by name; not a number where there is none.
        members: by behaviour, the numbers of the rollouts that show it, rising.
        ids: trace ids.
    """

    step: Ints
    group: Ints
    reward: Floats
    advantage: Floats
    weight: Floats
    holdouts: dict[str, Floats]
    members: dict[Behaviour, Ints]
    ids: Sequence[str]

    @classmethod
    def of(cls, facts: Iterable[RolloutFacts], known: Mapping[str, Behaviour]) -> "Evidence":
        """Of rollouts' facts; `known` has the behaviours that they name."""
        rewarded = [one for one in facts if one.reward is not None]
        members: dict[str, list[int]] = {}
        for number, one in enumerate(rewarded):
            for name in one.behaviours:
                members.setdefault(name, []).append(number)
        columns = {name: np.array([getattr(one, name) for one in rewarded], dtype=np.float64) for name in AMOUNTS}
        names = sorted({name for one in rewarded for name in one.holdout_scores})
        return cls.of_columns(
            step=np.array([one.step for one in rewarded], dtype=np.int64),
            sample=[one.sample_id for one in rewarded],
            reward=np.array([one.reward for one in rewarded], dtype=np.float64),
            advantage=np.array([one.advantage or 0.0 for one in rewarded], dtype=np.float64),
            holdouts={
                name: np.array([one.holdout_scores.get(name, math.nan) for one in rewarded], dtype=np.float64)
                for name in names
            },
            amounts=columns,
            members={known[name]: np.array(rows, dtype=np.int64) for name, rows in members.items()},
            ids=[one.trace_id for one in rewarded],
        )

    @classmethod
    def of_columns(
        cls,
        *,
        step: Ints,
        sample: Sequence[str],
        reward: Floats,
        advantage: Floats,
        holdouts: dict[str, Floats],
        amounts: Mapping[str, Floats],
        members: Mapping[Behaviour, Ints],
        ids: Sequence[str],
    ) -> "Evidence":
        """Of the same in columns, each over the rollouts that have a reward; `sample` and `ids` are their names."""
        places: dict[tuple[int, str], int] = {}
        group = np.array(
            [places.setdefault(place, len(places)) for place in zip(step.tolist(), sample, strict=True)], dtype=np.int64
        )
        found = cls(step, group, reward, advantage, amounts["sampled_tokens"], holdouts, dict(members), ids)
        found.members.update(found._amounts(amounts))
        return found

    @property
    def groups(self) -> int:
        return len(self.group_step)

    @cached_property
    def group_step(self) -> Ints:
        """The step of each group."""
        steps = np.zeros(int(self.group.max(initial=-1)) + 1, dtype=np.int64)
        steps[self.group] = self.step
        return steps

    @cached_property
    def best(self) -> Floats:
        """The highest reward of each group."""
        highest = np.full(self.groups, -math.inf)
        np.maximum.at(highest, self.group, self.reward)
        return highest

    @property
    def early(self) -> tuple[int, int]:
        """The first and the last of the first third of the steps."""
        return self._windows[0]

    @property
    def late(self) -> tuple[int, int]:
        """The first and the last of the last third of the steps."""
        return self._windows[1]

    @cached_property
    def _windows(self) -> tuple[tuple[int, int], tuple[int, int]]:
        steps = np.unique(self.step)
        if not len(steps):
            return (0, 0), (0, 0)
        count = max(1, round(len(steps) * WINDOW_SHARE))
        return (int(steps[0]), int(steps[count - 1])), (int(steps[-count]), int(steps[-1]))

    def within(self, window: tuple[int, int]) -> NDArray[np.bool_]:
        """Which rollouts are of a window of steps."""
        return (self.step >= window[0]) & (self.step <= window[1])

    def groups_within(self, window: tuple[int, int]) -> NDArray[np.bool_]:
        return (self.group_step >= window[0]) & (self.group_step <= window[1])

    def by_group(self, rows: Ints, values: Floats | None = None) -> Floats:
        """The number of these rollouts in each group, or the sum of their values."""
        return added(self.group, self.groups, rows, values)

    def possible(self, behaviour: Behaviour) -> Ints:
        """The rollouts that could show it."""
        if not behaviour.given:
            return np.arange(len(self.step))
        given = next((rows for one, rows in self.members.items() if one.name == behaviour.given), None)
        return np.arange(len(self.step)) if given is None else given

    def lacking(self, behaviour: Behaviour) -> Ints:
        """The rollouts that could show it and do not."""
        return np.setdiff1d(self.possible(behaviour), self.members[behaviour], assume_unique=True)

    def question(self, behaviour: Behaviour) -> bytes:
        """The same for behaviours that the same rollouts show, and for one that all others show: what is asked of the
        evidence is then the same."""
        shown, lacking = self.members[behaviour], self.lacking(behaviour)
        # The half that has the first of all rollouts that could show it.
        half = shown if len(shown) and (not len(lacking) or shown[0] < lacking[0]) else lacking
        return hashlib.sha256(self.possible(behaviour).tobytes() + b"/" + half.tobytes()).digest()

    def _amounts(self, amounts: Mapping[str, Floats]) -> dict[Behaviour, Ints]:
        found: dict[Behaviour, Ints] = {}
        early = self.within(self.early)
        for column, words in AMOUNTS.items():
            values = amounts[column]
            if not len(values) or not values.any():
                continue
            middle = float(np.median(values[early]))
            found[Behaviour(words.format(f"{middle:.0f}"), "amount")] = np.flatnonzero(values > middle)
        return found


def added(place: Ints, places: int, rows: Ints, values: Floats | None = None) -> Floats:
    """The number of these rollouts at each of so many places, or the sum of their values."""
    weights = None if values is None else values[rows]
    return np.bincount(place[rows], weights=weights, minlength=places).astype(np.float64)
