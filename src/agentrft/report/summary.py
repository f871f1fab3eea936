"""What a set of rollouts says: rewards, outcomes, tool use, tokens, latency, and how much there is to learn from."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from agentrft.graders import Grade, count_repeated
from agentrft.graders.uses import added_counts
from agentrft.report.averages import mean, quantile
from agentrft.report.behaviours import behaviours
from agentrft.report.panels import grader_panels, tool_panels
from agentrft.rollout.record import Rollout

SAME_REWARD = 1e-9
LONGEST_EXAMPLE = 400
OUT_OF_TOKENS = frozenset({"max_tokens", "context"})


@dataclass(frozen=True)
class Summary:
    """Statistics over rollouts. Means are over rollouts with a reward; infrastructure failures are only counted.

    Attributes:
        rollouts: how many there are.
        samples: how many samples they are of.
        k: the most rollouts of any sample.
        reward_mean: over all rollouts with a reward.
        reward_std: over all rollouts with a reward.
        pass_at_1: share of the rollouts that reach `pass_threshold`.
        pass_at_k: share of the samples of which a rollout does.
        pass_threshold: the reward from which one counts as passed.
        zero_variance_share: of the samples with two rollouts or more, those whose rewards are all alike.
        all_right_share: the part of it whose reward reaches the pass threshold.
        all_wrong_share: the part of it whose reward is at most zero.
        tool_calls_mean: calls per rollout.
        tool_requests: HTTP requests of all rollouts, with retries.
        sampled_tokens_mean: per rollout.
        reasoning_tokens_mean: of the sampled tokens, those that are reasoning.
        latency_p50_s: seconds per rollout, the median.
        latency_p95_s: seconds per rollout that 95 % stay below.
        outcomes: rollouts by outcome.
        failures: rollouts by failure kind.
        failure_examples: by failure kind, the beginning of the first message of those that have one.
        faults: everything that broke, repeated with success or not, by the keys of `Rollout.faults`.
        repeated_rollouts: attempts that were given up and made again, by the failure kind of the first.
        first_attempt_failures: rollouts whose first attempt broke on infrastructure, by its failure kind, whether or
            not a second one brought them to an end.
        tool_statuses: tool calls by status.
        sub_scores: mean of what each grader inside a `multi` gave.
        holdout_scores: mean of each holdout grader, over the rollouts that it graded.
        judge_tokens: that judges took, by the names of Chat Completions.
        grader_latency_mean_s: seconds of a grade.
        graders: by grader, those inside a `multi` one by one, `latency_mean_s`, and in all `grades`, `usage`, `faults`
            and `unparsed`: its faults because the answer is no JSON; nothing where the rollouts are of before this was
            kept.
        sub_passes: by grader inside a `multi` one, rollouts that reached its own threshold (`passed`) and that did not.
        agent_usage: of all rollouts: `turns`, `prompt_tokens`, `completion_tokens`, and `reasoning_tokens` among those.
        tools: by tool, `calls_per_rollout`, `tokens_per_call` (of its answers), `latency_mean_s` and `errors`.
        forks: how often a rollout went on in a new row of tokens, by its reason: see `Rollout`.
        truncation_share: of the rollouts, those that ended because their tokens ran out.
        truncated_in_thought: how many of those had begun to think and nothing else in their last turn.
        truncated_turn_share: of the turns, those whose tokens ran out.
        parse_error_share: of the rollouts, those with a call that could not be read.
        infra_failure_share: of the rollouts, those without a reward because infrastructure broke.
        first_attempt_failure_share: of the rollouts, those whose first attempt broke on infrastructure. A grader that
            breaks on some of the answers shows here, where `infra_failure_share` has only those that broke twice.
        repeated_call_share: of the tool calls, those equal to an earlier one of their rollout.
        missing_sample_key_share: of the graded rollouts, those that lack something that the grader reads of them, such
            as `sample.output_json` where the answer is no JSON: they got its lowest score.
        behaviours: what the reward does not show, by name: see `report.behaviours`.
    """

    rollouts: int = 0
    samples: int = 0
    k: int = 0
    reward_mean: float = 0.0
    reward_std: float = 0.0
    pass_at_1: float = 0.0
    pass_at_k: float = 0.0
    pass_threshold: float = 1.0
    zero_variance_share: float = 0.0
    all_right_share: float = 0.0
    all_wrong_share: float = 0.0
    tool_calls_mean: float = 0.0
    tool_requests: int = 0
    sampled_tokens_mean: float = 0.0
    reasoning_tokens_mean: float = 0.0
    latency_p50_s: float = 0.0
    latency_p95_s: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict[str, int])
    failures: dict[str, int] = field(default_factory=dict[str, int])
    failure_examples: dict[str, str] = field(default_factory=dict[str, str])
    faults: dict[str, int] = field(default_factory=dict[str, int])
    repeated_rollouts: dict[str, int] = field(default_factory=dict[str, int])
    first_attempt_failures: dict[str, int] = field(default_factory=dict[str, int])
    tool_statuses: dict[str, int] = field(default_factory=dict[str, int])
    sub_scores: dict[str, float] = field(default_factory=dict[str, float])
    holdout_scores: dict[str, float] = field(default_factory=dict[str, float])
    judge_tokens: dict[str, int] = field(default_factory=dict[str, int])
    grader_latency_mean_s: float = 0.0
    graders: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    sub_passes: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])
    agent_usage: dict[str, int] = field(default_factory=dict[str, int])
    tools: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    forks: dict[str, int] = field(default_factory=dict[str, int])
    truncation_share: float = 0.0
    truncated_in_thought: int = 0
    truncated_turn_share: float = 0.0
    parse_error_share: float = 0.0
    infra_failure_share: float = 0.0
    first_attempt_failure_share: float = 0.0
    repeated_call_share: float = 0.0
    missing_sample_key_share: float = 0.0
    behaviours: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> "Summary":
        """A summary out of a committed step's metrics, which hold more than it."""
        return cls(**{field.name: metrics[field.name] for field in fields(cls) if field.name in metrics})

    def as_dict(self) -> dict[str, Any]:
        """As it stands in metrics: plain values that JSON has."""
        return asdict(self)


