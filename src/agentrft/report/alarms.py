"""Which of a job's alarms ring: a pure function of its steps' metrics, so that a resumed job knows what rang before."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrft.report.averages import mean
from agentrft.report.behaviours import shifts, that_show
from agentrft.report.hacking import divergences, most_suspicious
from agentrft.report.summary import has_parse_error, lacks_what_is_read, ran_out_of_tokens, repeated_calls
from agentrft.rollout.record import Rollout
from agentrft.spec import AlarmSpec, AlarmsSpec

ROLLOUTS_SHOWN = 3
UNLEARNED = (
    "Read some; more `minibatches` and `replay_rollouts` keep what is rare, and a tool whose results come in another "
    "order each time makes place no short cut."
)

# What a share is of, for the event's text, and what helps.
SHARES = {
    "zero_variance_share": (
        "of the groups had rewards that were all alike, and taught nothing",
        "Take samples of middling difficulty (`sample_by: difficulty` does), or give more levels of credit.",
    ),
    "truncation_share": (
        "of the rollouts ended because their tokens ran out",
        "Raise max_tokens_per_turn or max_context_tokens, reward shorter answers, or let the model think less "
        "(`chat_template_kwargs`).",
    ),
    "parse_error_share": (
        "of the rollouts had a tool call that could not be read",
        "Lower the learning rate, or warm start on demonstrations of calls.",
    ),
    "infra_failure_share": (
        "of the rollouts got no reward because infrastructure broke",
        "Mend the endpoint that the step's `failures` name.",
    ),
    "first_attempt_failure_share": (
        "of the rollouts broke on infrastructure at their first attempt",
        "Mend it: what it breaks on is sampled again until it does not, so the policy is trained on the rest alone.",
    ),
    "repeated_call_share": (
        "of the tool calls were equal to an earlier one of their rollout",
        "Price repeated calls: a `trace` grader with `measure: repeated_calls` in `multi`.",
    ),
    "missing_sample_key_share": (
        "of the graded rollouts lacked what the grader reads of them, and got its lowest score",
        "Say in the prompt in which form to answer, or correct the grader's templates; the grades' reasons name it.",
    ),
}


@dataclass(frozen=True)
class Alarm:
    """An alarm that rings.

    Attributes:
        key: its name in the spec; with the holdout's or the behaviour's own after a colon.
    """

    key: str
    value: float
    threshold: float
    action: str
    text: str

    @property
    def name(self) -> str:
        return self.key.partition(":")[0]


def ringing(spec: AlarmsSpec, steps: Sequence[Mapping[str, Any]]) -> dict[str, Alarm]:
    """The alarms that ring after the last of `steps`, by key.

    Args:
        steps: metrics of the training steps, in order.
    """
    alarms = []
    for name, (what, remedy) in SHARES.items():
        alarm: AlarmSpec | None = getattr(spec, name)
        if alarm is None or len(steps) < alarm.over_steps:
            continue
        value = mean(step.get(name, 0.0) for step in steps[-alarm.over_steps :])
        kinds = _kinds(steps[-alarm.over_steps :]) if name == "first_attempt_failure_share" else ""
        text = f"{value:.0%} {what}{kinds} ({_when(alarm)}; alarm above {alarm.threshold:.0%}). {remedy}"
        alarms.append(_alarm(name, value, alarm, text))
    if spec.output_length_drift is not None:
        alarms += _drift(spec.output_length_drift, steps)
    if spec.entropy_collapse is not None:
        alarms += _collapse(spec.entropy_collapse, steps)
    if spec.engine_mismatch is not None:
        alarms += _mismatch(spec.engine_mismatch, steps)
    if spec.behaviour_shift is not None:
        alarm = spec.behaviour_shift
        for shift in shifts(steps, least_rise=alarm.threshold, window=alarm.over_steps):
            text = f"{shift.text} ({_when(alarm)}; alarm from a rise of {alarm.threshold:.0%}). {UNLEARNED}"
            alarms.append(Alarm(f"behaviour_shift:{shift.name}", shift.rise, alarm.threshold, alarm.action, text))
    if spec.holdout_divergence is not None:
        alarm = spec.holdout_divergence
        for found in divergences(steps, least_change=alarm.threshold, window=alarm.over_steps):
            key = f"holdout_divergence:{found.holdout}"
            alarms.append(Alarm(key, found.fall, alarm.threshold, alarm.action, found.text))
    # These are found by their threshold; the others are measured whatever theirs is.
    found = ("holdout_divergence", "behaviour_shift")
    return {one.key: one for one in alarms if one.value > one.threshold or one.name in found}


def _mismatch(alarm: AlarmSpec, steps: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    """Of steps whose rollouts were sampled by the very policy that they train: else an update lies between."""
    last = steps[-alarm.over_steps :]
    gaps = [
        step["logprob_gap_mean"] for step in last if not step.get("off_policy_steps") and "logprob_gap_mean" in step
    ]
    if len(gaps) < alarm.over_steps:
        return []
    value = mean(gaps)
    text = (
        f"engine and learner differ by {value:.2g} nats a token in the log-probabilities of the same weights "
        f"({_when(alarm)}; alarm above {alarm.threshold:g}): the engine samples from other weights, or computes them "
        "otherwise. See that it applies the adapter, and that both use the same `dtype`; until then the ratio between "
        "the two weighs the tokens, cut at 2."
    )
    return [_alarm("engine_mismatch", value, alarm, text)]


def rollouts_that_show(alarm: Alarm, rollouts: Sequence[Rollout]) -> list[str]:
    """Trace ids of a step's rollouts to read, at most `ROLLOUTS_SHOWN`, those that show it best first."""
    if alarm.name == "holdout_divergence":
        return most_suspicious(rollouts, alarm.key.partition(":")[2])
    if alarm.name == "behaviour_shift":
        return that_show(alarm.key.partition(":")[2], rollouts)[:ROLLOUTS_SHOWN]
    how_much: dict[str, Callable[[Rollout], float]] = {
        "truncation_share": lambda rollout: rollout.sampled_tokens * ran_out_of_tokens(rollout),
        "parse_error_share": has_parse_error,
        "infra_failure_share": lambda rollout: rollout.outcome == "infra_failed",
        "first_attempt_failure_share": lambda rollout: rollout.first_attempt_failure is not None,
        "repeated_call_share": repeated_calls,
        "missing_sample_key_share": lacks_what_is_read,
        "output_length_drift": lambda rollout: rollout.sampled_tokens,
    }
    measure = how_much.get(alarm.name)
    if measure is None:
        return []
    shown = sorted((rollout for rollout in rollouts if measure(rollout) > 0), key=measure, reverse=True)
    return [rollout.trace_id for rollout in shown[:ROLLOUTS_SHOWN]]


