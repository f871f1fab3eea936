"""Grading what there is already: a grader can be worked on without a model and without a single tool call."""

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrft.data import Sample
from agentrft.graders import Grade, GraderFailure, GraderSample, create_grader, given_sample
from agentrft.rollout import Rollout, grader_sample
from agentrft.spec import GraderSpec


@dataclass(frozen=True)
class Regrade:
    """A rollout's score before, and what the grader says now.

    Attributes:
        before: None where it had no grade.
        after: None where the grader failed.
        failure: why it did.
        missing: what the grader's templates read and the rollout lacks: then the score is the grader's lowest.
    """

    trace_id: str
    sample_id: str
    before: float | None
    after: float | None
    sub_scores: dict[str, float] = field(default_factory=dict)
    reason: str | None = None
    failure: str | None = None
    missing: list[str] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    latency_s: float = 0.0


async def regrade(
    spec: GraderSpec, rollouts: Sequence[Rollout], samples: Mapping[str, Sample]
) -> tuple[list[Regrade], int]:
    """Grade finished rollouts, and say how many were left out: of rows that are not there, or without an answer
    where unfinished ones were not graded either.

    Args:
        samples: by id; the job's data as it is now.

    Raises:
        UserError: the grader cannot work.
    """
    grader = create_grader(spec)
    answered = [one for one in rollouts if (one.output_text or one.grade is not None) and one.sample_id in samples]
    try:
        grades = await asyncio.gather(
            *(_grade(grader, grader_sample(one), samples[one.sample_id].item, one.trace_id) for one in answered)
        )
    finally:
        await grader.close()
    found = [
        Regrade(one.trace_id, one.sample_id, None if one.grade is None else one.grade.score, **grade)
        for one, grade in zip(answered, grades, strict=True)
    ]
    return found, len(rollouts) - len(answered)


async def grade_answer(
    spec: GraderSpec, answer: str, sample: Sample, output_tools: Sequence[dict[str, Any]] = ()
) -> Regrade:
    """What a grader says to an answer that a person wrote, after calls as `read_output_tools` returns them."""
    grader = create_grader(spec)
    trace_id = f"trace_{uuid.uuid4().hex}"
    try:
        grade = await _grade(grader, given_sample(answer, output_tools, sample.messages), sample.item, trace_id)
    finally:
        await grader.close()
    return Regrade(trace_id, sample.sample_id, None, **grade)


async def _grade(grader: Any, sample: GraderSample, item: dict[str, Any], trace_id: str) -> dict[str, Any]:
    try:
        grade: Grade = await grader.grade(sample, item=item, trace_id=trace_id)
    except GraderFailure as failure:
        return {"after": None, "failure": str(failure)}
    return {
        "after": grade.score,
        "sub_scores": grade.sub_scores,
        "reason": grade.reason,
        "missing": grade.missing,
        "usage": grade.usage,
        "latency_s": grade.latency_s,
    }
