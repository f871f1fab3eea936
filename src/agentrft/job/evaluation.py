"""Rolling out samples with given weights, outside of training: `baseline`, `eval`, `compare` and the runs of the API's
evals all end here.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentrft.data import Sample
from agentrft.errors import UserError
from agentrft.job.collect import Collector, RolloutStore
from agentrft.job.progress import Progress
from agentrft.job.references import ModelReference
from agentrft.job.runtime import MakeGrader, Runtime
from agentrft.job.stop import Stop
from agentrft.job.tasks import rollout_tasks
from agentrft.report.summary import Summary, summarise
from agentrft.rollout import FailedReward, Rollout
from agentrft.spec import ClusterSpec, JobSpec
from agentrft.store import rollout_row, write_rollouts


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Attributes:
        label: of the weights, such as "ftjob-abc@12" or "base".
        temperature: that was sampled at; 0 is greedy.
        rollouts: all of them, those that infrastructure broke included.
        summary: what they say.
        seconds: wall time, without loading the model.
    """

    label: str
    temperature: float
    rollouts: list[Rollout]
    summary: Summary
    seconds: float


def on_one_footing(evaluations: Sequence[Evaluation], spec: JobSpec) -> list[Evaluation]:
    """The same evaluations, where a failure of the agent's gets no more than any graded rollout of any of them."""
    rollouts = [rollout for evaluation in evaluations for rollout in evaluation.rollouts]
    FailedReward.of(spec).settle(rollouts, by_group=False)
    return [replace(one, summary=summarise(one.rollouts, pass_threshold=spec.pass_threshold)) for one in evaluations]


def split_file(spec: JobSpec, split: str) -> Path:
    """The samples of a split: see `evaluate`.

    Raises:
        UserError: the job has no test file.
    """
    if split == "test":
        if spec.test_file is None:
            raise UserError("--split test: the job has no test_file.", "Set `test_file`, or measure on `validation`.")
        return spec.test_file
    return (spec.validation_file or spec.training_file) if split == "validation" else spec.training_file


async def evaluate(
    spec: JobSpec,
    reference: ModelReference,
    *,
    rollouts_per_sample: int,
    temperature: float | None,
    progress: Progress,
    stop: Stop,
    split: str = "validation",
    seed: int | None = None,
    limit: int | None = None,
    write_to: Path | None = None,
    given: Sequence[Sample] | None = None,
    grader: MakeGrader | None = None,
    store: RolloutStore | None = None,
    calls_end: bool = False,
) -> Evaluation:
    """Roll out one split of a job's data by the code that training uses.

    Args:
        spec: of the job whose data, tools and grader are taken.
        reference: the weights, from `resolve_reference`.
        rollouts_per_sample: how many attempts at each sample.
        temperature: None takes the job's; 0 is greedy.
        progress: is told what happens; `NoProgress()` for nobody.
        stop: ends it; what was graded is then lost, unless `store` keeps it.
        split: "validation" (the training samples where the job has none), "train" or "test".
        seed: of sampling; None takes the job's. Two models are compared with the same one.
        limit: only the first so many samples.
        write_to: also write the rollouts to this Parquet file.
        given: samples to roll out instead of the job's.
        grader: makes the one that grades, instead of the job's.
        store: keeps what is graded, and has what an earlier process graded.
        calls_end: whether a turn that calls ends a rollout; see `RolloutLimits`.

    Raises:
        UserError: the model, the data or an endpoint cannot be used.
        Interrupted: a stop was requested.
    """
    if given is None:
        split_file(spec, split)
    # Nothing is learned.
    spec = spec.model_copy(update={"cluster": ClusterSpec()})
    runtime = Runtime(spec, given=given, grader=grader, calls_end=calls_end)
    try:
        await runtime.probe()
        await runtime.compute(reference.apply, runtime.policy)
        await runtime.publish_policy()
        samples = {"validation": runtime.validation or runtime.train, "test": runtime.test}.get(split, runtime.train)
        tasks = rollout_tasks(
            samples[:limit],
            step=0,  # random numbers depend on it, and two models are compared with the same ones
            rollouts_per_sample=rollouts_per_sample,
            temperature=runtime.hyperparameters.temperature if temperature is None else temperature,
            top_p=runtime.hyperparameters.top_p,
            seed=(spec.seed if seed is None else seed) + 1,
            policy_version=runtime.policy.version,
        )
        started = time.perf_counter()
        rollouts = await Collector(runtime, progress=progress, stop=stop, store=store).collect("eval", 0, tasks)
        seconds = time.perf_counter() - started
    finally:
        await runtime.close()
    if write_to is not None:
        write_rollouts(write_to, [rollout_row(rollout.as_dict(), phase="eval") for rollout in rollouts])
    return Evaluation(
        reference.label,
        tasks[0].temperature,
        rollouts,
        summarise(rollouts, pass_threshold=spec.pass_threshold),
        seconds,
    )
