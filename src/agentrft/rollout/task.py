"""What to roll out, and within which bounds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentrft.data import Sample
from agentrft.rollout.calls import CallRules


@dataclass(frozen=True)
class RolloutLimits:
    """Bounds of one rollout; when one is hit the rollout is `model_failed`, with the bound as its kind.

    Attributes:
        model_failed_reward: what it then gets; it may be settled otherwise once its group is known (`FailedReward`).
        grade_unfinished: whether the grader sees such a rollout, as far as it got, and its score is the reward.
        answer_schema: JSON Schema of the answer; None for any.
        calls_end: a turn that calls is the answer: there is nobody to make the calls.
    """

    max_episode_steps: int
    max_tokens_per_turn: int
    max_context_tokens: int
    turn_timeout_s: float
    calls: CallRules = field(default_factory=CallRules)
    model_failed_reward: float = 0.0
    grade_unfinished: bool = False
    answer_schema: Mapping[str, Any] | None = None
    calls_end: bool = False


@dataclass(frozen=True)
class RolloutTask:
    """What to roll out and how to sample it. `seed` belongs to the job; each turn derives its own from all of this.

    `policy_version` is the oldest that may sample it; the engine states with each turn which one did.

    Attributes:
        again: how often the sample's group was begun before in this step, and given up for its age.
    """

    sample: Sample
    step: int
    index: int
    temperature: float
    top_p: float
    seed: int
    policy_version: int
    again: int = 0

    @property
    def key(self) -> str:
        """Unique within a phase and step."""
        key = f"{self.sample.sample_id}/{self.index}"
        return f"{key}/again-{self.again}" if self.again else key

    def turn_seed(self, attempt: int, turn: int) -> int:
        text = f"{self.seed}/{self.step}/{self.key}/{attempt}/{turn}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
