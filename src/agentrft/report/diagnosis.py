"""How a job goes, in words, and where nothing is learned which of the known reasons it is.

A pure function of the committed metrics, so that it says the same of a running job, of a finished one, and in a report.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentrft.report.averages import mean
from agentrft.report.intervals import Interval, mean_interval

Level = Literal["good", "note", "bad"]
# Of the last steps so many are looked at.
WINDOW = 2
NEARLY_ALL, MOST = 0.95, 0.8
SAME = 1e-9
# A turn of fewer tokens says nothing.
EMPTY_TOKENS = 2.5
# KL per token, in nats, below which an update has done nothing; a working one has 1e-4 and more.
NO_CHANGE = 1e-7
# Of so many steps a flat reward says something.
STEPS_TO_LEARN = 10


@dataclass(frozen=True)
class Diagnosis:
    """Something that is so, what it means, and what to do.

    Attributes:
        key: a short name, for programs.
        text, remedy: sentences; the remedy may be empty.
    """

    key: str
    level: Level
    text: str
    remedy: str = ""

    def as_dict(self) -> dict[str, Any]:
        return {"key": self.key, "level": self.level, "text": self.text, "remedy": self.remedy}


def diagnose(metrics: Sequence[Mapping[str, Any]]) -> list[Diagnosis]:
    """What is to be said of a job, the most important first.

    Args:
        metrics: `JobStore.metrics`.
    """
    # Jobs without rollouts commit training steps, too, which have a loss and no reward.
    rewarded = [row for row in metrics if row.get("reward_mean") is not None]
    train = [row for row in rewarded if row["phase"] == "train"]
    looked_at = train[-WINDOW:] or [row for row in rewarded if row["phase"] == "validation"][-1:]
    if not looked_at:
        return _of_losses(metrics)
    reason = _why_nothing_is_learned(looked_at, is_training=bool(train))
    found = [reason] if reason is not None else []
    progress = _progress(train) if reason is None else None
    if progress is not None:
        found.append(progress)
    return found + _beside(train)


def _of_losses(metrics: Sequence[Mapping[str, Any]]) -> list[Diagnosis]:
    """Of a job that learns from examples."""
    losses = [float(row["loss"]) for row in metrics if row["phase"] == "train" and row.get("loss") is not None]
    if not losses:
        return [Diagnosis("not_begun", "note", "No step is finished yet.")]
    size = max(1, len(losses) // 3)
    before, after = mean(losses[:size]), mean(losses[-size:])
    text = f"The training loss went from {before:.3f} to {after:.3f} in {len(losses)} steps."
    return [Diagnosis("loss", "good" if after < before else "note", text)]


def _why_nothing_is_learned(rows: Sequence[Mapping[str, Any]], *, is_training: bool) -> Diagnosis | None:
    """The first of the known reasons that holds in all of these steps."""

    # What an older record lacks is no reason: it is neither low nor high.
    def lowest(name: str) -> float:
        return min(float(row[name]) if row.get(name) is not None else 0.0 for row in rows)

    def highest(name: str) -> float:
        return max(float(row[name]) if row.get(name) is not None else math.inf for row in rows)

    if lowest("infra_failure_share") >= 0.5:
        return Diagnosis(
            "infrastructure",
            "bad",
            f"Nothing can be learned while {lowest('infra_failure_share'):.0%} of the rollouts or more break on "
            f"infrastructure{_examples(rows)}.",
            "Mend the endpoint; what broke is never trained on.",
        )
    if lowest("truncation_share") >= MOST:
        return Diagnosis(
            "cut_off",
            "bad",
            f"{lowest('truncation_share'):.0%} of the rollouts or more are cut off before they answer.",
            "Raise max_tokens_per_turn or max_context_tokens, or let the model think less.",
        )
    if highest("sampled_tokens_mean") <= EMPTY_TOKENS:
        return Diagnosis(
            "empty_turns",
            "bad",
            f"Turns end at once: a rollout has {highest('sampled_tokens_mean'):.1f} sampled tokens.",
            "The chat template or the end-of-turn token does not fit the model: see `agentrft models inspect`, or give "
            "a warm start.",
        )
    if (broken := min(_failing_calls(row) for row in rows)) >= MOST:
        return Diagnosis(
            "tools_fail",
            "bad",
            f"{broken:.0%} of the tool calls fail: what the agent reads is errors.",
            "Look at the calls on the page of tools: their status says whether the server or the arguments are wrong.",
        )
    if highest("reward_std") <= SAME:
        return _one_reward(rows)
    if is_training and lowest("zero_variance_share") >= NEARLY_ALL:
        return Diagnosis(
            "no_variance",
            "bad",
            "The rollouts of a sample all get the same reward, and only samples differ: nothing is better than "
            "anything else.",
            "Take samples of middling difficulty, a higher compute_multiplier, or a grader with more levels.",
        )
    moved = _moved(rows) if is_training else None
    if moved is not None and moved < NO_CHANGE:
        return Diagnosis(
            "no_change",
            "bad",
            f"The updates do not change the policy (KL {moved:.1g} nats a token): the learning rate is too low to "
            "do anything.",
            "Raise learning_rate_multiplier; `agentrft check` measures how far one update moves the policy.",
        )
    return None


def _moved(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """How far updates moved the policy at most, in nats a token; None where nothing says so.

    An update of a single optimizer step never sees what it did; what later steps are apart from the start says it.
    """
    seen = [float(row.get("policy_change") or 0.0) for row in rows if (row.get("optimizer_steps") or 0) > 1]
    apart = [float(row["kl_to_start"]) for row in rows if row.get("kl_to_start") is not None and row["step"] > 1]
    return max(seen or apart, default=None)


def _one_reward(rows: Sequence[Mapping[str, Any]]) -> Diagnosis:
    value = float(rows[-1]["reward_mean"])
    if abs(value) <= SAME:
        return Diagnosis(
            "all_zero",
            "bad",
            "Every rollout has reward 0: there is no success to make more likely.",
            "Give a warm start, partial credit, easier samples or more rollouts a sample; read a few rollouts first.",
        )
    if all(float(row.get("pass_at_1") or 0.0) >= 1.0 for row in rows):
        return Diagnosis(
            "all_right",
            "bad",
            f"Every rollout passes with reward {value:g}: there is nothing left to learn from these samples.",
            "Take harder samples, or a stricter grader.",
        )
    return Diagnosis(
        "constant_grader",
        "bad",
        f"The grader gives {value:g} whatever the agent does.",
        "Try it on answers that are right and wrong: `agentrft grade`.",
    )


def _progress(train: Sequence[Mapping[str, Any]]) -> Diagnosis | None:
    """The reward's way so far, from the first third of the steps to the last."""
    if len(train) < 2:
        return None
    size = max(1, len(train) // 3)
    first, last = train[:size], train[-size:]
    before, after = mean(row["reward_mean"] for row in first), mean(row["reward_mean"] for row in last)
    change = _change(first, last)
    text = f"The training reward went from {before:.3f} (steps 1 to {first[-1]['step']}) to {after:.3f} (steps "
    text += f"{last[0]['step']} to {last[-1]['step']})"
    if any((row.get("epoch") or 1) > 1 for row in last):
        text += " on samples that it had trained on before"
    if change.leaves_out_0:
        is_up = change.mean > 0
        return Diagnosis("rises" if is_up else "falls", "good" if is_up else "bad", f"{text}, beyond chance.")
    if len(train) >= STEPS_TO_LEARN:
        return Diagnosis(
            "flat",
            "bad",
            f"{text}: no more than chance after {len(train)} steps.",
            "Look at what the updates pay for on the page Why; raise the learning rate or compute_multiplier.",
        )
    return Diagnosis("early", "note", f"{text}: too few steps to tell.")


def _change(first: Sequence[Mapping[str, Any]], last: Sequence[Mapping[str, Any]]) -> Interval:
    """Of the mean of the steps' rewards; a step's own noise is that of its rollouts."""
    if min(len(first), len(last)) >= 3:
        pairs = zip([row["reward_mean"] for row in first], [row["reward_mean"] for row in last], strict=True)
        return mean_interval([after - before for before, after in pairs])
    variance = sum(
        mean((row.get("reward_std") or 0.0) ** 2 / max(1, row.get("samples") or 1) for row in rows) / len(rows)
        for rows in (first, last)
    )
    centre, half = (
        mean(row["reward_mean"] for row in last) - mean(row["reward_mean"] for row in first),
        2 * variance**0.5,
    )
    return Interval(centre, centre - half, centre + half)


def _beside(train: Sequence[Mapping[str, Any]]) -> list[Diagnosis]:
    """What hampers learning without preventing it."""
    found: list[Diagnosis] = []
    last = train[-WINDOW:]
    if not last:
        return found
    flat = mean(row.get("zero_variance_share") or 0.0 for row in last)
    if 0.5 <= flat < NEARLY_ALL:
        found.append(
            Diagnosis(
                "little_variance",
                "note",
                f"{flat:.0%} of the groups have rewards that are all alike, and teach nothing.",
                "`sample_by: difficulty` or `dynamic_sampling` replaces them.",
            )
        )
    broken = mean(row.get("infra_failure_share") or 0.0 for row in last)
    if 0.05 <= broken < 0.5:
        found.append(
            Diagnosis(
                "some_infrastructure", "note", f"{broken:.0%} of the rollouts break on infrastructure{_examples(last)}."
            )
        )
    cut = mean(row.get("truncation_share") or 0.0 for row in last)
    if 0.1 <= cut < MOST:
        found.append(
            Diagnosis("some_cut_off", "note", f"{cut:.0%} of the rollouts are cut off.", "Raise max_tokens_per_turn.")
        )
    known = [row["entropy"] for row in train if row.get("entropy")]
    if len(known) >= 4 and mean(known[-2:]) < 0.2 * mean(known[:2]):
        found.append(
            Diagnosis(
                "entropy",
                "note",
                f"The entropy of sampled tokens fell from {mean(known[:2]):.2f} to {mean(known[-2:]):.2f} nats: "
                "rollouts of a sample become alike.",
                "Lower the learning rate, raise clip_high or the temperature, or end here.",
            )
        )
    return found


def _failing_calls(row: Mapping[str, Any]) -> float:
    statuses: Mapping[str, int] = row.get("tool_statuses") or {}
    total = sum(statuses.values())
    return 1 - sum(statuses.get(one, 0) for one in ("ok", "cut")) / total if total else 0.0


def _examples(rows: Sequence[Mapping[str, Any]]) -> str:
    kinds = {kind for row in rows for kind in (row.get("faults") or {})}
    return f" ({', '.join(sorted(kinds)[:3])})" if kinds else ""
