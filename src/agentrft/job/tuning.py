"""Training from files alone: supervised fine-tuning and direct preference optimisation.

A step is an update on one batch of examples. Steps are short, so their record and checkpoints are written only now and
then. A batch is a function of the seed and of the file, so where a process was killed the updates since the newest
checkpoint are made again.
"""

import math
import time
from collections.abc import Sequence
from typing import Any

from agentrft.errors import JobFailedError, UserError
from agentrft.job.model_runtime import ModelRuntime
from agentrft.job.progress import Progress
from agentrft.job.schedule import samples_of_step
from agentrft.job.spans import note_update, update_span
from agentrft.job.step_checkpoints import StepCheckpoints
from agentrft.job.stop import Stop
from agentrft.job.token_limits import check_given
from agentrft.job.tuning_examples import examples_of, mean_of, parts_of
from agentrft.learner import Policy, SupervisedLearner
from agentrft.models.context import model_context_tokens
from agentrft.models.load import load_config
from agentrft.spec import TuningSpec
from agentrft.store import JobStore
from agentrft.store.layout import TRAIN, VALIDATION

# Seconds of steps that are not recorded yet, at most; and of "auto", between checkpoints at least, and the share of the
# time that their writing takes.
RECORD_S, CHECKPOINT_S, CHECKPOINT_SHARE = 20.0, 20.0, 0.05
# Of the steps, in which the learning rate rises.
WARM_UP_SHARE = 0.05
MAX_ROWS_SHOWN = 5


class TuningRuntime(ModelRuntime):
    """Everything such a job runs with. Making one checks its data before it loads the model.

    Attributes:
        train, validation: examples, as `examples` reads them.

    Raises:
        UserError: data or model cannot be used, or an example is longer than the context.
    """

    def __init__(self, spec: TuningSpec) -> None:
        super().__init__(spec)
        self.spec = spec
        beta = spec.hyperparameters.resolve(spec.method, n_train=1).beta
        self.examples = examples_of(beta)
        self.train = self.examples.load(spec.training_file)
        self.validation = self.examples.load(spec.validation_file) if spec.validation_file else []
        self.hyperparameters = spec.hyperparameters.resolve(spec.method, n_train=len(self.train))
        self.read_tokenizer()
        self._check_rows()
        self.policy = self.at_once(
            lambda: Policy(
                self.load(),
                lora_rank=self.hyperparameters.lora_rank,
                lora_experts=self.hyperparameters.lora_experts,
                seed=spec.seed,
                generates=False,
            )
        )

    def _check_rows(self) -> None:
        """Every example can be trained on, and fits."""
        most = model_context_tokens(load_config(self.source).to_dict())
        check_given(self.spec.hyperparameters, most)
        given = self.spec.hyperparameters.max_context_tokens
        most = most if given == "auto" else given
        for field, examples in (("training_file", self.train), ("validation_file", self.validation)):
            faults: list[str] = []
            too_long: list[str] = []
            for one in examples:
                line = f"line {self.examples.line(one)}"
                try:
                    tokens = max(len(row.token_ids) for row in self.examples.rows(self.codec, one))
                except UserError as error:
                    faults.append(f"{line}: {error.cause}")
                    continue
                if most is not None and tokens > most:
                    too_long.append(f"{line}: {tokens} tokens")
            if faults:
                shown = "; ".join(faults[:MAX_ROWS_SHOWN])
                raise UserError(
                    f"{field}: {len(faults)} example(s) cannot be trained on: {shown}", "Correct these rows."
                )
            if too_long:
                shown = "; ".join(too_long[:MAX_ROWS_SHOWN])
                other = "take another model" if given == "auto" else "raise hyperparameters.max_context_tokens"
                raise UserError(
                    f"{field}: {len(too_long)} example(s) do not fit into {most} tokens: {shown}.",
                    f"Shorten these rows, or {other}.",
                )


async def tune(runtime: TuningRuntime, store: JobStore, job_id: str, progress: Progress, stop: Stop) -> None:
    """Run a job from wherever its record says it is to its end.

    Raises:
        Interrupted: a stop was requested; what was learned is kept.
    """
    trainer = _Tuning(runtime, store, job_id, progress, stop)
    await trainer.prepare()
    await trainer.run()


