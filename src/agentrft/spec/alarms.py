"""Alarms: what a job says, or stops for, when its training goes wrong in a way that its reward does not show."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from agentrft.spec.base import SpecModel
from agentrft.wire import is_object

AlarmAction = Literal["warn", "pause"]


class AlarmSpec(SpecModel):
    """One alarm.

    Attributes:
        threshold: it rings above this.
        action: "warn" is an event; "pause" is an event and ends the process after the step, to be resumed.
        over_steps: training steps over whose mean it looks.
    """

    threshold: Annotated[float, Field(gt=0)]
    action: AlarmAction = "warn"
    over_steps: Annotated[int, Field(ge=1)] = 3


class AlarmsSpec(SpecModel):
    """All alarms of a job. Each may also be given as a threshold, as an action, or as `false` for none.

    Attributes:
        zero_variance_share: of the groups, those whose rewards are all alike: they teach nothing.
        truncation_share: of the rollouts, those that ended because their tokens ran out.
        parse_error_share: of the rollouts, those with a call that could not be read.
        infra_failure_share: of the rollouts, those without a reward because a tool, grader or engine broke.
        first_attempt_failure_share: of the rollouts, those whose first attempt broke on infrastructure, whatever
            became of the second.
        repeated_call_share: of the tool calls, those equal to an earlier one of their rollout.
        missing_sample_key_share: of the graded rollouts, those that lack what the grader reads of them.
        output_length_drift: mean sampled tokens of a rollout against the first steps, as a factor, longer or shorter.
        behaviour_shift: by how much a behaviour's share of the rollouts rose, such as answering a search's first item,
            while the reward of those without it fell.
        entropy_collapse: mean entropy of sampled tokens in the first steps against now, as a factor.
        engine_mismatch: mean difference of the engine's log-probabilities and the learner's, of the same weights, in
            nats a token.
        holdout_divergence: by how much a holdout grader fell, from its best, while the reward rose by as much.
    """

    zero_variance_share: AlarmSpec | None = AlarmSpec(threshold=0.8)
    truncation_share: AlarmSpec | None = AlarmSpec(threshold=0.5)
    parse_error_share: AlarmSpec | None = AlarmSpec(threshold=0.5)
    infra_failure_share: AlarmSpec | None = AlarmSpec(threshold=0.2, over_steps=1)
    first_attempt_failure_share: AlarmSpec | None = AlarmSpec(threshold=0.1, over_steps=1)
    repeated_call_share: AlarmSpec | None = AlarmSpec(threshold=0.3)
    missing_sample_key_share: AlarmSpec | None = AlarmSpec(threshold=0.5)
    output_length_drift: AlarmSpec | None = AlarmSpec(threshold=2.0)
    behaviour_shift: AlarmSpec | None = AlarmSpec(threshold=0.2, over_steps=5)
    entropy_collapse: AlarmSpec | None = AlarmSpec(threshold=5.0)
    engine_mismatch: AlarmSpec | None = AlarmSpec(threshold=0.05, over_steps=1)
    holdout_divergence: AlarmSpec | None = AlarmSpec(threshold=0.05, over_steps=5)

    @field_validator("*", mode="before")
    @classmethod
    def _from_short(cls, given: Any, info: ValidationInfo) -> Any:
        usual = cls.model_fields[info.field_name or ""].default.model_dump()
        if given is None or given is False:
            return None
        if given is True:
            return usual
        if isinstance(given, int | float):
            return {**usual, "threshold": given}
        if isinstance(given, str):
            return {**usual, "action": given}
        return {**usual, **given} if is_object(given) else given

    @field_validator(
        "zero_variance_share",
        "truncation_share",
        "parse_error_share",
        "infra_failure_share",
        "first_attempt_failure_share",
        "repeated_call_share",
        "missing_sample_key_share",
        "behaviour_shift",
    )
    @classmethod
    def _shares_end_at_one(cls, alarm: AlarmSpec | None) -> AlarmSpec | None:
        if alarm is not None and alarm.threshold >= 1:
            raise ValueError(f"threshold: a share is never above 1, so {alarm.threshold:g} would never ring")
        return alarm

    @field_validator("output_length_drift", "entropy_collapse")
    @classmethod
    def _factors_begin_at_one(cls, alarm: AlarmSpec | None) -> AlarmSpec | None:
        if alarm is not None and alarm.threshold <= 1:
            raise ValueError("threshold: is a factor, such as 2 for twice as much or half of it; must be above 1")
        return alarm
