"""The warm start: a short supervised training, so that reinforcement has something to reward.

On demonstrations, and then, where the job asks for it, on what the model did right by itself: it tries training
samples, what the grader passes is kept, balanced over samples and trained on, and so again with the model that came of
it (Zelikman et al. 2022, "STaR", arXiv:2203.14465; Singh et al. 2023, "Beyond Human Data", arXiv:2312.06585).

A batch is a function of the seed and of the examples, so where a process was killed the batches since the newest
checkpoint are learned again. The last batch of the demonstrations, and of each round, always has one.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from agentrft.data import Sample
from agentrft.job.checkpoint import load_state, prune_warm_start, save_checkpoint
from agentrft.job.collect import Collector
from agentrft.job.progress import Progress
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import samples_of_step, shuffled
from agentrft.job.spans import note_update, update_span
from agentrft.job.stop import Stop
from agentrft.job.tasks import rollout_tasks
from agentrft.job.training_data import demonstrated_rows, training_rows
from agentrft.learner import Learner, TrainingRow
from agentrft.learner.supervised import Likelihood
from agentrft.report.summary import reached, summarise
from agentrft.rollout import Rollout, by_sample
from agentrft.spec.job import WarmStartSpec
from agentrft.store import JobStore, read_rollouts, rollout_row, write_rollouts
from agentrft.store.layout import WARM_ROLLOUTS, WARM_START, newest_checkpoint, rollouts_file, warm_start_folder
from agentrft.store.rows import EventLevel

T = TypeVar("T")

WARM_UP_BATCHES = 2


async def warm_start(runtime: Runtime, store: JobStore, job_id: str, progress: Progress, stop: Stop) -> None:
    """Train on demonstrations and on own successes, from the last batch that was committed."""
    if runtime.spec.warm_start is not None:
        await _WarmStart(runtime, runtime.spec.warm_start, store, job_id, progress, stop).run()


class _WarmStart:
    def __init__(
        self, runtime: Runtime, spec: WarmStartSpec, store: JobStore, job_id: str, progress: Progress, stop: Stop
    ) -> None:
        self._runtime = runtime
        self._spec = spec
        self._store = store
        self._job_id = job_id
        self._folder = store.job_folder(job_id)
        self._progress = progress
        self._stop = stop
        metrics = store.metrics(job_id)
        self._batches_done = sum(row["phase"] == WARM_START for row in metrics)
        self._newest = newest_checkpoint(store.warm_checkpoints(job_id), self._batches_done)
        self._rounds_done = sum(row["phase"] == WARM_ROLLOUTS for row in metrics)
        self._batches = 0

    async def run(self) -> None:
        demonstrations = self._runtime.demonstrations
        await self._train(demonstrations, partial(demonstration_rows, self._runtime), "demonstrations")
        if self._spec.from_ is None:
            return
        for number in range(1, self._spec.rounds + 1):
            if number > self._rounds_done:
                await self._try(number)
            successes = self._successes(number)
            if not successes:
                self._tell_of_none(number)
            await self._train(successes, _own_rows, "successes")

    async def _train(
        self, examples: Sequence[T], rows_of: Callable[[Sequence[T]], list[TrainingRow]], name: str
    ) -> None:
        """So many epochs over examples, a batch of them at a time; those of a batch are merged into one token tree, so
        that their system prompt is computed once."""
        spec, runtime = self._spec, self._runtime
        before = self._batches
        self._batches += spec.n_epochs * -(-len(examples) // spec.batch_size)
        if not examples or self._batches_done >= self._batches:
            await self._take_up()
            return
        self._progress.phase(WARM_START, self._batches_done, self._batches)
        learner = runtime.new_learner(
            learning_rate=spec.learning_rate, warm_up_steps=WARM_UP_BATCHES, decay_steps=self._batches - before
        )

        def batch_of(number: int) -> Sequence[T]:
            return samples_of_step(
                examples, batch_size=spec.batch_size, seed=runtime.spec.seed + before, step=number - before
            )

        if self._batches_done > before:
            await self._go_on(learner, before, lambda number: rows_of(batch_of(number)))
        for batch in range(self._batches_done + 1, self._batches + 1):
            if self._stop.requested and self._newest < self._batches_done:
                await self._save(self._batches_done, learner)
            self._stop.check()
            chosen = batch_of(batch)
            rows = rows_of(chosen)
            with update_span(WARM_START, batch) as seen:
                found = await self._update(learner, rows)
                note_update(seen, runtime.policy.version, {"loss": found.loss})
            if batch % runtime.hyperparameters.checkpoint_interval == 0 or batch == self._batches:
                await self._save(batch, learner)
            metrics = {"loss": found.loss, name: len(chosen), "tokens": sum(len(row.token_ids) for row in rows)}
            self._store.commit_step(self._job_id, WARM_START, batch, metrics)
            await self._store.artifacts.aside(prune_warm_start, self._folder, self._newest, self._store.artifacts)
            self._progress.committed(WARM_START, batch, metrics)
            self._batches_done = batch

    async def _update(self, learner: Learner, rows: Sequence[TrainingRow]) -> Likelihood:
        return await self._runtime.learn(learner, learner.supervised_update, rows)

    async def _save(self, batch: int, learner: Learner) -> None:
        folder, artifacts = warm_start_folder(self._folder, batch), self._store.artifacts
        await self._runtime.compute(partial(save_checkpoint, folder, learner, weights=False))
        await artifacts.aside(artifacts.push, folder)
        self._newest = batch

    async def _go_on(self, learner: Learner, before: int, rows_of: Callable[[int], list[TrainingRow]]) -> None:
        """Where an earlier process was within the batches that come after batch `before`.

        Args:
            rows_of: the rows of a batch, by its number.
        """
        if self._newest > before:
            state = load_state(warm_start_folder(self._folder, self._newest))
            await self._runtime.compute(learner.load_state, state)
        else:
            await self._load_weights(before)
        first, started = max(self._newest, before) + 1, time.perf_counter()
        for batch in range(first, self._batches_done + 1):
            self._stop.check()
            await self._update(learner, rows_of(batch))
        if first <= self._batches_done:
            seconds = time.perf_counter() - started
            text = f"learned batches {first} to {self._batches_done} of the warm start again ({seconds:.1f} s)"
            self._tell("info", f"{text}: the newest checkpoint is older")

    async def _take_up(self) -> None:
        """The weights that an earlier process left after the batches that end here, if nothing came after them."""
        if self._batches_done == self._batches:
            await self._load_weights(self._batches)

    async def _load_weights(self, batch: int) -> None:
        """Those after a batch; the policy is left as it is where there was none."""
        if batch == 0:
            return
        state = load_state(warm_start_folder(self._folder, batch))
        await self._runtime.compute(self._runtime.policy.load_master_state, state["masters"])
        self._runtime.policy.version = state["policy_version"]

    async def _try(self, number: int) -> None:
        """The rollouts of a round, with the examples in their prompts."""
        runtime, spec = self._runtime, self._spec
        await runtime.publish_policy()
        chosen = shuffled(runtime.train, f"{runtime.spec.seed}/warm_start/{number}")[: spec.samples]
        tasks = rollout_tasks(
            [self._with_examples(sample, number) for sample in chosen],
            step=number,
            rollouts_per_sample=spec.rollouts_per_sample,
            temperature=1.0,
            top_p=runtime.hyperparameters.top_p,
            seed=runtime.spec.seed,
            policy_version=runtime.policy.version,
        )
        temperatures = spec.temperatures
        tasks = [replace(task, temperature=temperatures[task.index % len(temperatures)]) for task in tasks]
        collector = Collector(runtime, progress=self._progress, stop=self._stop, store=self._store, job_id=self._job_id)
        rollouts = await collector.collect(WARM_ROLLOUTS, number, tasks, unit=spec.rollouts_per_sample)
        await runtime.engine.release_memory()
        path = rollouts_file(self._folder, WARM_ROLLOUTS, number)
        write_rollouts(path, [rollout_row(rollout.as_dict(), phase=WARM_ROLLOUTS) for rollout in rollouts])
        await self._store.artifacts.aside(self._store.artifacts.push, path)
        metrics = summarise(rollouts, pass_threshold=runtime.spec.pass_threshold).as_dict()
        self._store.commit_step(self._job_id, WARM_ROLLOUTS, number, metrics)
        self._progress.committed(WARM_ROLLOUTS, number, metrics)

    def _with_examples(self, sample: Sample, number: int) -> Sample:
        """The sample behind as many of the examples as leave a rollout its room."""
        runtime = self._runtime
        examples = shuffled(runtime.examples, f"{runtime.spec.seed}/examples/{number}/{sample.sample_id}")
        limits = runtime.hyperparameters
        own = len(runtime.codec.prompt_ids(sample.messages, runtime.tools_of(sample)))
        room = (limits.max_context_tokens - own) // 2
        system = [message for message in sample.messages[:1] if message["role"] in ("system", "developer")]
        shown: list[dict[str, Any]] = []
        for example in examples:
            more = [message for message in example.messages if message["role"] not in ("system", "developer")]
            messages = [*system, *shown, *more, *sample.messages[len(system) :]]
            if len(runtime.codec.prompt_ids(messages, runtime.tools_of(sample))) - own > room:
                break
            shown += more
        return replace(sample, messages=[*system, *shown, *sample.messages[len(system) :]]) if shown else sample

    def _successes(self, number: int) -> list[list[TrainingRow]]:
        """The rows of a round's successes, of no sample more than of others; the best and the shortest first."""
        rows = read_rollouts(rollouts_file(self._folder, WARM_ROLLOUTS, number))
        rollouts = [Rollout.from_dict(row["record"]) for row in rows]
        right = [rollout for rollout in rollouts if reached(rollout, self._runtime.spec.pass_threshold)]
        samples = {sample.sample_id: sample for sample in self._runtime.train}
        found: list[list[TrainingRow]] = []
        for sample_id, own in by_sample(right).items():
            kept = 0
            seen: set[tuple[int, ...]] = set()
            for rollout in sorted(own, key=lambda one: (-(one.reward or 0.0), one.sampled_tokens, one.index)):
                sampled = tuple(token for turn in rollout.turns for token in turn.sampled_ids)
                rows_of_it = self._rows_without_examples(rollout, samples[sample_id])
                if kept < self._spec.successes_per_sample and sampled not in seen and rows_of_it:
                    found.append(rows_of_it)
                    seen.add(sampled)
                    kept += 1
        return found

    def _rows_without_examples(self, rollout: Rollout, sample: Sample) -> list[TrainingRow]:
        """The tokens as they were sampled, behind the sample's own prompt."""
        if not self._runtime.examples:
            return training_rows(rollout, 0)
        if rollout.row_starts != [0]:
            return []
        prompt = self._runtime.codec.prompt_ids(sample.messages, self._runtime.tools_of(sample))
        turns = [replace(rollout.turns[0], prompt_ids=list(prompt)), *rollout.turns[1:]]
        return training_rows(replace(rollout, turns=turns), 0)

    def _tell_of_none(self, number: int) -> None:
        text = (
            f"warm start, round {number}: no rollout reached the grader's pass threshold "
            f"({self._runtime.spec.pass_threshold:g}), so there is nothing to train on. Show the model how it is done "
            "(`examples_file`), try more (`rollouts_per_sample`, `temperatures`), or lower the pass threshold."
        )
        self._tell("warning", text)

    def _tell(self, level: EventLevel, text: str) -> None:
        self._store.add_event(self._job_id, level, text)
        self._progress.message(level, text)


def demonstration_rows(runtime: Runtime, demonstrations: Sequence[Sample]) -> list[TrainingRow]:
    """What is trained on of demonstrations."""
    return [
        row
        for index, sample in enumerate(demonstrations)
        for row in demonstrated_rows(runtime.codec, sample.messages, runtime.tools_of(sample), index)
    ]


def _own_rows(successes: Sequence[list[TrainingRow]]) -> list[TrainingRow]:
    return [replace(row, rollout=index) for index, rows in enumerate(successes) for row in rows]
