"""Training, top to bottom: GRPO-style reinforcement of an agent on its own tool use.

For each step: take the next samples; roll each out several times, calling the real tools; grade; drop what broke;
merge each group's rollouts into a token tree and update the policy; keep everything; hand the new weights to the
engine. Every few steps the validation samples are rolled out by the same code.

With `max_off_policy_steps: N` rollouts run ahead and go on over updates, and a step takes what is finished
(`groups_ahead.py`). With `checkpoint_interval: N` the weights are kept every N steps, and a job that was killed in
between makes the updates since then again from their stored rollouts (`recovery.py`).
"""

import asyncio
import time
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NoReturn

from agentrft.data import Sample
from agentrft.errors import AgentRFTError, ArtifactsError, JobFailedError, NotTrainableError
from agentrft.job.checkpoint import load_state
from agentrft.job.collect import Collector
from agentrft.job.group_source import GroupSource, LocalGroups, Spent
from agentrft.job.groups_ahead import GroupsAhead
from agentrft.job.progress import Progress
from agentrft.job.recovery import Recovery, stored_rollouts
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import epoch_of
from agentrft.job.spans import note_update, update_span
from agentrft.job.step_checkpoints import StepCheckpoints
from agentrft.job.step_plan import StepPlanner
from agentrft.job.stop import Stop
from agentrft.job.tasks import rollout_tasks
from agentrft.job.token_age import age_of
from agentrft.job.training_data import note_advantages, note_tokens
from agentrft.job.watch import Watch
from agentrft.learner import Learner, UpdateMetrics
from agentrft.report.best import FLOOR, Validated, chosen_step, validated
from agentrft.report.bottleneck import bottleneck
from agentrft.report.noise import samples_needed
from agentrft.report.summary import Summary, summarise
from agentrft.report.verdict import FINE, verdict
from agentrft.report.ways import Ways
from agentrft.rollout import GroupResult, Rollout, by_sample
from agentrft.store import JobStore, rollout_row, write_rollouts
from agentrft.store.layout import TEST, TRAIN, VALIDATION, rollouts_file, step_folder
from agentrft.store.rows import as_mapping

WARM_UP_STEPS = 2


