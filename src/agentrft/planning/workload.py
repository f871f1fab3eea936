"""What a step is: how many rollouts, how long they are, what they wait for. Counts follow from these numbers alone."""

import math
from dataclasses import asdict, dataclass
from typing import Any

# Of rollouts of unequal lengths, slices that their generation is summed over.
SLICES = 64


@dataclass(frozen=True)
class Judging:
    """One judge of a job's graders, for each grade.

    Attributes:
        model: its name.
        prompt_tokens, completion_tokens: of a call.
    """

    model: str
    prompt_tokens: float
    completion_tokens: float


@dataclass(frozen=True)
class Workload:
    """A step's rollouts and its update. Tokens are means.

    Attributes:
        groups: samples in a step.
        rollouts_per_group: of each sample.
        prompt_tokens: of a sample, with its tools.
        turns: of a rollout.
        turn_tokens: that a turn samples.
        result_tokens: of tools' answers after each turn but the last.
        most_sampled: tokens that a rollout can sample at most, by the job's limits.
        context_tokens: that a rollout can have at most.
        calls_per_turn: tool calls in each turn but the last.
        tool_s: seconds that a turn's calls take.
        grade_s: seconds of a grade.
        judges: that each grade asks.
        at_once: rollouts under way, at most.
        merged_tokens: of a group after its prompt, those that are computed once for several rollouts, such as equal
            first calls.
        trained_groups: that have something to teach; the others are not computed.
        update_epochs: how often an update sees a group.
        minibatches: optimizer steps of an update.
        extra_forwards: passes without gradient over what is trained on, such as that of a reference policy.
        shares_prompts: whether the learner computes what rollouts of a group have in common once.
        runs_ahead: whether the next step's rollouts are sampled during an update.
        kv_cache_bytes: what keys and values may take; None for the engine's own share.
    """

    groups: int
    rollouts_per_group: int
    prompt_tokens: float
    turns: float
    turn_tokens: float
    result_tokens: float
    most_sampled: int
    context_tokens: int
    calls_per_turn: float = 1.0
    tool_s: float = 0.0
    grade_s: float = 0.0
    judges: tuple[Judging, ...] = ()
    at_once: int = 64
    merged_tokens: float = 0.0
    trained_groups: float | None = None
    update_epochs: int = 1
    minibatches: int = 4
    extra_forwards: int = 0
    shares_prompts: bool = True
    runs_ahead: bool = False
    kv_cache_bytes: int | None = None

    @property
    def rollouts(self) -> int:
        return self.groups * self.rollouts_per_group

    @property
    def sampled_per_rollout(self) -> float:
        return self.turns * self.turn_tokens

    @property
    def results_per_rollout(self) -> float:
        """Tokens that tools' answers add to a rollout."""
        return max(0.0, self.turns - 1) * self.result_tokens

    @property
    def own_per_rollout(self) -> float:
        """Tokens of a rollout after its prompt."""
        return self.sampled_per_rollout + self.results_per_rollout

    @property
    def calls_per_rollout(self) -> float:
        return max(0.0, self.turns - 1) * self.calls_per_turn

    @property
    def wait_per_rollout(self) -> float:
        """Seconds that a rollout spends on tools."""
        return max(0.0, self.turns - 1) * self.tool_s

    @property
    def sampled_tokens(self) -> float:
        return self.rollouts * self.sampled_per_rollout

    @property
    def prefill_tokens(self) -> float:
        """Computed and not sampled: each group's prompt once, and tools' answers."""
        return self.groups * self.prompt_tokens + self.rollouts * self.results_per_rollout

    @property
    def learned_groups(self) -> float:
        return self.groups if self.trained_groups is None else self.trained_groups

    @property
    def unique_tokens(self) -> float:
        """That an update computes in one epoch."""
        return self.learned_groups * self.group_tokens

    @property
    def total_tokens(self) -> float:
        """The same without anything shared."""
        return self.learned_groups * self.rollouts_per_group * (self.prompt_tokens + self.own_per_rollout)

    @property
    def group_tokens(self) -> float:
        """Unique ones of one group."""
        prompts = 1 if self.shares_prompts else self.rollouts_per_group
        own = self.rollouts_per_group * self.own_per_rollout
        return prompts * self.prompt_tokens + own - self.merged_tokens

    @property
    def predictions(self) -> float:
        """Positions that the head is computed at in one epoch."""
        return self.learned_groups * self.rollouts_per_group * self.sampled_per_rollout

    @property
    def visible_pairs(self) -> float:
        """Pairs of a token and one that it sees, in one epoch; of rollouts of the mean length."""
        prompt, own, rollouts = self.prompt_tokens, self.own_per_rollout, self.rollouts_per_group
        prompts = 1 if self.shares_prompts else rollouts
        each = own * prompt + own * (own + 1) / 2
        return self.learned_groups * (prompts * prompt * (prompt + 1) / 2 + rollouts * each)

    @property
    def tool_calls(self) -> float:
        return self.rollouts * self.calls_per_rollout

    @property
    def judge_calls(self) -> float:
        return self.rollouts * len(self.judges)

    def survivors(self) -> list[tuple[float, float]]:
        """How sampling goes on: (tokens that every rollout still under way samples, share of them still under way),
        slice after slice, until the longest has ended.

        Lengths are taken to be those of turns that end at any token with the same probability, cut at `most_sampled`:
        the exponential distribution of the given mean. What few rollouts are left takes most of the time of large
        steps.
        """
        mean, most = self.sampled_per_rollout, float(max(self.most_sampled, 1))
        if mean <= 0:
            return []
        if mean >= most:
            return [(most, 1.0)]
        scale = _scale_of(mean, most)
        # Of so many, the longest is expected to be about as long as this.
        longest = min(most, scale * (math.log(max(2, self.rollouts)) + 0.577))
        step = longest / SLICES
        shares = [math.exp(-step * (number + 0.5) / scale) for number in range(SLICES)]
        # Slices hold the tokens that there are.
        fix = mean / (step * sum(shares))
        return [(step, min(1.0, share * fix)) for share in shares]

    def as_dict(self) -> dict[str, Any]:
        """The numbers, with what follows from them."""
        derived = (
            "rollouts",
            "sampled_tokens",
            "prefill_tokens",
            "unique_tokens",
            "total_tokens",
            "tool_calls",
            "judge_calls",
        )
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def _scale_of(mean: float, most: float) -> float:
    """Of the exponential distribution whose mean, cut at `most`, is `mean`: by halving, in its logarithm."""
    low, high = math.log(mean / 2), math.log(1e4 * most)
    for _ in range(80):
        middle = (low + high) / 2
        scale = math.exp(middle)
        if scale * -math.expm1(-most / scale) < mean:
            low = middle
        else:
            high = middle
    return math.exp(high)
