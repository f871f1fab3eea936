"""The learner's input."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingRow:
    """One sequence of token ids as the model saw it.

    Attributes:
        token_ids: the whole sequence, prompt first.
        sampled_positions: indices into `token_ids` of the tokens that the policy sampled; never 0.
        sampling_logprobs: their log-probabilities under the policy that sampled them, at its temperature.
        rollout: index of the row's rollout in its group. A rollout whose context forked has several rows.
    """

    token_ids: list[int]
    sampled_positions: list[int]
    sampling_logprobs: list[float]
    rollout: int

    def __post_init__(self) -> None:
        if len(self.sampled_positions) != len(self.sampling_logprobs):
            raise ValueError("sampled_positions and sampling_logprobs differ in length")
        if self.sampled_positions and not 0 < self.sampled_positions[0] <= self.sampled_positions[-1] < len(
            self.token_ids
        ):
            raise ValueError("sampled positions must lie inside the row, after its first token")


@dataclass(frozen=True)
class TrainingGroup:
    """The finished rollouts of one sample in one step: their rows and a reward for each rollout."""

    rows: list[TrainingRow]
    rewards: list[float]

    @property
    def has_variance(self) -> bool:
        """Whether the rewards differ; without that there is nothing to learn from the group."""
        return max(self.rewards) - min(self.rewards) > 1e-9
