"""Training from files alone: supervised fine-tuning and direct preference optimisation.

A step is an update on one batch of examples. Steps are short, so a checkpoint is written only now and then, and what
was learned since the last one is committed with the next: a process that is killed repeats some seconds.
"""

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from agentrft.errors import JobFailedError, UserError
from agentrft.job.checkpoint import load_state, prune, save_checkpoint
from agentrft.job.model_runtime import ModelRuntime
from agentrft.job.progress import Progress
from agentrft.job.schedule import samples_of_step
from agentrft.job.spans import note_update, update_span
from agentrft.job.stop import Stop
from agentrft.job.token_limits import check_given
from agentrft.job.tuning_examples import examples_of, mean_of, parts_of
from agentrft.learner import Policy, SupervisedLearner
from agentrft.models.context import model_context_tokens
from agentrft.models.load import load_config
from agentrft.spec import TuningSpec
from agentrft.store import JobStore
from agentrft.store.layout import TRAIN, VALIDATION, step_folder

CHECKPOINT_S = 20.0
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
        self._kept_at = time.monotonic()
        # Metrics of steps that no checkpoint has yet.
        self._waiting: list[tuple[int, dict[str, Any]]] = []

    async def prepare(self) -> None:
        """Load the last committed step; before the first, keep the policy as it is as step 0."""
        committed = self._store.metrics(self._job_id)
        self._last = max((row["step"] for row in committed if row["phase"] == TRAIN), default=0)
        self._validated = {row["step"] for row in committed if row["phase"] == VALIDATION}
        if self._last == 0 and not step_folder(self._folder, 0).exists():
            await self._save(0)
        state = load_state(step_folder(self._folder, self._last))
        await self._runtime.compute(self._learner.load_state, state)
        if self._runtime.hyperparameters.beta is not None:
            start = state if self._last == 0 else load_state(step_folder(self._folder, 0))
            await self._runtime.compute(self._learner.keep_start, start["masters"])

    async def run(self) -> None:
        most = self._runtime.hyperparameters.max_steps
        self._progress.phase(TRAIN, self._last, most)
        for step in range(self._last, most + 1):
            if step > self._last:
                self._waiting.append((step, await self._step(step)))
            if self._stop.requested or self._is_due(step) or self._is_late:
                await self._keep(step)
            self._stop.check()
            if self._validation_is_due(step) and step not in self._validated:
                await self._validate(step)

    async def _step(self, step: int) -> dict[str, Any]:
        runtime, started = self._runtime, time.perf_counter()
        batch_size = runtime.hyperparameters.batch_size
        batch = samples_of_step(runtime.train, batch_size=batch_size, seed=runtime.spec.seed, step=step)
        await self._prepare(batch)
        with update_span(TRAIN, step) as seen:
            found = await runtime.learn(self._learner, runtime.examples.update, self._learner, runtime.codec, batch)
            note_update(seen, runtime.policy.version, found)
        version = runtime.policy.version
        return {**found, "examples": len(batch), "policy_version": version, "step_s": time.perf_counter() - started}

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
        if not self._waiting:
            return
        await self._save(step)
        kept, self._waiting = self._waiting, []
        self._store.commit_steps(self._job_id, TRAIN, kept)
        for number, metrics in kept:
            self._progress.committed(TRAIN, number, metrics)
        self._kept_at = time.monotonic()
        ends = range(0, step + 1, self._runtime.hyperparameters.steps_per_epoch)
        artifacts = self._store.artifacts
        await artifacts.aside(prune, self._folder, {*self._validated, *ends, 0, step}, artifacts)

    async def _save(self, step: int) -> None:
        folder, artifacts = step_folder(self._folder, step), self._store.artifacts
        await self._runtime.compute(partial(save_checkpoint, folder, self._learner))
        await artifacts.aside(artifacts.push, folder)

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._kept_at > CHECKPOINT_S

    def _is_due(self, step: int) -> bool:
        hyperparameters = self._runtime.hyperparameters
        ends_epoch = step % hyperparameters.steps_per_epoch == 0
        return ends_epoch or step == hyperparameters.max_steps or self._validation_is_due(step)

    def _validation_is_due(self, step: int) -> bool:
        hyperparameters = self._runtime.hyperparameters
        at = step % hyperparameters.eval_interval == 0 or step == hyperparameters.max_steps
        return bool(self._runtime.validation) and at
