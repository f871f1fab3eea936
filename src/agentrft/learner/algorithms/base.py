"""The types that every algorithm takes and returns, and the two importance ratios that they share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from agentrft.learner.group import GroupView

# A ratio that overflows to infinity would make even a clipped token's gradient NaN.
MAX_LOG_RATIO = 20.0
# Of a token, between the policy that sampled it and the one before the update.
MAX_SAMPLING_RATIO = 2.0


@dataclass(frozen=True)
class Clip:
    """How far a token's probability is moved by one update: its ratio is kept in [1 - low, 1 + high].

    Attributes:
        low: by how much of itself it may fall.
        high: by how much of itself it may rise.
    """

    low: float = 0.2
    high: float = 0.2


@dataclass(frozen=True)
class LossInputs:
    """The sampled tokens of a pass, and how large its minibatch is.

    Attributes:
        logprobs: log-probabilities in nats under the policy being trained, with gradient.
        old_logprobs: under the policy before the update.
        sampling_logprobs: under the policy that sampled the tokens, as the engine computed it.
        advantages: of each token.
        rollout: each token's rollout, numbered through the pass.
        tokens: sampled tokens of the minibatch.
        rollouts: rollouts of the minibatch.
        most_tokens: that a rollout may sample.
        clip: the bounds of `ratio`.
    """

    logprobs: Float[Tensor, "tokens"]
    old_logprobs: Float[Tensor, "tokens"]
    sampling_logprobs: Float[Tensor, "tokens"]
    advantages: Float[Tensor, "tokens"]
    rollout: Int[Tensor, "tokens"]
    tokens: int
    rollouts: int
    most_tokens: int
    clip: Clip

    def ratio(self) -> Float[Tensor, "tokens"]:
        """By how much this update changed each token's probability, with gradient."""
        return (self.logprobs - self.old_logprobs).clamp(max=MAX_LOG_RATIO).exp()

    @torch.no_grad()
    def sampling_weights(self) -> tuple[Float[Tensor, "tokens"], Bool[Tensor, "tokens"]]:
        """By how much the policy before the update differs from what sampled, truncated from above; and where it was.

        It corrects for another implementation and for an older policy: Ionides 2008, "Truncated Importance Sampling",
        doi:10.1198/106186008X320456.
        """
        ratio = (self.old_logprobs - self.sampling_logprobs).clamp(max=MAX_LOG_RATIO).exp()
        return ratio.clamp(max=MAX_SAMPLING_RATIO), ratio > MAX_SAMPLING_RATIO


@dataclass(frozen=True)
class LossOutput:
    """What an algorithm makes of a pass.

    Attributes:
        loss: the pass's share of its minibatch's loss: the shares of all passes add up to it.
        clipped_tokens: tokens whose gradient the bound on this update's change removed.
        truncated_tokens: tokens whose weight for the policy that sampled them was cut.
    """

    loss: Float[Tensor, ""]
    clipped_tokens: int
    truncated_tokens: int


@dataclass(frozen=True)
class Algorithm:
    """Two pure functions; the learner does not know which algorithm runs.

    Attributes:
        advantages: gives each sampled token of one group its advantage (float64).
        loss: of the sampled tokens of a pass, what is minimised.
    """

    advantages: Callable[[GroupView], Float[Tensor, "tokens"]]
    loss: Callable[[LossInputs], LossOutput]


def divergences(reference: Float[Tensor, "tokens"], logprobs: Float[Tensor, "tokens"]) -> Float[Tensor, "tokens"]:
    """Of each sampled token an estimate of the KL divergence from the reference that is never negative, in nats.

    r - 1 - log r, with r the reference's probability over the policy's: Schulman 2020,
    http://joschu.net/blog/kl-approx.html.
    """
    change = (reference - logprobs).clamp(max=MAX_LOG_RATIO)
    return change.exp() - 1 - change


def clipped_surrogate(
    inputs: LossInputs, ratio: Float[Tensor, "tokens"], dual_clip: float | None = None
) -> tuple[Float[Tensor, "tokens"], int, int]:
    """min(ratio x advantage, clipped ratio x advantage) of each token, weighted for the policy that sampled it.

    Schulman et al. 2017, "Proximal Policy Optimization", arXiv:1707.06347. Where the advantage is negative the ratio
    is bounded by `dual_clip`: Ye et al. 2020, arXiv:1912.09729. With it the numbers of tokens that were clipped, and
    whose weight was truncated.
    """
    weight, truncated = inputs.sampling_weights()
    free = ratio * inputs.advantages
    held = torch.minimum(free, ratio.clamp(1 - inputs.clip.low, 1 + inputs.clip.high) * inputs.advantages)
    if dual_clip is not None:
        held = torch.where(inputs.advantages < 0, held.maximum(dual_clip * inputs.advantages), held)
    clipped = int((held.detach() != free.detach()).sum())
    return weight * held, clipped, int(truncated.sum())