class _Tuning:
    def __init__(self, runtime: TuningRuntime, store: JobStore, job_id: str, progress: Progress, stop: Stop) -> None:
        hyperparameters = runtime.hyperparameters
        self._runtime = runtime
        self._store = store
        self._job_id = job_id
        self._folder = store.job_folder(job_id)
        self._progress = progress
        self._stop = stop
        self._learner = SupervisedLearner(
            runtime.policy,
            learning_rate=hyperparameters.learning_rate,
            max_grad_norm=hyperparameters.max_grad_norm,
            warm_up_steps=round(WARM_UP_SHARE * hyperparameters.max_steps),
            decay_steps=hyperparameters.max_steps,
        )
        self._last = 0
        self._validated: set[int] = set()
        self._checkpoints = StepCheckpoints(runtime, self._learner, store, job_id)
        self._checkpoint_at = self._recorded_at = time.monotonic()
        # Metrics of steps that are not recorded yet.
        self._waiting: list[tuple[int, dict[str, Any]]] = []

    async def prepare(self) -> None:
        """Have the weights of the last recorded step; before the first, keep the policy as it is as step 0."""
        committed = self._store.metrics(self._job_id)
        self._last = max((row["step"] for row in committed if row["phase"] == TRAIN), default=0)
        self._validated = {row["step"] for row in committed if row["phase"] == VALIDATION}
        await self._checkpoints.load(self._last, keep_start=self._runtime.hyperparameters.beta is not None)
        await self._learn_again(self._checkpoints.newest + 1)
        self._checkpoint_at = time.monotonic()

    async def _learn_again(self, first: int) -> None:
        """The recorded steps from `first` on, which no checkpoint has: they are not recorded a second time."""
        if first > self._last:
            return
        started = time.perf_counter()
        for step in range(first, self._last + 1):
            self._stop.check()
            await self._update(self._batch(step))
        seconds = time.perf_counter() - started
        which = f"update of step {first}" if first == self._last else f"updates of steps {first} to {self._last}"
        text = f"made the {which} again from the training file ({seconds:.1f} s): the newest checkpoint is of step "
        data = {"replayed_from": first, "replayed_to": self._last, "seconds": seconds}
        self._store.add_event(self._job_id, "info", f"{text}{first - 1}", data)
        self._progress.message("info", f"{text}{first - 1}")

    async def run(self) -> None:
        most = self._runtime.hyperparameters.max_steps
        self._progress.phase(TRAIN, self._last, most)
        for step in range(self._last, most + 1):
            if step > self._last:
                self._waiting.append((step, await self._step(step)))
            if step > self._checkpoints.newest and (self._stop.requested or self._checkpoint_is_due(step)):
                await self._keep(step)
            elif time.monotonic() - self._recorded_at > RECORD_S:
                self._record()
            self._stop.check()
            if self._validation_is_due(step) and step not in self._validated:
                await self._validate(step)

    async def _step(self, step: int) -> dict[str, Any]:
        runtime, started, batch = self._runtime, time.perf_counter(), self._batch(step)
        with update_span(TRAIN, step) as seen:
            found = await self._update(batch)
            note_update(seen, runtime.policy.version, found)
        version = runtime.policy.version
        return {**found, "examples": len(batch), "policy_version": version, "step_s": time.perf_counter() - started}

    def _batch(self, step: int) -> Sequence[Any]:
        runtime = self._runtime
        batch_size = runtime.hyperparameters.batch_size
        return samples_of_step(runtime.train, batch_size=batch_size, seed=runtime.spec.seed, step=step)

    async def _update(self, batch: Sequence[Any]) -> dict[str, Any]:
        runtime = self._runtime
        await self._prepare(batch)
        return await runtime.learn(self._learner, runtime.examples.update, self._learner, runtime.codec, batch)

    async def _validate(self, step: int) -> None:
        runtime, started = self._runtime, time.perf_counter()
        parts: list[tuple[dict[str, Any], int]] = []
        for part in parts_of(runtime.validation):
            await self._prepare(part)
            found = await runtime.learn(self._learner, runtime.examples.measure, self._learner, runtime.codec, part)
            parts.append((found, len(part)))
            self._stop.check()
        found = mean_of(parts, by_token=runtime.hyperparameters.beta is None)
        if not math.isfinite(found["loss"]):
            raise JobFailedError(
                f"validation, step {step}: the loss is not finite; the step before is kept.",
                "Start a new job with a lower hyperparameters.learning_rate_multiplier or max_grad_norm.",
            )
        metrics = {**found, "examples": len(runtime.validation), "step_s": time.perf_counter() - started}
        self._store.commit_step(self._job_id, VALIDATION, step, metrics)
        self._validated.add(step)
        self._progress.committed(VALIDATION, step, metrics)

    async def _prepare(self, examples: Sequence[Any]) -> None:
        runtime = self._runtime
        while await runtime.learn(self._learner, runtime.examples.prepare, self._learner, runtime.codec, examples):
            self._stop.check()

    async def _keep(self, step: int) -> None:
        """The checkpoint, then the record of all steps up to it: a kill in between repeats them and no more."""
        await self._checkpoints.save(step)
        self._record()
        self._checkpoint_at = time.monotonic()
        ends = range(0, step + 1, self._runtime.hyperparameters.steps_per_epoch)
        await self._checkpoints.prune({*self._validated, *ends})

    def _record(self) -> None:
        """The steps that are done: what no checkpoint has of them can be learned again."""
        kept, self._waiting = self._waiting, []
        self._store.commit_steps(self._job_id, TRAIN, kept)
        for number, metrics in kept:
            self._progress.committed(TRAIN, number, metrics)
        self._recorded_at = time.monotonic()

    def _checkpoint_is_due(self, step: int) -> bool:
        """At the job's cadence, at the end of an epoch, and where the step is validated."""
        hyperparameters = self._runtime.hyperparameters
        ends_epoch = step % hyperparameters.steps_per_epoch == 0
        if ends_epoch or step == hyperparameters.max_steps or self._validation_is_due(step):
            return True
        if hyperparameters.checkpoint_interval is not None:
            return step % hyperparameters.checkpoint_interval == 0
        since = time.monotonic() - self._checkpoint_at
        return since > max(CHECKPOINT_S, self._checkpoints.seconds / CHECKPOINT_SHARE)

    def _validation_is_due(self, step: int) -> bool:
        hyperparameters = self._runtime.hyperparameters
        at = step % hyperparameters.eval_interval == 0 or step == hyperparameters.max_steps
        return bool(self._runtime.validation) and at