class Trainer:
    """One job's reinforcement, from wherever its record says it is. `ways` are those of whoever runs it."""

    def __init__(
        self, runtime: Runtime, store: JobStore, job_id: str, progress: Progress, stop: Stop, ways: Ways
    ) -> None:
        self._runtime = runtime
        self._ways = ways
        self._store = store
        self._job_id = job_id
        self._folder = store.job_folder(job_id)
        self._artifacts = store.artifacts
        self._progress = progress
        self._stop = stop
        self._collector = Collector(runtime, progress=progress, stop=stop, store=store, job_id=job_id)
        self._learner: Learner = runtime.new_learner(
            learning_rate=runtime.hyperparameters.learning_rate,
            warm_up_steps=WARM_UP_STEPS,
            decay_steps=runtime.hyperparameters.max_steps,
        )
        self._began_at = time.time()
        self._runs_ahead = runtime.hyperparameters.max_off_policy_steps > 0
        self._source: GroupSource = (
            GroupsAhead(runtime, store, job_id, progress=progress, stop=stop)
            if self._runs_ahead
            else LocalGroups(runtime, self._collector)
        )
        self._planner = StepPlanner(runtime, self._learner)
        # Of a resumed job, what the record says.
        self._eval_samples = runtime.hyperparameters.eval_samples
        self._last = 0
        self._checkpoints = StepCheckpoints(runtime, self._learner, store, job_id)
        self._validated: dict[int, Validated] = {}
        self._watch = Watch(runtime.spec.alarms, self._trained()[:-1], self._alarm)

    async def prepare(self) -> None:
        """Have the weights of the last committed step; before the first, keep the policy as it is as step 0.

        Raises:
            UserError: a checkpoint, or rollouts that stand in for one, are gone.
        """
        trained = self._trained()
        last = max((row["step"] for row in trained), default=0)
        await self._checkpoints.load(last, keep_start=self._may_keep_start)
        newest = self._checkpoints.newest
        if self._runtime.spec.hyperparameters.reads_earlier_steps:
            for step in range(1, newest + 1):
                self._note(step, self._stored_rollouts(TRAIN, step))
        recovery = Recovery(
            self._runtime,
            self._learner,
            self._planner,
            self._store,
            self._job_id,
            recorded=trained,
            stop=self._stop,
            tell=self._event,
        )
        await recovery.run(newest, last, self._note)
        self._last = self._checkpoints.holds = last
        self._source.resume(last, trained[-1] if trained else None)
        if last > 0:
            # The process may have been killed between the commit and the alarms.
            events = [event.data for event in self._store.events(self._job_id)]
            told = {data["alarm"] for data in events if "alarm" in data and data["step"] == last}
            self._watch.look(last, trained[-1], self._stored_rollouts(TRAIN, last), told=told)
        await self._runtime.publish_policy()

    async def run(self) -> None:
        """All steps that are left, and the validations that are due; after `prepare`.

        Raises:
            NotTrainableError: the baseline left nothing to learn from.
            JobFailedError: a step in which no group was left after infrastructure failures.
            JobPaused: an alarm that pauses rang.
            ArtifactsError: what was done could not be kept elsewhere.
            Interrupted: a stop was requested.
        """
        try:
            await self._run_and_close()
        except ArtifactsError:
            # A checkpoint could not be kept elsewhere either.
            raise
        except AgentRFTError:
            await self._checkpoints.save_held()
            raise

    async def _run_and_close(self) -> None:
        try:
            await self._run()
        finally:
            await self._source.close()

    async def _run(self) -> None:
        committed = {(row["phase"], row["step"]): row for row in self._store.metrics(self._job_id)}
        for step in range(self._last, self._runtime.hyperparameters.max_steps + 1):
            if step > self._last:
                await self._step(step)
            if self._validation_is_due(step):
                # The process may have been killed between the commit and what follows it.
                metrics = committed.get((VALIDATION, step)) or await self._validate(step)
                self._keep_best()
                if step == 0:
                    self._judge_baseline(metrics)
                    self._size_validations()
            await self._prune()
            self._watch.pause_if_asked(self._job_id)
            self._stop.check()
        await self._source.close()
        await self._test(committed)

    async def _step(self, step: int) -> None:
        runtime = self._runtime
        started, busy_before, recomputed_before = time.perf_counter(), runtime.engine.busy_s, self._recomputed
        groups = [group async for group in self._source.groups(step)]
        waited_s, spent = time.perf_counter() - started, self._source.spent(step)
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        self._tell_of_dropped(step, groups, rollouts)
        planned = self._planner.plan(step, groups)
        plan = planned.plan
        age = age_of(rollouts, runtime.policy.version)
        if not self._runs_ahead:
            # The caches are the old policy's, and the update may need the memory.
            await runtime.engine.release_memory()
        note_advantages(planned.trained, plan)
        self._checkpoints.holds = None
        with update_span(TRAIN, step) as span:
            update: UpdateMetrics = await runtime.learn(self._learner, self._learner.update, plan)
            note_update(span, runtime.policy.version, update.as_dict())
        note_tokens(planned.trained, plan, update.seen)
        in_flight = self._source.in_flight
        await runtime.publish_policy()
        step_s = time.perf_counter() - started
        metrics = {
            **self._summary(rollouts),
            **{("update_s" if name == "seconds" else name): value for name, value in update.as_dict().items()},
            "epoch": epoch_of(step, samples=len(runtime.train), batch_size=runtime.hyperparameters.batch_size),
            "rollouts_skipped": spent.skipped,
            "groups_replaced": spent.replaced,
            "groups_dropped": sum(group.was_dropped for group in groups),
            "policy_version": runtime.policy.version,
            "off_policy_steps": age.most,
            "off_policy_steps_mean": age.mean,
            "groups_too_old": spent.too_old,
            "rollouts_over_update": in_flight,
            "tokens_recomputed": self._recomputed - recomputed_before,
            "rollout_s": spent.rollout_s,
            "waited_s": waited_s,
            "engine_busy_s": spent.engine_busy_s,
            "engine_idle_share": max(0.0, 1 - (runtime.engine.busy_s - busy_before) / step_s),
            "bottleneck": bottleneck(
                rollouts, rollout_s=spent.rollout_s, engine_busy_s=spent.engine_busy_s, update_s=update.seconds
            ),
            "step_s": step_s,
            "sampled_tokens_per_s": self._sampled_here(rollouts) / spent.rollout_s,
            **(spent.metrics or {}),
        }
        await self._commit(TRAIN, step, rollouts, metrics, spent)
        self._checkpoints.holds = step
        self._note(step, rollouts)
        self._watch.look(step, metrics, rollouts)

    def _sampled_here(self, rollouts: Sequence[Rollout]) -> int:
        """Tokens, without those of rollouts that had been recorded before a resume."""
        return sum(rollout.sampled_tokens for rollout in rollouts if rollout.started_at >= self._began_at)

    def _note(self, step: int, rollouts: list[Rollout]) -> None:
        """What later steps depend on, of a step that is committed."""
        self._source.note(step, rollouts)
        self._planner.note(step, rollouts)

    def _summary(self, rollouts: list[Rollout]) -> dict[str, Any]:
        spec = self._runtime.spec
        summary = summarise(rollouts, pass_threshold=spec.pass_threshold, sub_thresholds=spec.sub_thresholds)
        return summary.as_dict()

    def _stored_rollouts(self, phase: str, step: int) -> list[Rollout]:
        """Of a committed step."""
        return stored_rollouts(self._folder, phase, step)

    def _trained(self) -> list[dict[str, Any]]:
        """Metrics of the training steps that are committed."""
        return [row for row in self._store.metrics(self._job_id) if row["phase"] == TRAIN]

    @property
    def _may_keep_start(self) -> bool:
        """An adapter is small; of all weights another copy is kept only where the loss needs it."""
        hyperparameters = self._runtime.hyperparameters
        return hyperparameters.lora_rank is not None or hyperparameters.kl_weight > 0

    @property
    def _recomputed(self) -> int:
        """Tokens that the engine has computed more than once, since it was made."""
        return self._runtime.engine.counters["tokens_recomputed"]

    def _tell_of_dropped(self, step: int, groups: Sequence[GroupResult], rollouts: list[Rollout]) -> None:
        broken = sum((group.dropped for group in groups), start=Counter[str]())
        if broken:
            counts = ", ".join(f"{count} x {kind}" for kind, count in broken.most_common())
            self._event("warning", f"step {step}: rollouts left their groups because infrastructure failed: {counts}")
        if all(group.was_dropped for group in groups):
            self._fail(TRAIN, step, "infrastructure failures left no group to train on", rollouts)

    async def _validate(self, step: int) -> dict[str, Any]:
        runtime = self._runtime
        if step == 0:
            k = runtime.spec.baseline.rollouts_per_sample
            return await self._measure(VALIDATION, step, runtime.baseline_samples, k)
        return await self._measure(VALIDATION, step, runtime.validated, self._eval_samples)

    def _size_validations(self) -> None:
        """Where the job leaves `eval_samples` open, no more than the baseline's noise asks for."""
        job, most = self._store.get_job(self._job_id), self._eval_samples
        if most == 1 or as_mapping(job.setting("hyperparameters")).get("eval_samples") != "auto":
            return
        groups = by_sample(self._stored_rollouts(VALIDATION, 0))
        rewards = {name: [one.reward for one in group if one.reward is not None] for name, group in groups.items()}
        needed = samples_needed(rewards, rows=len(self._runtime.validated))
        if needed < most:
            self._eval_samples = needed
            self._store.record_hyperparameters(
                self._job_id, {**self._runtime.hyperparameters.as_dict(), "eval_samples": needed}
            )
            self._event("info", f"eval_samples={needed}, not {most}: attempts at the same sample differ that little")

    async def _test(self, committed: Collection[tuple[str, int]]) -> None:
        """The test samples, once: by the model as it began and by the result."""
        runtime = self._runtime
        if not runtime.test:
            return
        result = self._store.get_job(self._job_id).best_step
        for step in sorted({0, runtime.hyperparameters.max_steps if result is None else result}):
            if (TEST, step) in committed:
                continue
            self._stop.check()
            self._checkpoints.holds = None
            await runtime.compute(self._learner.load_state, load_state(step_folder(self._folder, step)))
            await runtime.publish_policy()
            await self._measure(TEST, step, runtime.test, runtime.hyperparameters.eval_samples)

    async def _measure(self, phase: str, step: int, samples: Sequence[Sample], k: int) -> dict[str, Any]:
        """The policy as it is, on samples that it is not trained on; the metrics that were committed."""
        runtime, hyperparameters = self._runtime, self._runtime.hyperparameters
        tasks = rollout_tasks(
            samples,
            step=step,
            rollouts_per_sample=k,
            temperature=hyperparameters.temperature,
            top_p=hyperparameters.top_p,
            seed=runtime.spec.seed + 1,
            policy_version=runtime.policy.version,
        )
        started = time.perf_counter()
        rollouts = await self._collector.collect(phase, step, tasks)
        if all(rollout.outcome == "infra_failed" for rollout in rollouts):
            self._fail(phase, step, "infrastructure failures left no rollout with a reward", rollouts)
        metrics = {
            **self._summary(rollouts),
            FLOOR: None if runtime.failed_reward.fixed is not None else runtime.failed_reward.beside(rollouts),
            "step_s": time.perf_counter() - started,
        }
        await self._commit(phase, step, rollouts, metrics)
        return metrics

    def _judge_baseline(self, metrics: dict[str, Any]) -> None:
        judgement = verdict(Summary.from_metrics(metrics))
        if not judgement.trainable:
            remedy = judgement.remedy_by(self._ways)
            raise NotTrainableError(f"The baseline is not trainable: {judgement.text}", remedy)
        told = f"{judgement.text} {judgement.remedy_by(self._ways)}" if judgement.remedy != FINE else judgement.text
        self._event("info", told)

    def _fail(self, phase: str, step: int, what: str, rollouts: list[Rollout]) -> NoReturn:
        """End the job where nothing has a reward; the rollouts are kept beside the record, for reading."""
        example = next(r.failure_message for r in rollouts if r.outcome == "infra_failed")
        path = rollouts_file(self._folder, f"failed-{phase}", step)
        _write(path, rollouts, phase)
        self._artifacts.push(path)
        raise JobFailedError(
            f"{phase}, step {step}: {what}; the first one was: {example}",
            f"Read them with `agentrft rollouts {path}`, mend the endpoint, and go on with "
            f"`agentrft train --resume {self._job_id}`.",
        )

    async def _commit(
        self, phase: str, step: int, rollouts: list[Rollout], metrics: dict[str, Any], spent: Spent | None = None
    ) -> None:
        """Rollouts, then the checkpoint where one is due, then the record: a kill in between repeats the step's end and
        no more."""
        path = rollouts_file(self._folder, phase, step)
        # Beside the loop: of thousands of rollouts it takes half a minute, in which no other would go on.
        await asyncio.to_thread(_write, path, rollouts, phase)
        await self._artifacts.aside(self._artifacts.push, path)
        if phase == TRAIN:
            is_due = self._checkpoint_is_due(step)
            if is_due:
                await self._checkpoints.save(step)
            metrics["checkpoint_s"] = self._checkpoints.seconds if is_due else 0.0
        self._store.commit_step(self._job_id, phase, step, metrics, settled=spent.settled if spent else None)
        self._progress.committed(phase, step, metrics)

    def _checkpoint_is_due(self, step: int) -> bool:
        """At the job's cadence, and where the weights may become its result."""
        hyperparameters = self._runtime.hyperparameters
        is_last = step == hyperparameters.max_steps
        return step % hyperparameters.checkpoint_interval == 0 or is_last or self._validation_is_due(step)

    def _validation_is_due(self, step: int) -> bool:
        hyperparameters = self._runtime.hyperparameters
        if not self._runtime.validation:
            return False
        if step == 0:
            return self._runtime.spec.baseline.enabled
        return step % hyperparameters.eval_interval == 0 or step == hyperparameters.max_steps

    def _keep_best(self) -> None:
        for row in self._store.metrics(self._job_id):
            step = row["step"]
            if row["phase"] == VALIDATION and step not in self._validated:
                self._validated[step] = validated(step, self._stored_rollouts(VALIDATION, step), row.get(FLOOR))
        self._store.set_best_step(self._job_id, chosen_step(list(self._validated.values())).step)

    async def _prune(self) -> None:
        """Keep the first, the newest and the validated checkpoints."""
        validated = {row["step"] for row in self._store.metrics(self._job_id) if row["phase"] == VALIDATION}
        await self._checkpoints.prune(validated)

    def _alarm(self, text: str, data: dict[str, Any]) -> None:
        self._event("warning", text, data)

    def _event(self, level: Any, message: str, data: dict[str, Any] | None = None) -> None:
        self._store.add_event(self._job_id, level, message, data)
        self._progress.message(level, message)


def _write(path: Path, rollouts: Sequence[Rollout], phase: str) -> None:
    write_rollouts(path, [rollout_row(rollout.as_dict(), phase=phase) for rollout in rollouts])
