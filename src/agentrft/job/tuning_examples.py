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

    def update(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[E]) -> dict[str, Any]:
        """Learn from them; the metrics of before it."""
        ...

    def measure(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[E]) -> dict[str, Any]:
        """The metrics of all of them."""
        ...


class Demonstrations(Examples[Sample]):
    """Of supervised fine-tuning."""

    def load(self, path: Path) -> list[Sample]:
        return load_demonstrations(path, call_judge())

    def rows(self, codec: ChatCodec, example: Sample) -> Iterator[TrainingRow]:
        yield from demonstrated_rows(codec, example.messages, example.tools)

    def line(self, example: Sample) -> int:
        return example.line

    def update(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Sample]) -> dict[str, Any]:
        return _of_likelihoods([learner.supervised_update(self._all_rows(codec, examples))])

    def measure(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Sample]) -> dict[str, Any]:
        parts = _parts(examples)
        return _of_likelihoods([learner.likelihood(self._all_rows(codec, part)) for part in parts])

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
        for part in _parts(loaded):
            self._beside |= dict.fromkeys((one.sample_id for one in part), part)
        return loaded

    def rows(self, codec: ChatCodec, example: Preference) -> Iterator[TrainingRow]:
        yield from self._pair(codec, example).rows

    def line(self, example: Preference) -> int:
        return example.preferred.line

    def update(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Preference]) -> dict[str, Any]:
        pairs = [self._pair(codec, one) for one in examples]
        reference = self._known(learner, codec, examples)
        return _of_preferences([(learner.preference_update(pairs, reference, self._beta), len(pairs))])

    def measure(self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Preference]) -> dict[str, Any]:
        found: list[tuple[PreferenceMetrics, int]] = []
        for part in _parts(examples):
            pairs = [self._pair(codec, one) for one in part]
            reference = self._known(learner, codec, part)
            found.append((learner.preference(pairs, reference, self._beta), len(pairs)))
        return _of_preferences(found)

    def _pair(self, codec: ChatCodec, example: Preference) -> Pair:
        preferred, other = (
            demonstrated_rows(codec, answer.messages, answer.tools) for answer in (example.preferred, example.other)
        )
        return Pair(preferred, other)

    def _known(
        self, learner: SupervisedLearner, codec: ChatCodec, examples: Sequence[Preference]
    ) -> list[tuple[float, float]]:
        for one in examples:
            if one.sample_id not in self._reference:
                part = self._beside[one.sample_id]
                found = learner.answer_logprobs([self._pair(codec, other) for other in part])
                self._reference |= {other.sample_id: sums for other, sums in zip(part, found, strict=True)}
        return [self._reference[one.sample_id] for one in examples]


def examples_of(beta: float | None) -> Examples[Any]:
    """What a job learns from: preferences where it has a `beta`, else demonstrations."""
    return Demonstrations() if beta is None else Preferences(beta)


def _parts(examples: Sequence[E]) -> list[Sequence[E]]:
    return [examples[start : start + MEASURED_TOGETHER] for start in range(0, len(examples), MEASURED_TOGETHER)]


def _of_likelihoods(found: Sequence[Likelihood]) -> dict[str, Any]:
    tokens = sum(one.tokens for one in found)
    return {
        "loss": sum(one.loss * one.tokens for one in found) / tokens,
        "token_accuracy": sum(one.accuracy * one.tokens for one in found) / tokens,
        "learned_tokens": tokens,
    }


def _of_preferences(found: Sequence[tuple[PreferenceMetrics, int]]) -> dict[str, Any]:
    """Args: found: of some pairs, and how many these were."""
    pairs = sum(count for _, count in found)

    def mean(name: str) -> float:
        return sum(getattr(one, name) * count for one, count in found) / pairs

    return {
        "loss": mean("loss"),
        "preference_accuracy": mean("accuracy"),
        "reward_margin": mean("margin"),
        "preferred_reward": mean("preferred_reward"),
        "other_reward": mean("other_reward"),
        "learned_tokens": sum(one.tokens for one, _ in found),
    }
