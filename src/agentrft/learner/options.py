"""How much an update makes of a batch of rollouts."""

from dataclasses import dataclass, field

from agentrft.learner.algorithms import Clip
from agentrft.spec.hyperparameters import CreditBy


@dataclass(frozen=True)
class UpdateOptions:
    """How much is made of a batch of rollouts.

    Attributes:
        minibatches: optimizer steps of one epoch; each sees a part of the groups.
        epochs: how often an update sees every group.
        clip: see `Clip`.
        advantage_by: see `GroupView.centred`.
        std_floor: see `GroupView`.
        reward_weights: where several rewards are compared apart, the weight of each, by its name among the groups'
            sub-scores; empty compares the reward alone.
        kl_weight: of the KL divergence from the policy that training began with, per token, in the loss (DeepSeekMath,
            arXiv:2402.03300). Its estimate is a metric also with 0.
        clip_cov: share of a pass's tokens that lose their gradient, of those whose probability and advantage are high
            or low together, which is what takes the entropy (Cui et al. 2025, "Clip-Cov", arXiv:2505.22617).
        masks_overlong: whether rollouts that ended for want of tokens are left out, instead of counting as failures.
        length_penalty: what a rollout that sampled all it may loses of its reward; one that leaves a quarter loses
            nothing (DAPO's soft punishment, arXiv:2503.14476).
        replay_weight: of the mean log-likelihood of rollouts that are replayed, beside the algorithm's loss.
        most_tokens: that a rollout may sample.
        seed: of the order of groups.
    """

    minibatches: int = 1
    epochs: int = 1
    clip: Clip = field(default_factory=Clip)
    advantage_by: CreditBy = "rollout"
    std_floor: float = 0.0
    reward_weights: dict[str, float] = field(default_factory=dict[str, float])
    kl_weight: float = 0.0
    clip_cov: float = 0.0
    masks_overlong: bool = False
    length_penalty: float = 0.0
    replay_weight: float = 0.0
    most_tokens: int = 1024
    seed: int = 0