def summarise(
    rollouts: Sequence[Rollout], *, pass_threshold: float = 1.0, sub_thresholds: Mapping[str, float] | None = None
) -> Summary:
    """Statistics of rollouts, of one step or of one evaluation.

    Args:
        rollouts: of any number of samples.
        pass_threshold: the reward from which a rollout counts as passed.
        sub_thresholds: by grader inside a `multi` one, the score from which it passes.
    """
    rewarded = [rollout for rollout in rollouts if rollout.reward is not None]
    by_sample: dict[str, list[float]] = defaultdict(list)
    for rollout in rewarded:
        by_sample[rollout.sample_id].append(_reward(rollout))
    several = [rewards for rewards in by_sample.values() if len(rewards) > 1]
    alike = [rewards[0] for rewards in several if max(rewards) - min(rewards) <= SAME_REWARD]
    rewards = [_reward(rollout) for rollout in rewarded]
    reward_mean = mean(rewards)
    first_failures = [kind for rollout in rollouts if (kind := rollout.first_attempt_failure) is not None]
    latencies = [rollout.latency_s for rollout in rewarded]
    grades = [rollout.grade for rollout in rewarded if rollout.grade is not None]
    reached = pass_threshold - SAME_REWARD
    return Summary(
        rollouts=len(rollouts),
        samples=len({rollout.sample_id for rollout in rollouts}),
        k=max((len(group) for group in by_sample.values()), default=0),
        reward_mean=reward_mean,
        reward_std=math.sqrt(mean([(reward - reward_mean) ** 2 for reward in rewards])),
        pass_at_1=mean([reward >= reached for reward in rewards]),
        pass_at_k=mean([max(group) >= reached for group in by_sample.values()]),
        pass_threshold=pass_threshold,
        zero_variance_share=len(alike) / len(several) if several else 0.0,
        all_right_share=sum(reward >= reached for reward in alike) / len(several) if several else 0.0,
        all_wrong_share=sum(reward <= SAME_REWARD for reward in alike) / len(several) if several else 0.0,
        tool_calls_mean=mean([len(rollout.tool_calls) for rollout in rewarded]),
        tool_requests=sum(rollout.tool_requests for rollout in rollouts),
        sampled_tokens_mean=mean([rollout.sampled_tokens for rollout in rewarded]),
        reasoning_tokens_mean=mean([rollout.reasoning_tokens for rollout in rewarded]),
        latency_p50_s=quantile(latencies, 0.5),
        latency_p95_s=quantile(latencies, 0.95),
        outcomes=_counts(rollout.outcome for rollout in rollouts),
        failures=_counts(rollout.failure_kind for rollout in rollouts if rollout.failure_kind),
        failure_examples=_failure_examples(rollouts),
        faults=_counts(kind for rollout in rollouts for kind in Counter(rollout.faults).elements()),
        repeated_rollouts=_counts(kind for rollout in rollouts for kind in rollout.given_up),
        first_attempt_failures=_counts(first_failures),
        tool_statuses=_counts(call.status for rollout in rollouts for call in rollout.tool_calls),
        sub_scores=_means_by_name(grade.sub_scores for grade in grades),
        holdout_scores=_means_by_name(rollout.holdout_scores for rollout in rewarded),
        judge_tokens=added_counts(map(_judge_tokens, rollouts)),
        grader_latency_mean_s=mean([grade.latency_s for grade in grades]),
        graders=grader_panels(rollouts),
        sub_passes=_sub_passes(grades, sub_thresholds or {}),
        agent_usage=_agent_usage(rollouts),
        tools=tool_panels(rollouts),
        forks=_counts(reason for rollout in rollouts for reason in Counter(rollout.forks).elements()),
        truncation_share=mean([ran_out_of_tokens(rollout) for rollout in rollouts]),
        truncated_in_thought=sum(ran_out_of_tokens(rollout) and ends_in_thought(rollout) for rollout in rollouts),
        truncated_turn_share=mean([turn.finish_reason == "length" for one in rollouts for turn in one.turns]),
        parse_error_share=mean([has_parse_error(rollout) for rollout in rollouts]),
        infra_failure_share=mean([rollout.outcome == "infra_failed" for rollout in rollouts]),
        first_attempt_failure_share=len(first_failures) / len(rollouts) if rollouts else 0.0,
        repeated_call_share=_share(map(repeated_calls, rollouts), (len(rollout.tool_calls) for rollout in rollouts)),
        missing_sample_key_share=mean([lacks_what_is_read(rollout) for rollout in rewarded if rollout.grade]),
        behaviours=behaviours(rollouts),
    )


