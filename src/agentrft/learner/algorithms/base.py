"""The types that every algorithm takes and returns."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class LossInputs:
    """The sampled tokens of one group, and how large the whole step is.

    Attributes:
        logprobs: under the policy being trained, with gradient.
        sampling_logprobs: under the policy that sampled the tokens.
        advantages: of each token's rollout.
        rollout: each token's rollout.
        step_tokens: sampled tokens of all trained groups of the step.
        step_rollouts: rollouts of all trained groups of the step.
    """

    logprobs: Float[Tensor, "tokens"]
    sampling_logprobs: Float[Tensor, "tokens"]
    advantages: Float[Tensor, "tokens"]
    rollout: Int[Tensor, "tokens"]
    step_tokens: int
    step_rollouts: int


@dataclass(frozen=True)
class LossOutput:
    """The group's share of the step's loss: the shares of all groups add up to it.

    `truncated_tokens` counts tokens whose gradient the truncation of the importance ratio removed.
    """

    loss: Float[Tensor, ""]
    truncated_tokens: int


@dataclass(frozen=True)
class Algorithm:
    """`advantages` maps one group's rewards to one advantage per rollout, in the rewards' precision (float64)."""

    advantages: Callable[[Float[Tensor, "rollouts"]], Float[Tensor, "rollouts"]]
    loss: Callable[[LossInputs], LossOutput]
