"""Direct preference optimisation: of two answers to one prompt the better is made likelier, the worse less likely.

Rafailov et al. 2023, "Direct Preference Optimization", arXiv:2305.18290.
"""

from dataclasses import dataclass, field, replace

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from agentrft.learner.group import TrainingRow


@dataclass(frozen=True)
class Pair:
    """Two continuations of one prompt: in the token tree the branches behind it.

    Attributes:
        preferred, other: the rows of each, several where its context forks; the rows' `rollout` is of no account.
    """

    preferred: list[TrainingRow]
    other: list[TrainingRow]
    rollouts: int = 2
    lessons: list[TrainingRow] = field(default_factory=list[TrainingRow])

    @property
    def rows(self) -> list[TrainingRow]:
        """All of them: of rollout 0 those that are preferred, of rollout 1 the others."""
        return [replace(row, rollout=index) for index, rows in enumerate((self.preferred, self.other)) for row in rows]

    @property
    def tokens(self) -> int:
        """That are learned from."""
        return sum(len(row.sampled_positions) for row in (*self.preferred, *self.other))


@dataclass(frozen=True)
class PreferenceMetrics:
    """What an update towards preferences saw, before it.

    Attributes:
        loss: mean over the pairs.
        accuracy: share of the pairs whose better answer the policy raised more than the worse one, beside the
            policy that training began with.
        margin: by how much more, in units of reward: mean of `preferred_reward` less `other_reward`.
        preferred_reward, other_reward: mean implied rewards, beta times the log-ratio of policy and start.
        tokens: that were learned from.
    """

    loss: float
    accuracy: float
    margin: float
    preferred_reward: float
    other_reward: float
    tokens: int


def preference_losses(
    preferred: Float[Tensor, "pairs"], other: Float[Tensor, "pairs"], beta: float
) -> Float[Tensor, "pairs"]:
    """The loss of each pair.

    Args:
        preferred, other: log-probability of each answer under the policy, less that under the one it began as.
        beta: how much it costs to leave that one.
    """
    return -logsigmoid(beta * (preferred - other))
