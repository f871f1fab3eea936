"""The whole check, in the order of a job. A part that cannot be used ends what depends on it, and nothing else."""

import time
from collections.abc import Callable

from agentrft.errors import UserError
from agentrft.job.check.attacks import check_attacks
from agentrft.job.check.chat import check_chat
from agentrft.job.check.checkpoints import check_checkpoints
from agentrft.job.check.endpoints import check_tools
from agentrft.job.check.estimate import estimate
from agentrft.job.check.findings import CheckReport
from agentrft.job.check.grading import check_grader, check_sources
from agentrft.job.check.learning_rate import check_learning_rate
from agentrft.job.check.rows import check_prompts, check_rows
from agentrft.job.check.trial import roll_out
from agentrft.job.references import ModelReference, starting_point
from agentrft.job.runtime import Runtime
from agentrft.sinks.requirements import check_requirements
from agentrft.spec import JobSpec
from agentrft.tracing import open_tracing


async def check_job(
    spec: JobSpec,
    *,
    reference: ModelReference | None = None,
    burst: int | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> CheckReport:
    """Look at everything that a job needs, and grade what should earn nothing. Nothing is stored.

    Args:
        reference: weights to roll out with; None for those that the job begins with.
        burst: calls at once of each tool; None for the job's own peak, 0 for none.
        say: told what is looked at next.
    """
    started = time.perf_counter()
    report = CheckReport()
    if spec.response_format is not None:
        for part in spec.response_format.unenforced:
            report.warn("response_format", f"answers are not held against it: {part}.", "Say it in another way.")
    _check_integrations(spec, report)
    say("data")
    rows = check_rows(spec, report)
    await check_sources(spec, report)
    if rows is not None:
        say("tools")
        peak = peak_calls(spec, len(rows.train)) if burst is None else burst
        await check_tools(spec, rows.train, rows.demonstrations, report, burst=peak)
    # The same faults again, and more that need the model: only where there are none so far.
    if not report.exit_code:
        with report.part("model"):
            await _check_with_model(spec, reference, report, say)
    report.seconds = time.perf_counter() - started
    return report


def _check_integrations(spec: JobSpec, report: CheckReport) -> None:
    for integration in spec.integrations:
        part = f"integration {integration.type}"
        with report.part(part):
            check_requirements(integration)
            report.ok(part, "its package and what it needs of the environment are there")
    try:
        tracing = open_tracing()
    except UserError as error:
        report.warn("tracing", error.cause, error.remedy)
        return
    if tracing is not None:
        tracing.close(deadline_s=0)
        report.ok("tracing", "spans go where OTEL_EXPORTER_OTLP_ENDPOINT says")


def peak_calls(spec: JobSpec, n_train: int) -> int:
    """The most calls that the job can have under way, one for each rollout that runs."""
    # The limits of tokens play no part in it.
    resolved = spec.hyperparameters.resolve(n_train=n_train, max_tokens_per_turn=1, max_context_tokens=1)
    step = min(resolved.batch_size, n_train) * resolved.rollouts_per_sample
    return min(step, spec.engine.max_concurrent_rollouts)


async def _check_engine(runtime: Runtime, report: CheckReport) -> bool:
    """Whether it is there, and samples from the policy."""
    with report.part("engine"):
        await runtime.prove_engine()
        await runtime.publish_policy()
        if runtime.spec.engine.type != "embedded":
            report.ok("engine", f"{runtime.spec.engine.type} has the model, and loads adapters while it runs")
        return True
    return False


async def _check_with_model(
    spec: JobSpec, reference: ModelReference | None, report: CheckReport, say: Callable[[str], None]
) -> None:
    say("model")
    # What was recorded for a replay stays as it is.
    tools = tuple(tool.model_copy(update={"record": None}) for tool in spec.tools)
    runtime = Runtime(spec.model_copy(update={"tools": tools}))
    try:
        check_prompts(runtime, report)
        check_chat(runtime.codec, bool(spec.warm_start and spec.warm_start.training_file), report)
        check_checkpoints(runtime, report)
        reference = reference or starting_point(spec)
        await runtime.begin_with(reference)
        if not await _check_engine(runtime, report):
            return
        say("rollouts")
        trial = await roll_out(runtime, report, is_trained=reference.folder is not None)
        say("grader")
        await check_grader(runtime, trial.rollouts, report)
        say("attacks on the grader")
        await check_attacks(runtime, trial.rollouts, report)
        say("speed of an update")
        await estimate(runtime, trial, report)
        say("learning rate")
        await check_learning_rate(runtime, trial, report)
    finally:
        await runtime.close()
