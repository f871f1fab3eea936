"""Doing what a run says: rows that came with answers are graded; others are answered first, as `agentrft eval` does."""

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any

from agentrft.data import Sample
from agentrft.graders import GraderFailure, GraderSample
from agentrft.graders.criteria import CriteriaGrader, Criterion, check_criteria, lowest_mean
from agentrft.job.progress import NoProgress
from agentrft.job.stop import Stop
from agentrft.report.summary import summarise
from agentrft.rollout.record import Rollout
from agentrft.server.evals.kept import KeptItems
from agentrft.server.evals.plan import RunPlan, SampledBy
from agentrft.server.evals.rows import EvalRow, check_samples_are_there, given_answers, prompts
from agentrft.server.records.evals import EvalRecords
from agentrft.spec import JobSpec
from agentrft.tools import call_judge, declared_tools

# Rows that are graded at once, and kept in one transaction.
AT_ONCE = 64


async def run_plan(
    plan: RunPlan, rows: Sequence[EvalRow], records: EvalRecords, run_id: str, owner: str, stop: Stop
) -> dict[str, Any]:
    """Answer and grade all rows, and keep an output item for each; what an earlier worker kept stays.

    Returns:
        The summary, as `agentrft eval --json` prints it.

    Raises:
        Interrupted: a stop was requested, or the run has ended.
        UserError: rows, graders, tools or model cannot be used.
    """
    criteria = plan.criteria
    check_criteria(criteria, [Sample(row.row_id, [], [], row.item) for row in rows])
    kept = partial(KeptItems, records, run_id, owner, criteria, rows)
    if plan.sampled_by is None:
        check_samples_are_there(rows, criteria)
        answers = given_answers(rows)
        n_prompts = [_n_prompt(answer.messages) for answer in answers]
        rollouts = await _grade(rows, answers, criteria, kept(n_prompts), stop)
    else:
        rollouts = await _answer(plan.sampled_by, rows, criteria, kept, stop)
    threshold = criteria[0].pass_threshold if len(criteria) == 1 else 1.0
    return summarise(rollouts, pass_threshold=threshold).as_dict()


async def _answer(
    by: SampledBy,
    rows: Sequence[EvalRow],
    criteria: Sequence[Criterion],
    new_kept: Callable[..., KeptItems],
    stop: Stop,
) -> list[Rollout]:
    # With torch, which rows that are only graded do without.
    from agentrft.job.evaluation import evaluate
    from agentrft.job.references import BASE, ModelReference

    # Calls that nobody can make are the answer, and so the end; they are held against the rows' own tools.
    calls_end = not by.job.tools and (bool(by.tools) or any(row.item.get("tools") for row in rows))
    judge = call_judge() if calls_end else call_judge(declared_tools(by.job.tools))
    samples = prompts(rows, by.messages, by.tools, judge)
    kept = new_kept([len(sample.messages) for sample in samples])
    evaluation = await evaluate(
        _measured(by.job, criteria),
        ModelReference(by.model if by.job.start_from else BASE, folder=by.job.start_from),
        rollouts_per_sample=1,
        temperature=by.temperature,
        progress=NoProgress(),
        stop=stop,
        given=samples,
        grader=lambda notices: CriteriaGrader(criteria, kept.heard, notify=notices),
        store=kept,
        calls_end=calls_end,
    )
    kept.settle(evaluation.rollouts)
    return evaluation.rollouts


def _measured(job: JobSpec, criteria: Sequence[Criterion]) -> JobSpec:
    """The job whose rollouts are measured: a failure of the agent's gets the lowest mean that the criteria can give,
    where they say.
    """
    if job.model_failed_reward != "auto":
        return job
    lowest = lowest_mean(criteria)
    if lowest is not None:
        return job.model_copy(update={"model_failed_reward": lowest})
    # With a grader that does not say, it is the lowest that was given.
    return job.model_copy(update={"grader": next(one.spec for one in criteria if one.lowest is None)})


def _n_prompt(messages: Sequence[Mapping[str, Any]]) -> int:
    """Of a conversation that ends in an answer: what is not the assistant's last turns."""
    said = takewhile(lambda message: message["role"] == "assistant", reversed(messages))
    return len(messages) - len(list(said))


async def _grade(
    rows: Sequence[EvalRow],
    answers: Sequence[GraderSample],
    criteria: Sequence[Criterion],
    kept: KeptItems,
    stop: Stop,
) -> list[Rollout]:
    done = {key: Rollout.from_dict(record) for key, record in kept.pending_rollouts("", "", 0).items()}
    left = [pair for pair in zip(rows, answers, strict=True) if f"{pair[0].row_id}/0" not in done]
    grader = CriteriaGrader(criteria, kept.heard)

    async def grade_all() -> None:
        for start in range(0, len(left), AT_ONCE):
            graded = await asyncio.gather(*(_graded(grader, *pair) for pair in left[start : start + AT_ONCE]))
            kept.put([rollout.as_dict() for rollout in graded])
            done.update({f"{rollout.sample_id}/0": rollout for rollout in graded})

    try:
        await stop.or_stopped(grade_all())
    finally:
        await grader.close()
    return [done[f"{row.row_id}/0"] for row in rows]


async def _graded(grader: CriteriaGrader, row: EvalRow, answer: GraderSample) -> Rollout:
    trace_id = f"trace_{uuid.uuid4().hex}"
    rollout = Rollout(
        trace_id,
        1,
        row.row_id,
        0,
        0,
        "infra_failed",
        [],
        answer.messages,
        output_text=answer.output_text,
        started_at=time.time(),
    )
    try:
        rollout.grade = await grader.grade(answer, item=row.item, trace_id=trace_id)
    except GraderFailure as failure:
        rollout.failure_kind, rollout.failure_message = f"grader:{failure.kind}", str(failure)
        rollout.graders = failure.uses
    else:
        rollout.outcome, rollout.reward = "graded", rollout.grade.score
        rollout.graders = rollout.grade.uses(grader.name)
    return rollout
