"""What jobs without rollouts learn from: the examples of their files, as the learner takes them.

Two methods, one interface: what an update does with some examples, and how they are measured without one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agentrft.chat import ChatCodec
from agentrft.data import Preference, Sample, each_preference, load_demonstrations
from agentrft.job.training_data import demonstrated_rows
from agentrft.learner import Pair, PreferenceMetrics, SupervisedLearner, TrainingRow
from agentrft.learner.supervised import Likelihood
from agentrft.tools import call_judge

E = TypeVar("E")
# Examples that are measured at once.
MEASURED_TOGETHER = 32


class Examples(Protocol[E]):
    """How a method reads a file, and what it makes of its rows."""

    def load(self, path: Path) -> list[E]:
        """Raises UserError where the file is missing or empty, or rows are faulty."""
        ...

    def rows(self, codec: ChatCodec, example: E) -> Iterator[TrainingRow]:
        """All rows of an example."""
        ...

    def line(self, example: E) -> int:
        """Of its file."""
        ...

    def prepare(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[E]) -> bool:
        """Compute a part of what has to be known of them beforehand; whether there is more."""
        ...

    def update(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[E]) -> dict[str, Any]:
        """Learn from them; the metrics of before it, and `total_tokens` of their rows."""
        ...

    def measure(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[E]) -> dict[str, Any]:
        """The metrics of some of them; `mean_of` of all."""
        ...


class Demonstrations(Examples[Sample]):
    """Of supervised fine-tuning."""

    def load(self, path: Path) -> list[Sample]:
        return load_demonstrations(path, call_judge())

    def rows(self, codec: ChatCodec, example: Sample) -> Iterator[TrainingRow]:
        yield from demonstrated_rows(codec, example.messages, example.tools)

    def line(self, example: Sample) -> int:
        return example.line

    def prepare(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Sample]) -> bool:
        return False

    def update(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Sample]) -> dict[str, Any]:
        rows = self._all_rows(codec, examples)
        return {**_of_likelihood(learner.supervised_update(rows)), "total_tokens": _tokens(rows)}

    def measure(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Sample]) -> dict[str, Any]:
        return _of_likelihood(learner.likelihood(self._all_rows(codec, examples)))

    def _all_rows(self, codec: ChatCodec, examples: Sequence[Sample]) -> list[TrainingRow]:
        return [row for example in examples for row in self.rows(codec, example)]


class Preferences(Examples[Preference]):
    """Of direct preference optimisation.

    Args:
        beta: see `preference_losses`.
    """

    def __init__(self, beta: float) -> None:
        self._beta = beta
        # Log-probabilities of each row's answers under the policy that training began with: they never change.
        self._reference: dict[str, tuple[float, float]] = {}
        # The rows that a row's are computed with: always the same, since sums depend on what is summed beside them.
        self._beside: dict[str, Sequence[Preference]] = {}

    def load(self, path: Path) -> list[Preference]:
        loaded = list(each_preference(path, call_judge()))
        for part in parts_of(loaded):
            self._beside |= dict.fromkeys((one.sample_id for one in part), part)
        return loaded

    def rows(self, codec: ChatCodec, example: Preference) -> Iterator[TrainingRow]:
        yield from self._pair(codec, example).rows

    def line(self, example: Preference) -> int:
        return example.preferred.line

    def prepare(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Preference]) -> bool:
        unknown = [one for one in examples if one.sample_id not in self._reference]
        if unknown:
            part = self._beside[unknown[0].sample_id]
            found = learner.answer_logprobs([self._pair(codec, one) for one in part])
            self._reference |= {one.sample_id: sums for one, sums in zip(part, found, strict=True)}
        return any(one.sample_id not in self._reference for one in unknown)

    def update(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Preference]) -> dict[str, Any]:
        pairs = [self._pair(codec, one) for one in examples]
        found = learner.preference_update(pairs, self._known(examples), self._beta)
        return {**_of_preferences(found), "total_tokens": sum(_tokens(pair.rows) for pair in pairs)}

    def measure(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Preference]) -> dict[str, Any]:
        pairs = [self._pair(codec, one) for one in examples]
        return _of_preferences(learner.preference(pairs, self._known(examples), self._beta))

    def _pair(self, codec: ChatCodec, example: Preference) -> Pair:
        preferred, other = (
            demonstrated_rows(codec, answer.messages, answer.tools) for answer in (example.preferred, example.other)
        )
        return Pair(preferred, other)

    def _known(self, examples: Sequence[Preference]) -> list[tuple[float, float]]:
        return [self._reference[one.sample_id] for one in examples]


def examples_of(beta: float | None) -> Examples[Any]:
    """What a job learns from: preferences where it has a `beta`, else demonstrations."""
    return Demonstrations() if beta is None else Preferences(beta)


def parts_of(examples: Sequence[E]) -> list[Sequence[E]]:
    """Examples that are measured together."""
    return [examples[start : start + MEASURED_TOGETHER] for start in range(0, len(examples), MEASURED_TOGETHER)]


def mean_of(parts: Sequence[tuple[dict[str, Any], int]], *, by_token: bool) -> dict[str, Any]:
    """The metrics of several parts as one.

    Args:
        parts: what `measure` gave, and of how many examples.
        by_token: whether they are means over tokens that are learned, and not over examples.
    """
    weights = [found["learned_tokens"] if by_token else count for found, count in parts]
    total = sum(weights)
    mean = {
        name: sum(found[name] * weight for (found, _), weight in zip(parts, weights, strict=True)) / total
        for name in parts[0][0]
    }
    return {**mean, "learned_tokens": sum(found["learned_tokens"] for found, _ in parts)}


def _tokens(rows: Sequence[TrainingRow]) -> int:
    return sum(len(row.token_ids) for row in rows)


def _of_likelihood(found: Likelihood) -> dict[str, Any]:
    return {"loss": found.loss, "token_accuracy": found.accuracy, "learned_tokens": found.tokens}


def _of_preferences(found: PreferenceMetrics) -> dict[str, Any]:
    return {
        "loss": found.loss,
        "preference_accuracy": found.accuracy,
        "reward_margin": found.margin,
        "preferred_reward": found.preferred_reward,
        "other_reward": found.other_reward,
        "learned_tokens": found.tokens,
    }
