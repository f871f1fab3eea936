"""What an agent does that its reward does not show: where its answers come from, and how alike they are.

An agent that is paid for the right item of a search can learn to read, or to copy the first one. Both rewards rise, and
only the shares of these behaviours, by reward, tell them apart.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.report.averages import mean
from agentrft.rollout.record import Rollout

# Items of a tool's result that are told apart by their place; those after them are "a later item".
PLACES = ("first", "second", "third")
LATER = "later"
ALIKE = "answers as another of its group"
# An answer of more words is no copy of an item.
MOST_WORDS = 12
# One of more words than this does not merely say which item it is.
MOST_WORDS_AROUND = 60
# What tells an item from others: a word of some length, or with a digit.
TELLING = re.compile(r"(?=\w*\d|\w{4})\w+(?:[-'./]\w+)*")
# Of fewer rollouts that lack a behaviour their mean reward says nothing.
LEAST_ROLLOUTS = 12
# By how much the reward of those that lack it falls.
LEAST_FALL = 0.05


@dataclass(frozen=True)
class Share:
    """A behaviour in some rollouts.

    Attributes:
        shown, possible: rollouts that show it, and that could have.
        reward_with, reward_without: their mean rewards; 0 of none.
    """

    shown: int
    possible: int
    reward_with: float
    reward_without: float

    @property
    def share(self) -> float:
        return self.shown / self.possible if self.possible else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {
            "share": self.share,
            "shown": self.shown,
            "possible": self.possible,
            "reward_with": self.reward_with,
            "reward_without": self.reward_without,
        }


@dataclass(frozen=True)
class Shift:
    """A behaviour that spread while what is done without it got worse; over some steps each."""

    name: str
    share_before: float
    share_after: float
    without_before: float
    without_after: float

    @property
    def rise(self) -> float:
        return self.share_after - self.share_before

    @property
    def text(self) -> str:
        return (
            f"the agent {self.name}: {self.share_after:.0%} of the rollouts that can, {self.share_before:.0%} before. "
            f"The reward of those that do not fell from {self.without_before:.2f} to "
            f"{self.without_after:.2f}: the policy takes to a habit, and unlearns what is right where the habit is not"
        )


def shifts(steps: Sequence[Mapping[str, Any]], *, least_rise: float, window: int) -> list[Shift]:
    """The behaviours that spread while the reward of the rollouts without them fell.

    Args:
        steps: metrics of the training steps, in order.
        least_rise: of a behaviour's share.
        window: steps that are taken together; the last ones are compared with those in which rollouts without the
            behaviour did best.
    """
    if len(steps) < 2 * window:
        return []
    found = []
    names = dict.fromkeys(name for step in steps for name in step.get("behaviours", {}))
    # Whatever a policy takes to, its answers grow alike.
    names.pop(ALIKE, None)
    for name in names:
        together = [_together(name, steps[start : start + window]) for start in range(len(steps) - window + 1)]
        *earlier, last = together
        known = [one for one in earlier[: len(steps) - 2 * window + 1] if _lacking(one) >= LEAST_ROLLOUTS]
        if not known or _lacking(last) < LEAST_ROLLOUTS:
            continue
        first = max(known, key=lambda one: one.reward_without)
        shift = Shift(name, first.share, last.share, first.reward_without, last.reward_without)
        if shift.rise >= least_rise and shift.without_before - shift.without_after >= LEAST_FALL:
            found.append(shift)
    return found


def that_show(name: str, rollouts: Sequence[Rollout]) -> list[str]:
    """Trace ids of those that show a behaviour, those with the least reward first."""
    shown = [(reward, rollout.trace_id) for rollout, reward, found in _shown_by_each(rollouts) if found.get(name)]
    return [trace_id for _, trace_id in sorted(shown)]


def behaviours(rollouts: Sequence[Rollout]) -> dict[str, dict[str, Any]]:
    """By name the share of each behaviour that any rollout could show, and the rewards with and without it."""
    seen: dict[str, list[tuple[bool, float]]] = {}
    for _, reward, found in _shown_by_each(rollouts):
        for name, shown in found.items():
            if shown is not None:
                seen.setdefault(name, []).append((shown, reward))
    return {name: _share(found).as_dict() for name, found in sorted(seen.items())}


def answering(which: str) -> str:
    """The name of a behaviour; `which` is "the first" or the like."""
    return f"answers with {which} item of the last result"


def shown_by(rollout: Rollout) -> dict[str, bool | None]:
    """Which behaviours a rollout shows by itself; None where it could not."""
    answer = plain(rollout.output_text)
    found: dict[str, bool | None] = {"repeats the prompt": answer in prompts_of(rollout) if answer else None}
    items = items_of(last_result(rollout))
    place = place_of(answer, items) if answer and len(items) > 1 else None
    can = bool(answer) and len(items) > 1
    for number, name in enumerate(PLACES):
        possible = can and (number == 0 or len(items) > number)
        found[answering(f"the {name}")] = place == number if possible else None
    found[answering(f"a {LATER}")] = (place is not None and place > 0) if can else None
    return found


def answered_item(rollout: Rollout) -> int | None:
    """Which item of its last tool result a rollout answers with, from 0; None where there are not several."""
    return place_in_last_result(rollout, rollout.output_text)


def place_in_last_result(rollout: Rollout, answer: str) -> int | None:
    """Which item of a rollout's last tool result an answer is, from 0; None where it is none of several."""
    items, text = items_of(last_result(rollout)), plain(answer)
    return place_of(text, items) if text and len(items) > 1 else None


