"""The warm start: a short supervised training on demonstrations, so that reinforcement has something to reward."""

from collections.abc import Sequence
from functools import partial

from agentrft.data import Sample
from agentrft.job.checkpoint import load_state, prune_warm_start, save_checkpoint
from agentrft.job.progress import Progress
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import samples_of_step
from agentrft.job.stop import Stop
from agentrft.learner import TrainingRow
from agentrft.store import JobStore
from agentrft.store.layout import WARM_START, warm_start_folder

WARM_UP_BATCHES = 2


async def warm_start(runtime: Runtime, store: JobStore, job_id: str, progress: Progress, stop: Stop) -> None:
    """Train on the demonstrations, from the last batch that was committed.

    Demonstrations of a batch are merged into one token tree: their system prompt is computed once.
    """
    spec = runtime.spec.warm_start
    if spec is None:
        return
    folder = store.job_folder(job_id)
    batches = spec.n_epochs * -(-len(runtime.demonstrations) // spec.batch_size)
    done = sum(row["phase"] == WARM_START for row in store.metrics(job_id))
    progress.phase(WARM_START, done, batches)
    learner = runtime.new_learner(learning_rate=spec.learning_rate, warm_up_steps=WARM_UP_BATCHES, decay_steps=batches)
    if done:
        await runtime.compute(learner.load_state, load_state(warm_start_folder(folder, done)))
    for batch in range(done + 1, batches + 1):
        stop.check()
        chosen = samples_of_step(runtime.demonstrations, batch_size=spec.batch_size, seed=runtime.spec.seed, step=batch)
        rows = demonstration_rows(runtime, chosen)
        loss = await runtime.compute(learner.supervised_update, rows)
        await runtime.compute(partial(save_checkpoint, warm_start_folder(folder, batch), learner, weights=False))
        await store.artifacts.aside(store.artifacts.push, warm_start_folder(folder, batch))
        metrics = {"loss": loss, "demonstrations": len(chosen), "tokens": sum(len(row.token_ids) for row in rows)}
        store.commit_step(job_id, WARM_START, batch, metrics)
        await store.artifacts.aside(prune_warm_start, folder, batch, store.artifacts)
        progress.committed(WARM_START, batch, metrics)


def demonstration_rows(runtime: Runtime, demonstrations: Sequence[Sample]) -> list[TrainingRow]:
    """What is trained on of demonstrations: the tokens that the agent would have sampled."""
    rows = []
    for index, sample in enumerate(demonstrations):
        for ids, mask in runtime.codec.training_rows(sample.messages, runtime.tools_of(sample)):
            positions = [position for position, sampled in enumerate(mask) if sampled and position > 0]
            rows.append(TrainingRow(ids, positions, [0.0] * len(positions), index))
    return rows
