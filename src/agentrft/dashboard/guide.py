"""What each number is, what a bad value looks like, and what to do about it: what pages say where one points at it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Guide:
    """One number of a step.

    Attributes:
        shown: how a value is written.
        good: "up" or "down" where one of them is better, else empty.
    """

    label: str
    what: str
    bad: str
    do: str
    shown: Callable[[float], str]
    good: str = ""

    @property
    def hint(self) -> str:
        return f"{self.what} {self.bad} {self.do}".strip()


def share(value: float) -> str:
    return f"{value * 100:.0f} %" if value == 0 or abs(value) >= 0.01 else f"{value * 100:.2g} %"


def number(value: float) -> str:
    if value == 0 or 0.01 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2g}"


def seconds(value: float) -> str:
    if value < 120:
        return f"{value:.3g} s"
    if value < 1200:
        return f"{value // 60:.0f} min {value % 60:.0f} s"
    return f"{value / 60:.0f} min" if value < 7200 else f"{value / 3600:.1f} h"


GUIDES: dict[str, Guide] = {
    "reward_mean": Guide(
        "reward",
        "Mean reward of the rollouts that have one.",
        "Flat from the start, or rising while a holdout falls, is bad.",
        "Read the sentences on top, then the page Why.",
        number,
        "up",
    ),
    "pass_at_1": Guide("pass@1", "Share of rollouts that reach the pass threshold.", "", "", share, "up"),
    "pass_at_k": Guide(
        "pass@k",
        "Share of samples that at least one rollout of the group passes.",
        "If it is far above pass@1 there is much to learn; if it falls while pass@1 rises, exploration is lost.",
        "Raise compute_multiplier, temperature or clip_high.",
        share,
        "up",
    ),
    "zero_variance_share": Guide(
        "groups alike",
        "Share of the groups in which all rewards are alike: they teach nothing.",
        "More than half wastes most of the rollouts.",
        "`sample_by: difficulty`, `dynamic_sampling`, or a grader with more levels.",
        share,
        "down",
    ),
    "truncation_share": Guide(
        "cut off",
        "Share of the rollouts whose tokens ran out before they answered.",
        "A tenth or more.",
        "Raise max_tokens_per_turn or max_context_tokens.",
        share,
        "down",
    ),
    "parse_error_share": Guide(
        "calls not readable",
        "Share of the rollouts with a call that could not be read.",
        "It should fall to nearly 0 within some steps.",
        "A warm start on transcripts with calls.",
        share,
        "down",
    ),
    "infra_failure_share": Guide(
        "infrastructure failures",
        "Share of the rollouts without a reward because a tool, a grader or the engine broke.",
        "Above a few percent the samples that break are never learned.",
        "The page of tools has the errors by kind.",
        share,
        "down",
    ),
    "tool_calls_mean": Guide("tool calls", "Calls of a rollout.", "", "", number),
    "sampled_tokens_mean": Guide(
        "sampled tokens",
        "Tokens that the model wrote in a rollout.",
        "Growth by a factor of two can be what the grader pays for.",
        "See whether Why names longer answers.",
        number,
    ),
    "reasoning_tokens_mean": Guide("reasoning tokens", "Of the sampled tokens, those of thoughts.", "", "", number),
    "latency_p50_s": Guide("latency, median", "Seconds of a rollout.", "", "", seconds, "down"),
    "latency_p95_s": Guide("latency, p95", "Seconds that one in twenty rollouts exceeds.", "", "", seconds, "down"),
    "entropy": Guide(
        "entropy",
        "How open the policy is at each sampled token, in nats.",
        "A fall to a fifth of the start: rollouts become alike and teach nothing. A rise: it drifts.",
        "Lower the learning rate, raise clip_high or the temperature.",
        number,
    ),
    "kl_to_start": Guide(
        "distance to the start",
        "KL divergence from the model that training began with, per token, in nats.",
        "Above about 1 the model may have lost what it knew.",
        "kl_weight holds it.",
        number,
    ),
    "policy_change": Guide(
        "change by the update",
        "KL divergence between the policy before and after the update, per token, in nats.",
        "0.001 to 0.005 learns; 0 does nothing; above 0.02 it tends to fall apart.",
        "learning_rate_multiplier.",
        number,
    ),
    "clipped_share": Guide(
        "clipped", "Share of tokens whose gradient the clip took away.", "A third or more.", "A lower rate.", share
    ),
    "grad_norm": Guide("gradient norm", "Before clipping, mean of the optimizer steps.", "Spikes.", "", number),
    "logprob_gap_mean": Guide(
        "engine and learner apart",
        "Mean difference of the log-probabilities that the engine and the learner compute for the same tokens.",
        "Above 0.02 they compute something else.",
        "Report it: it is a bug, or an engine that lags behind.",
        number,
        "down",
    ),
    "step_s": Guide("a step", "Seconds of the whole step.", "", "", seconds, "down"),
    "missing_sample_key_share": Guide(
        "lacks what is graded",
        "Share of the rollouts that lack something that the grader reads, such as JSON.",
        "Above a few percent the grader's lowest score says nothing else.",
        "Ask for the format in the prompt, or set response_format.",
        share,
        "down",
    ),
}
TILES = (
    "reward_mean",
    "pass_at_1",
    "pass_at_k",
    "zero_variance_share",
    "tool_calls_mean",
    "sampled_tokens_mean",
    "reasoning_tokens_mean",
    "latency_p50_s",
    "latency_p95_s",
    "truncation_share",
    "parse_error_share",
    "infra_failure_share",
    "entropy",
    "kl_to_start",
    "policy_change",
    "clipped_share",
    "grad_norm",
    "logprob_gap_mean",
    "step_s",
)


def tiles(row: Mapping[str, Any], first: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The numbers of a step, each with its change since the first."""
    found: list[dict[str, Any]] = []
    for name in TILES:
        value, before, guide = row.get(name), first.get(name), GUIDES[name]
        if not isinstance(value, int | float) or (name == "reasoning_tokens_mean" and not value):
            continue
        change = value - before if isinstance(before, int | float) else 0.0
        direction = (
            "" if not guide.good or abs(change) < 1e-9 else "good" if (change > 0) == (guide.good == "up") else "bad"
        )
        told = "" if abs(change) < 1e-9 else f"{'+' if change > 0 else '-'}{guide.shown(abs(change))}"
        found.append(
            {
                "name": name,
                "label": guide.label,
                "value": value,
                "shown": guide.shown(value),
                "change": change,
                "change_shown": told,
                "direction": direction,
                "hint": guide.hint,
            }
        )
    return found