def reached(rollout: Rollout, threshold: float) -> bool:
    """Whether a rollout has a reward of at least so much."""
    return rollout.reward is not None and rollout.reward >= threshold - SAME_REWARD


def ran_out_of_tokens(rollout: Rollout) -> bool:
    """Whether the agent was cut off before it could answer."""
    return rollout.failure_kind in OUT_OF_TOKENS


def ends_in_thought(rollout: Rollout) -> bool:
    """Whether the last message is a thought with no answer and no call after it."""
    last = rollout.messages[-1] if rollout.messages else {}
    return bool(last.get("reasoning_content")) and not (last.get("content") or last.get("tool_calls"))


def has_parse_error(rollout: Rollout) -> bool:
    """Whether the agent wrote a call that could not be read."""
    return any(call.status == "bad_call" for call in rollout.tool_calls)


def lacks_what_is_read(rollout: Rollout) -> bool:
    """Whether a template of its grader read something that the rollout does not have."""
    return rollout.grade is not None and bool(rollout.grade.missing)


def repeated_calls(rollout: Rollout) -> int:
    """How many of its calls the agent had made before."""
    return count_repeated((call.name, call.arguments) for call in rollout.tool_calls)


def _share(parts: Iterable[int], wholes: Iterable[int]) -> float:
    whole = sum(wholes)
    return sum(parts) / whole if whole else 0.0


def _reward(rollout: Rollout) -> float:
    return 0.0 if rollout.reward is None else rollout.reward


def _counts(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))


def _failure_examples(rollouts: Iterable[Rollout]) -> dict[str, str]:
    examples: dict[str, str] = {}
    for rollout in rollouts:
        if rollout.failure_kind and rollout.failure_message:
            examples.setdefault(rollout.failure_kind, rollout.failure_message[:LONGEST_EXAMPLE])
    return examples


def _means_by_name(several: Iterable[Mapping[str, float]]) -> dict[str, float]:
    values: dict[str, list[float]] = defaultdict(list)
    for scores in several:
        for name, score in scores.items():
            values[name].append(score)
    return {name: mean(scores) for name, scores in sorted(values.items())}


def _sub_passes(grades: Sequence[Grade], thresholds: Mapping[str, float]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, threshold in thresholds.items():
        passes = [grade.sub_scores[name] >= threshold - SAME_REWARD for grade in grades if name in grade.sub_scores]
        found[name] = {"passed": sum(passes), "failed": len(passes) - sum(passes)}
    return found


def _agent_usage(rollouts: Sequence[Rollout]) -> dict[str, int]:
    turns = [turn for rollout in rollouts for turn in rollout.turns]
    return {
        "turns": len(turns),
        "prompt_tokens": sum(len(turn.prompt_ids) for turn in turns),
        "completion_tokens": sum(len(turn.sampled_ids) for turn in turns),
        "reasoning_tokens": sum(turn.reasoning_tokens for turn in turns),
    }


def _judge_tokens(rollout: Rollout) -> dict[str, int]:
    """Records of before `Rollout.graders` have them in the grade."""
    if rollout.graders or rollout.grade is None:
        return added_counts(use.usage for use in rollout.graders.values())
    return rollout.grade.usage
