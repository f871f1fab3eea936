"""Watching a job's steps for what its reward does not show, and pausing it where the user wants that."""

from collections.abc import Callable, Collection, Sequence
from typing import Any

from agentrft.errors import JobPaused
from agentrft.report.alarms import ringing, rollouts_that_show
from agentrft.rollout import Rollout
from agentrft.spec import AlarmsSpec


class Watch:
    """The alarms of one job. One that goes on ringing is told once, and again after it was quiet.

    Args:
        steps: metrics of the steps before, whose alarms were told in their time.
        tell: gets an alarm's text and data: `{"alarm", "step", "value", "threshold", "action", "trace_ids"}`.
    """

    def __init__(
        self, spec: AlarmsSpec, steps: Sequence[dict[str, Any]], tell: Callable[[str, dict[str, Any]], None]
    ) -> None:
        self._spec = spec
        self._steps = list(steps)
        self._tell = tell
        self._rang = set(ringing(spec, self._steps))
        self._pausing = ""

    def look(
        self, step: int, metrics: dict[str, Any], rollouts: Sequence[Rollout], *, told: Collection[str] = ()
    ) -> None:
        """Take a committed step in, and tell what begins to ring.

        Args:
            told: keys of alarms that an earlier process told of this step.
        """
        self._steps.append(metrics)
        now = ringing(self._spec, self._steps)
        for key in sorted(now.keys() - self._rang - set(told)):
            alarm = now[key]
            data = {
                "alarm": key,
                "step": step,
                "value": alarm.value,
                "threshold": alarm.threshold,
                "action": alarm.action,
                "trace_ids": rollouts_that_show(alarm, rollouts),
            }
            shown = " Read " + ", ".join(data["trace_ids"]) + "." if data["trace_ids"] else ""
            self._tell(f"step {step}: {alarm.text}{shown}", data)
            if alarm.action == "pause":
                self._pausing = alarm.text
        self._rang = set(now)

    def pause_if_asked(self, job_id: str) -> None:
        """Raise JobPaused if an alarm that pauses began to ring."""
        if self._pausing:
            raise JobPaused(
                f"paused by an alarm: {self._pausing}",
                f"Mend what it says, or go on as it is: `agentrft train --resume {job_id}`.",
            )