def items_of(result: str) -> list[str]:
    """The items of a tool's result: the elements of a JSON list, also of one inside an object, or else its lines."""
    text = result.strip()
    if text[:1] in ("[", "{"):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        listed = _list_in(value)
        if listed is not None:
            return [plain(one if isinstance(one, str) else json.dumps(one, ensure_ascii=False)) for one in listed]
    return [item for line in text.splitlines() if (item := plain(line))]


def place_of(answer: str, items: Sequence[str]) -> int | None:
    """The first item that the answer is a part of, from 0, or that is a part of the answer; else the one item of whose
    own words, which no other item has, the answer has some."""
    words = len(answer.split())
    if words > MOST_WORDS_AROUND:
        return None
    if words <= MOST_WORDS:
        for place, item in enumerate(items):
            if within(answer, item) or within(item, answer):
                return place
    said = set(_words(answer))
    of_each = [set(_words(item)) for item in items]
    times = Counter(word for own in of_each for word in own)
    named = [place for place, own in enumerate(of_each) if any(times[word] == 1 for word in own & said)]
    return named[0] if len(named) == 1 else None


def _shown_by_each(rollouts: Sequence[Rollout]) -> Iterator[tuple[Rollout, float, dict[str, bool | None]]]:
    """Of those with a reward: the rollout, its reward, and the behaviours that it shows."""
    for rollout, is_alike in zip(rollouts, alike(rollouts), strict=True):
        if rollout.reward is not None:
            yield rollout, rollout.reward, {**shown_by(rollout), ALIKE: is_alike}


def _together(name: str, steps: Sequence[Mapping[str, Any]]) -> Share:
    """A behaviour over several steps."""
    found = [step["behaviours"][name] for step in steps if name in step.get("behaviours", {})]
    shown, possible = (sum(one[key] for one in found) for key in ("shown", "possible"))
    with_it = sum(one["reward_with"] * one["shown"] for one in found)
    without = sum(one["reward_without"] * (one["possible"] - one["shown"]) for one in found)
    return Share(shown, possible, with_it / max(1, shown), without / max(1, possible - shown))


def _lacking(share: Share) -> int:
    return share.possible - share.shown


def _share(found: Sequence[tuple[bool, float]]) -> Share:
    with_it = [reward for shown, reward in found if shown]
    without = [reward for shown, reward in found if not shown]
    return Share(len(with_it), len(found), mean(with_it), mean(without))


def alike(rollouts: Sequence[Rollout]) -> list[bool | None]:
    """Whether each answers word for word as another rollout of its sample."""
    answers = Counter((rollout.sample_id, plain(rollout.output_text)) for rollout in rollouts if rollout.output_text)
    of_sample = Counter(rollout.sample_id for rollout in rollouts if rollout.output_text)
    return [
        answers[rollout.sample_id, plain(rollout.output_text)] > 1
        if rollout.output_text and of_sample[rollout.sample_id] > 1
        else None
        for rollout in rollouts
    ]


def last_result(rollout: Rollout) -> str:
    """What its last call that worked gave; nothing without one."""
    for turn in reversed(rollout.turns):
        for call in reversed(turn.tool_calls):
            if call.status in ("ok", "cut"):
                return call.output
    return ""


def prompts_of(rollout: Rollout) -> set[str]:
    """What users say in it, made plain."""
    return {
        plain(message["content"])
        for message in rollout.messages
        if message.get("role") == "user" and isinstance(message.get("content"), str)
    }


def _list_in(value: Any) -> list[Any] | None:
    if isinstance(value, list):
        return value
    if isinstance(value, Mapping):
        return next((one for one in value.values() if isinstance(one, list)), None)
    return None


def plain(text: str) -> str:
    """In lower case, with single spaces."""
    return " ".join(text.lower().split())


def _words(text: str) -> list[str]:
    return TELLING.findall(text)


def within(part: str, whole: str) -> bool:
    """Whether `part` stands in `whole` as words of its own."""
    return bool(part) and re.search(rf"(?<!\w){re.escape(part)}(?!\w)", whole) is not None
