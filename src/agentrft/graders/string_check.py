"""The string check: 1.0 or 0.0 by comparing two texts."""

import time
from typing import Any

from agentrft.data.templates import MissingSampleValue
from agentrft.graders.base import Grade, GraderSample
from agentrft.graders.scores import check_template, lowest_grade, render_all
from agentrft.spec.graders import StringCheckGraderSpec


class StringCheckGrader:
    """Compares `input` to `reference`.

    `eq` and `ne` (also `neq`) compare the whole texts exactly, `like` asks whether `input` contains
    `reference`, `ilike` the same without regard to case.

    Raises:
        UserError: a template is malformed.
    """

    def __init__(self, spec: StringCheckGraderSpec) -> None:
        self.name = spec.name
        self._spec = spec
        check_template(spec.input, grader=spec.name, field="input")
        check_template(spec.reference, grader=spec.name, field="reference")

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout: 0 where it lacks what a template reads of it, also for `ne`.

        Raises:
            GraderFailure: "missing_key", the row lacks what a template reads of it.
        """
        started = time.perf_counter()
        templates = [self._spec.input, self._spec.reference]
        try:
            text, reference = render_all(templates, grader=self.name, sample=sample, item=item)
        except MissingSampleValue as missing:
            return lowest_grade(0.0, missing, started=started)
        score = 1.0 if self._holds(text, reference) else 0.0
        return Grade(score=score, latency_s=time.perf_counter() - started)

    async def probe(self) -> None:
        """It has no server."""

    async def close(self) -> None:
        """Nothing to release."""

    def _holds(self, text: str, reference: str) -> bool:
        match self._spec.operation:
            case "eq":
                return text == reference
            case "ne" | "neq":
                return text != reference
            case "like":
                return reference in text
            case "ilike":
                return reference.casefold() in text.casefold()
