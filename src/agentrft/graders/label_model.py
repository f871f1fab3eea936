"""The label model: a judge that chooses one of several labels, some of which pass."""

import time
from typing import Any

from agentrft.data.templates import MissingSampleValue
from agentrft.graders.base import Grade, GraderSample
from agentrft.graders.judge import STEPS_SCHEMA, Judge, check_input, json_schema, reason_of, rendered
from agentrft.graders.scores import lowest_grade
from agentrft.spec.graders import LabelModelGraderSpec
from agentrft.traffic import Notify, notify_nobody


class LabelModelGrader:
    """1.0 where the judge's label is one of the passing ones, else 0.0.

    Raises:
        UserError: a template is malformed, or there is no key for the judge's server.
    """

    def __init__(
        self, spec: LabelModelGraderSpec, *, notify: Notify = notify_nobody, backoff_s: float | None = None
    ) -> None:
        self.name = spec.name
        self._spec = spec
        check_input(spec.input, grader=spec.name)
        self.judge = Judge(spec, spec.name, notify=notify, backoff_s=backoff_s)
        label = {"type": "string", "enum": list(spec.labels)}
        self._response_format = json_schema("label", {"steps": STEPS_SCHEMA, "result": label})

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout. One that lacks what a template reads gets 0 without the judge.

        Raises:
            GraderFailure: "missing_key", or as `Judge.ask`.
        """
        started = time.perf_counter()
        try:
            messages = rendered(self._spec.input, grader=self.name, sample=sample, item=item)
        except MissingSampleValue as missing:
            return lowest_grade(0.0, missing, started=started)
        label, verdict = await self.judge.ask(messages, self._response_format, self._label, trace_id=trace_id)
        reason = reason_of(verdict.value)
        return Grade(
            score=1.0 if label in self._spec.passing_labels else 0.0,
            reason=f"label: {label}" if reason is None else f"{reason}\nlabel: {label}",
            faults=verdict.faults,
            usage=verdict.usage,
            latency_s=time.perf_counter() - started,
        )

    async def probe(self) -> None:
        await self.judge.probe()

    async def close(self) -> None:
        await self.judge.close()

    def _label(self, value: Any) -> str:
        label = value.get("result") if isinstance(value, dict) else None
        if label not in self._spec.labels:
            raise ValueError(f"expected an object whose 'result' is one of {', '.join(self._spec.labels)}")
        return label
