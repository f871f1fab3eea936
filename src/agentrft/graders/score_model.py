"""The score model: a judge that gives a number in a range, with the steps that led to it."""

import time
from typing import Any

from agentrft.data.templates import MissingSampleValue
from agentrft.graders.base import Grade, GraderSample
from agentrft.graders.judge import STEPS_SCHEMA, Judge, check_input, json_schema, reason_of, rendered
from agentrft.graders.scores import lowest_grade, number_of
from agentrft.spec.graders import ScoreModelGraderSpec
from agentrft.traffic import Notify, notify_nobody

RESPONSE_FORMAT = json_schema("score", {"steps": STEPS_SCHEMA, "result": {"type": "number"}})


class ScoreModelGrader:
    """Fills in the messages, asks the judge, and clips its `result` to the range.

    Raises:
        UserError: a template is malformed, or there is no key for the judge's server.
    """

    def __init__(
        self, spec: ScoreModelGraderSpec, *, notify: Notify = notify_nobody, backoff_s: float | None = None
    ) -> None:
        self.name = spec.name
        self.pass_threshold = spec.pass_threshold
        self._spec = spec
        check_input(spec.input, grader=spec.name)
        self.judge = Judge(spec, spec.name, notify=notify, backoff_s=backoff_s)

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout. One that lacks what a template reads gets the lowest of the range without the judge.

        Raises:
            GraderFailure: "missing_key", or as `Judge.ask`.
        """
        started = time.perf_counter()
        try:
            messages = rendered(self._spec.input, grader=self.name, sample=sample, item=item)
        except MissingSampleValue as missing:
            return lowest_grade(self._spec.range[0], missing, started=started)
        result, verdict = await self.judge.ask(messages, RESPONSE_FORMAT, _result, trace_id=trace_id)
        low, high = self._spec.range
        return Grade(
            score=min(max(result, low), high),
            reason=reason_of(verdict.value),
            faults=verdict.faults,
            usage=verdict.usage,
            latency_s=time.perf_counter() - started,
        )

    async def probe(self) -> None:
        await self.judge.probe()

    async def close(self) -> None:
        await self.judge.close()


def _result(value: Any) -> float:
    if not isinstance(value, dict) or "result" not in value:
        raise ValueError("expected an object with 'result'")
    return number_of(value["result"], "result")
