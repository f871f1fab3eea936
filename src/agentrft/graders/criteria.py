"""The testing criteria of an eval: several graders of the same rollout, each with a result of its own."""

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.data.samples import Sample
from agentrft.graders.base import Grade, Grader, GraderFailure, GraderSample
from agentrft.graders.ranges import score_range
from agentrft.graders.registry import check_templates_of_all, create_grader
from agentrft.graders.uses import GraderUse, added_counts, added_uses
from agentrft.spec.graders import GraderSpec, MultiGraderSpec, PythonGraderSpec
from agentrft.traffic import Notify, notify_nobody

# As rewards are compared.
SAME_SCORE = 1e-9


@dataclass(frozen=True)
class Criterion:
    """A grader of an eval.

    Attributes:
        criterion_id: unique within its eval; its results are named by it.
    """

    criterion_id: str
    spec: GraderSpec

    @property
    def pass_threshold(self) -> float:
        """The score from which a rollout passes: the grader's own, else 1."""
        threshold = getattr(self.spec, "pass_threshold", None)
        return 1.0 if threshold is None else threshold

    @property
    def lowest(self) -> float | None:
        """The lowest score that the grader can give; None where its spec does not say."""
        known = score_range(self.spec)
        return None if known is None else known[0]

    @property
    def parts(self) -> Mapping[str, GraderSpec]:
        """The graders that it consists of, by the names under which they say what they took."""
        return self.spec.graders if isinstance(self.spec, MultiGraderSpec) else {self.criterion_id: self.spec}


@dataclass(frozen=True)
class CriterionResult:
    """What one criterion said of a rollout.

    Attributes:
        failure: why it has no score; None where it has one.
        usage: tokens that judges took, by model, then by the names of Chat Completions.
    """

    score: float | None
    passed: bool
    sub_scores: dict[str, float] = field(default_factory=dict[str, float])
    reason: str | None = None
    failure: str | None = None
    usage: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])


# The results of a rollout, by its trace_id; of its last attempt, where it has several.
Heard = Callable[[str, list[CriterionResult]], None]


class CriteriaGrader:
    """Asks all criteria at once; the grade is the mean of their scores.

    One that fails ends none of the others: their results are heard, and then the failure is raised.

    Args:
        heard: is told the results of each rollout, in the order of the criteria.
    """

    name = "criteria"

    def __init__(self, criteria: Sequence[Criterion], heard: Heard, *, notify: Notify = notify_nobody) -> None:
        self._criteria = list(criteria)
        self._heard = heard
        # They run at the same time, and more processes than cores make none of them faster.
        n_python = sum(isinstance(part, PythonGraderSpec) for one in criteria for part in one.parts.values())
        share = -(-(os.cpu_count() or 1) // max(1, n_python))
        self._graders: list[Grader] = [
            create_grader(one.spec.model_copy(update={"name": one.criterion_id}), notify=notify, n_workers=share)
            for one in criteria
        ]

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: of the first criterion that failed; `others` of it is what the rest had taken.
        """
        started = time.perf_counter()
        found = await asyncio.gather(
            *(grader.grade(sample, item=item, trace_id=trace_id) for grader in self._graders), return_exceptions=True
        )
        outcomes: list[Grade | GraderFailure] = []
        for one in found:
            if not isinstance(one, Grade | GraderFailure):
                raise one
            outcomes.append(one)
        self._heard(trace_id, [_result(*pair) for pair in zip(self._criteria, outcomes, strict=True)])
        named = dict(zip((one.criterion_id for one in self._criteria), outcomes, strict=True))
        failures = [one for one in outcomes if isinstance(one, GraderFailure)]
        if failures:
            first = failures[0]
            first.others |= added_uses(_uses(name, one) for name, one in named.items() if one is not first)
            raise first
        grades = {name: one for name, one in named.items() if isinstance(one, Grade)}
        scores = [grade.score for grade in grades.values()]
        return Grade(
            score=math.fsum(scores) / len(scores),
            sub_scores={name: grade.score for name, grade in grades.items()},
            reason="\n".join(f"{name}: {grade.reason}" for name, grade in grades.items() if grade.reason) or None,
            errors=[f"{name}: {error}" for name, grade in grades.items() for error in grade.errors],
            faults=added_counts(grade.faults for grade in grades.values()),
            usage=added_counts(grade.usage for grade in grades.values()),
            latency_s=time.perf_counter() - started,
            parts=added_uses(grade.uses(name) for name, grade in grades.items()),
            missing=list(dict.fromkeys(reference for grade in grades.values() for reference in grade.missing)),
        )

    async def probe(self) -> None:
        """Nothing: a criterion whose server is gone fails alone."""

    async def close(self) -> None:
        """Close all graders."""
        await asyncio.gather(*(grader.close() for grader in self._graders))


def failed_results(criteria: Sequence[Criterion], failure_kind: str) -> list[CriterionResult]:
    """The results of a rollout in which the agent failed, and which no grader saw: the lowest of each."""
    reason = f"the agent failed: {failure_kind}"
    return [CriterionResult(one.lowest or 0.0, False, reason=reason) for one in criteria]


def lowest_mean(criteria: Sequence[Criterion]) -> float | None:
    """The lowest mean that the criteria can give; None where one of them does not say."""
    lows = [low for one in criteria if (low := one.lowest) is not None]
    return math.fsum(lows) / len(lows) if len(lows) == len(criteria) else None


def check_criteria(criteria: Sequence[Criterion], samples: Sequence[Sample]) -> None:
    """As `check_templates`, for all criteria. Raises UserError."""
    check_templates_of_all((one.spec for one in criteria), samples)


def _result(criterion: Criterion, outcome: Grade | GraderFailure) -> CriterionResult:
    usage = _usage_by_model(criterion, _uses(criterion.criterion_id, outcome))
    if isinstance(outcome, GraderFailure):
        return CriterionResult(None, False, failure=str(outcome), usage=usage)
    passed = outcome.score >= criterion.pass_threshold - SAME_SCORE
    return CriterionResult(outcome.score, passed, dict(outcome.sub_scores), outcome.reason, usage=usage)


def _uses(name: str, outcome: Grade | GraderFailure) -> dict[str, GraderUse]:
    return outcome.uses if isinstance(outcome, GraderFailure) else outcome.uses(name)


def _usage_by_model(criterion: Criterion, uses: Mapping[str, GraderUse]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for name, part in criterion.parts.items():
        model = getattr(part, "model", None)
        if model is not None and name in uses and uses[name].usage:
            found[model] = added_counts((found.get(model, {}), uses[name].usage))
    return found