def _drift(alarm: AlarmSpec, steps: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    if len(steps) < 2 * alarm.over_steps:
        return []
    first = mean(step["sampled_tokens_mean"] for step in steps[: alarm.over_steps])
    last = mean(step["sampled_tokens_mean"] for step in steps[-alarm.over_steps :])
    if min(first, last) <= 0:
        return []
    value = max(last / first, first / last)
    text = (
        f"rollouts became {'longer' if last > first else 'shorter'} by a factor of {value:.1f}: {first:.0f} to "
        f"{last:.0f} sampled tokens ({_when(alarm)}; alarm above {alarm.threshold:g}). "
        "Read some: length can be what the grader rewards."
    )
    return [_alarm("output_length_drift", value, alarm, text)]


def _collapse(alarm: AlarmSpec, steps: Sequence[Mapping[str, Any]]) -> list[Alarm]:
    # A step without an update has no entropy.
    known = [step["entropy"] for step in steps if step.get("sampled_tokens", 0) and "entropy" in step]
    if len(known) < 2 * alarm.over_steps:
        return []
    first, last = mean(known[: alarm.over_steps]), mean(known[-alarm.over_steps :])
    if min(first, last) <= 0:
        return []
    text = (
        f"the entropy of sampled tokens fell by a factor of {first / last:.1f}, from {first:.3f} to {last:.3f} nats "
        f"({_when(alarm)}; alarm above {alarm.threshold:g}): rollouts of a sample become alike, and teach nothing. "
        "Lower the learning rate, raise clip_high or the temperature, or end here."
    )
    return [_alarm("entropy_collapse", first / last, alarm, text)]


def _kinds(steps: Sequence[Mapping[str, Any]]) -> str:
    """What the first attempts of these steps broke on, the most frequent first."""
    counts = sum((Counter(step.get("first_attempt_failures", {})) for step in steps), start=Counter[str]())
    return ": " + ", ".join(f"{count} x {kind}" for kind, count in counts.most_common()) if counts else ""


def _alarm(name: str, value: float, spec: AlarmSpec, text: str) -> Alarm:
    return Alarm(name, value, spec.threshold, spec.action, text)


def _when(alarm: AlarmSpec) -> str:
    return "in the last step" if alarm.over_steps == 1 else f"over the last {alarm.over_steps} steps"
