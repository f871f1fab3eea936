"""The grader of a job on real rollouts: its spread, its time, its price, and whether it says the same twice."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence

from agentrft.data import Sample
from agentrft.graders import Grade, Grader, GraderFailure, GraderSample, dry_run, score_range
from agentrft.job.check.findings import CheckReport, GraderReport
from agentrft.job.runtime import Runtime
from agentrft.report import cli_ways, quantile, summarise, verdict
from agentrft.report.summary import SAME_REWARD, lacks_what_is_read
from agentrft.report.truncation import cut_off
from agentrft.rollout import Rollout, grader_sample
from agentrft.spec import JobSpec

GRADED_AGAIN = 4
TIMES = 3
DEMONSTRATIONS_GRADED = 16


async def check_sources(spec: JobSpec, report: CheckReport) -> None:
    """Load the code of python graders, so that what it imports and lacks is named before a model is loaded."""
    holdouts = {f"holdout {name}": grader for name, grader in spec.holdout_graders.items()}
    for name, grader in {"grader": spec.grader, **holdouts}.items():
        with report.part(name):
            await dry_run(grader)


async def check_grader(runtime: Runtime, rollouts: Sequence[Rollout], report: CheckReport) -> None:
    """Look at grades that are there, and grade some rollouts again."""
    graded = [rollout for rollout in rollouts if rollout.outcome == "graded" and rollout.grade is not None]
    grades = [rollout.grade for rollout in graded if rollout.grade is not None]
    demonstrations = await _demonstrations(runtime)
    noise = await _noise(runtime, graded[:GRADED_AGAIN], report)
    honest = sorted(grade.score for grade in grades) or demonstrations
    found = GraderReport(
        len(rollouts),
        len(graded),
        sorted(rollout.reward for rollout in rollouts if rollout.reward is not None),
        sorted(grade.score for grade in grades),
        demonstrations,
        honest[len(honest) // 2] if honest else None,
        quantile([grade.latency_s for grade in grades], 0.5),
        quantile([grade.latency_s for grade in grades], 0.95),
        noise,
        _tokens(grades),
    )
    report.grader = found
    _say(runtime, found, rollouts, report)
    _check_failing_pays(runtime.spec, found, report)
    await _check_holdouts(runtime, graded[:GRADED_AGAIN], report)


def answer_of(demonstration: Sample) -> GraderSample:
    """A demonstration as graders would see it, had the agent done it."""
    calls = [call for message in demonstration.messages for call in message.get("tool_calls") or []]
    said = demonstration.messages[-1]
    thought = said.get("reasoning_content") or ""
    return GraderSample(said.get("content") or "", calls, demonstration.messages, reasoning=thought)


async def grade_all(grader: Grader, answers: Sequence[tuple[GraderSample, Sample]]) -> list[Grade | GraderFailure]:
    """What a grader says to each answer, under an id of its own: a server may remember the ones it knows."""
    grades = await asyncio.gather(
        *(grader.grade(answer, item=sample.item, trace_id=f"trace_{uuid.uuid4().hex}") for answer, sample in answers),
        return_exceptions=True,
    )
    for grade in grades:
        if isinstance(grade, BaseException) and not isinstance(grade, GraderFailure):
            raise grade
    return [grade for grade in grades if isinstance(grade, Grade | GraderFailure)]


async def _demonstrations(runtime: Runtime) -> list[float]:
    """Scores of some demonstrations; those whose rows lack what the grader reads have none."""
    some = runtime.demonstrations[:DEMONSTRATIONS_GRADED]
    grades = await grade_all(runtime.grader, [(answer_of(one), one) for one in some])
    return sorted(grade.score for grade in grades if isinstance(grade, Grade))


async def _noise(runtime: Runtime, rollouts: Sequence[Rollout], report: CheckReport) -> float | None:
    """Grade each rollout `TIMES` times: the largest difference."""
    samples = {sample.sample_id: sample for sample in (*runtime.train, *runtime.validation)}
    noise = None
    for rollout in rollouts:
        again = [(grader_sample(rollout), samples[rollout.sample_id])] * TIMES
        grades = await grade_all(runtime.grader, again)
        scores = [grade.score for grade in grades if isinstance(grade, Grade)]
        if len(scores) < TIMES:
            report.warn(
                "grader",
                f"could grade {rollout.trace_id} once, and {TIMES - len(scores)} of {TIMES} times not.",
                "Mend it: what it cannot grade is dropped as a failure of infrastructure.",
            )
        if scores:
            noise = max(noise or 0.0, max(scores) - min(scores))
    return noise


def _say(runtime: Runtime, found: GraderReport, rollouts: Sequence[Rollout], report: CheckReport) -> None:
    failures = Counter(rollout.failure_kind for rollout in rollouts if rollout.failure_kind)
    counted = "".join(f", {count} x {kind}" for kind, count in failures.most_common())
    said = f"{found.graded} of {found.rollouts} rollouts were graded{counted}"
    if found.graded:
        said += (
            f"; rewards {found.rewards[0]:.2f} to {found.rewards[-1]:.2f}, median of the graded "
            f"{found.honest_median:.2f}; a grade takes {found.latency_p50_s * 1000:.0f} ms"
        )
    if found.tokens_per_grade:
        said += f" and {sum(_billed(found.tokens_per_grade).values()):.0f} tokens"
    infra = [rollout for rollout in rollouts if rollout.outcome == "infra_failed"]
    if infra:
        report.error(
            "rollouts",
            f"{len(infra)} of {len(rollouts)} broke on infrastructure; the first: {infra[0].failure_message}",
            "Mend the tool or the grader: such rollouts are never trained on.",
            3,
        )
    lacking = [one for one in rollouts if lacks_what_is_read(one)]
    if lacking and lacking[0].grade is not None:
        report.warn(
            "grader",
            f"{len(lacking)} of {found.graded} graded rollouts got its lowest score, because they lack what it reads: "
            f"{', '.join(lacking[0].grade.missing)}",
            "Say in the prompt in which form to answer, or show it in demonstrations.",
        )
    summary = summarise(rollouts, pass_threshold=runtime.spec.pass_threshold)
    judgement, cut = verdict(summary), cut_off(summary)
    if cut is not None and cut.matters:
        report.warn("rollouts", f"{cut.text}.", cut.remedy)
    if judgement.trainable or len(infra) == len(rollouts):
        report.ok("grader", said)
    elif runtime.spec.warm_start is not None:
        report.ok("grader", f"{said}: before the warm start, which may change that")
    else:
        report.error("grader", f"{said}. Not trainable: {judgement.text}", judgement.remedy_by(cli_ways()), 4)
    if found.demonstrations:
        middle = found.demonstrations[len(found.demonstrations) // 2]
        report.ok("grader", f"demonstrations get {middle:.2f} in the median of {len(found.demonstrations)}")
    spread = found.rewards[-1] - found.rewards[0] if found.rewards else 0.0
    if found.noise is not None and found.noise > SAME_REWARD:
        report.warn(
            "grader",
            f"the same rollout got scores that differ by up to {found.noise:.2f}, where all rewards differ by "
            f"{spread:.2f}: what it says is partly chance.",
            "Give a judge `sampling_params: {temperature: 0, seed: 1}`, ask for coarser scores, or take the median of "
            "several in `multi`.",
        )
    elif found.noise is not None:
        report.ok("grader", f"said the same {TIMES} times")


def _check_failing_pays(spec: JobSpec, found: GraderReport, report: CheckReport) -> None:
    """Whether an agent that runs out of tokens gets more than one that answers badly."""
    given = spec.model_failed_reward
    if given == "auto":
        return
    known = score_range(spec.grader)
    seen = sorted([*found.scores, *found.demonstrations])
    below = sum(score < given - SAME_REWARD for score in seen)
    if known is not None and given > known[0] + SAME_REWARD:
        lowest = f"the grader's lowest score is {known[0]:g}"
    elif below:
        lowest = f"{below} of {len(seen)} grades here were lower, down to {seen[0]:.2f}"
    else:
        return
    report.warn(
        "grader",
        f"failing pays: a rollout that ends without an answer gets model_failed_reward, {given:g}, and {lowest}. The "
        "policy learns to run out of tokens rather than to answer badly.",
        "Leave model_failed_reward out: then failing gets the lowest that there is.",
    )


async def _check_holdouts(runtime: Runtime, rollouts: Sequence[Rollout], report: CheckReport) -> None:
    samples = {sample.sample_id: sample for sample in (*runtime.train, *runtime.validation)}
    answers = [(grader_sample(rollout), samples[rollout.sample_id]) for rollout in rollouts]
    for name, holdout in runtime.holdouts.items():
        grades = await grade_all(holdout, answers)
        failed = [grade for grade in grades if isinstance(grade, GraderFailure)]
        if failed:
            report.warn(f"holdout {name}", f"{len(failed)} of {len(grades)} grades failed: {failed[0]}.", "Mend it.")
        elif grades:
            scores = ", ".join(f"{grade.score:.2f}" for grade in grades if isinstance(grade, Grade))
            report.ok(f"holdout {name}", f"gave {scores}")


def _tokens(grades: Sequence[Grade]) -> dict[str, float]:
    sums = sum((Counter(grade.usage) for grade in grades), start=Counter[str]())
    return {name: count / len(grades) for name, count in sorted(sums.items())}


def _billed(tokens: dict[str, float]) -> dict[str, float]:
    """Without their sum."""
    return {name: count for name, count in tokens.items() if name in ("prompt_tokens", "completion_tokens")}
