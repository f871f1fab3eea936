"""Replay: what earlier steps got right, which updates go on to make more likely (self-imitation).

Oh et al. 2018, "Self-Imitation Learning", arXiv:1806.05635. What is rare counts most, for its sample and among all: a
policy that is paid for an easy habit, such as to answer with a search's first item, unlearns the harder way long before
it has stopped to be right that way.

Beside whole successes there are, where the job asks for them, borrowed answers. Where one rollout of a sample was
right, its answer is right for the sample's other rollouts, too, whatever they had searched for. So of those that had
the answer before them, as an item of their last tool result, and gave another one, the answer that was right is learned
in its place: only that turn, and token for token as the other rollout sampled it (hindsight, as in Andrychowicz et al.
2017, arXiv:1707.01495).
"""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agentrft.job.training_data import training_rows
from agentrft.learner import TrainingRow
from agentrft.report.averages import mean
from agentrft.report.behaviours import answered_item, place_in_last_result
from agentrft.report.summary import SAME_REWARD, reached
from agentrft.rollout import GroupResult, Rollout, by_sample

# Samples of which something is kept, and borrowed answers of each.
CAPACITY, BORROWED_PER_SAMPLE = 512, 4
# Steps after which a success is half as likely to be replayed.
HALF_LIFE = 10
# Successes of a kind that count as so many at least, so that a single odd one is not replayed all the time.
LEAST_OF_KIND = 4
# How likely the success of a sample is replayed that is always right, beside one that hardly ever is.
LEAST_RARITY = 0.05


@dataclass(frozen=True)
class _Kept:
    """`kind` is which item of the last tool result the answer is, from 0; None for none of them."""

    key: str
    step: int
    rarity: float
    kind: int | None
    rows: list[TrainingRow]


@dataclass
class Replay:
    """The latest successes by sample. A pure function of the rollouts of earlier steps: nothing of it is stored.

    Args:
        pass_threshold: the reward of a success.
        borrows: whether there are borrowed answers.
        holdouts: the pass threshold of each holdout grader; None where it has none.
    """

    pass_threshold: float
    seed: int
    borrows: bool = False
    holdouts: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    _kept: dict[str, list[_Kept]] = field(default_factory=dict[str, list[_Kept]])

    def note(self, step: int, rollouts: Sequence[Rollout]) -> None:
        """Keep what a step's groups got right, in place of what the same samples' earlier ones did."""
        rewarded = (one for one in rollouts if one.reward is not None and one.turns)
        for sample_id, group in by_sample(rewarded).items():
            right = self._right(group)
            if not right:
                continue
            draw = random.Random(f"{self.seed}/replay/{step}/{sample_id}")
            chosen = draw.choice(right)
            rarity = max(LEAST_RARITY, 1 - sum(reached(one, self.pass_threshold) for one in group) / len(group))
            kept = [_Kept(sample_id, step, rarity, answered_item(chosen), training_rows(chosen, 0))]
            borrowed = self._all_borrowed(group, chosen) if self.borrows else []
            draw.shuffle(borrowed)
            for number, (row, place) in enumerate(borrowed[:BORROWED_PER_SAMPLE]):
                kept.append(_Kept(f"{sample_id}/{number}", step, rarity, place, [row]))
            self._kept.pop(sample_id, None)
            self._kept[sample_id] = kept
        for oldest in list(self._kept)[: max(0, len(self._kept) - CAPACITY)]:
            del self._kept[oldest]

    def lessons(self, step: int, groups: Sequence[GroupResult]) -> dict[str, list[TrainingRow]]:
        """Borrowed answers within the groups of a step itself, by sample: of no place among the items many more than of
        any other, so that none becomes a habit."""
        if not self.borrows:
            return {}
        found: list[tuple[str, TrainingRow, int]] = []
        for group in groups:
            draw = random.Random(f"{self.seed}/lessons/{step}/{group.sample_id}")
            right = self._right(group.kept)
            if right:
                borrowed = self._all_borrowed(group.kept, draw.choice(right))
                found += [(group.sample_id, row, place) for row, place in borrowed]
        random.Random(f"{self.seed}/lessons/{step}").shuffle(found)
        of_place = Counter(place for _, _, place in found)
        most = max(LEAST_OF_KIND, 2 * min(of_place.values(), default=0))
        taken: Counter[int] = Counter()
        lessons: dict[str, list[TrainingRow]] = {}
        for sample_id, row, place in found:
            taken[place] += 1
            if taken[place] <= most:
                lessons.setdefault(sample_id, []).append(row)
        return lessons

    def _right(self, group: Sequence[Rollout]) -> list[Rollout]:
        """The successes of a sample's rollouts, without those that a holdout grader takes for gamed: it does not pass
        them, or, where it has no threshold, finds them worse than the others."""
        return [one for one in group if reached(one, self.pass_threshold) and not self._is_gamed(one, group)]

    def _all_borrowed(self, group: Sequence[Rollout], lender: Rollout) -> list[tuple[TrainingRow, int]]:
        """What the rollouts of a group that were graded and not right can borrow, with its place."""
        others = (one for one in group if one.outcome == "graded" and not reached(one, self.pass_threshold))
        return [one for one in (_borrowed(other, lender) for other in others) if one is not None]

    def _is_gamed(self, rollout: Rollout, group: Sequence[Rollout]) -> bool:
        for name, score in rollout.holdout_scores.items():
            least = self.holdouts.get(name)
            if least is None:
                least = mean([one.holdout_scores[name] for one in group if name in one.holdout_scores])
            if score < least - SAME_REWARD:
                return True
        return False

    def rows(self, step: int, count: int) -> list[TrainingRow]:
        """Of `count` at most, drawn without replacement: rare ones and late ones first, and of kinds that are common
        fewer than there are.

        As many of each kind as of any other would teach that all places among the items are alike, where one is in fact
        right more often.
        """
        everything = [one for kept in self._kept.values() for one in kept]
        of_kind = Counter(one.kind for one in everything)

        def key(one: _Kept) -> float:
            weight = one.rarity * 0.5 ** ((step - one.step) / HALF_LIFE)
            weight /= math.sqrt(max(LEAST_OF_KIND, of_kind[one.kind]))
            uniform = random.Random(f"{self.seed}/replayed/{step}/{one.key}").random()
            # The logarithm of uniform ** (1 / weight) (Efraimidis, Spirakis 2006): old successes have tiny weights.
            return math.log(uniform) / weight

        drawn = sorted(everything, key=key, reverse=True)[:count]
        return [row for one in drawn for row in one.rows]


def _borrowed(rollout: Rollout, right: Rollout) -> tuple[TrainingRow, int] | None:
    """The rollout's context with the right one's last turn behind it, and which of its items that answers with."""
    last = rollout.turns[-1]
    place = place_in_last_result(rollout, right.output_text)
    if (
        place is None
        or last.tool_calls
        or right.turns[-1].tool_calls
        or rollout.row_starts[-1] == len(rollout.turns) - 1
    ):
        return None
    row = training_rows(rollout, 0)[-1]
    context = row.token_ids[: len(row.token_ids) - len(last.sampled_ids)]
    answer = right.turns[-1].sampled_ids
    positions = list(range(len(context), len(context) + len(answer)))
    return TrainingRow([*context, *answer], positions, [0.0] * len(answer), 0), place
