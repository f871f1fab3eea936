"""A job whose files are kept in an object store: a step counts when it is there, and an outage loses nothing."""

from pathlib import Path

import pytest

from agentrft.errors import ArtifactsError
from agentrft.job.progress import NoProgress
from agentrft.job.run import create_job, run_job
from agentrft.job.stop import Stop
from agentrft.spec import load_job
from agentrft.store import JobStore, ObjectStore, SharedArtifacts
from tests.job.tiny_job import PHASES, one_thread, write_job
from tests.traffic.chaos_server import ChaosServer

# In the store's order: two batches of the warm start, step 0, its validation, the rollouts of step 1, its checkpoint.
PUSHES_BEFORE_THE_OUTAGE = 5


class Outage:
    """Lets so many pushes through, then none."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ArtifactsError("the store is down.", "Start it.")


async def test_a_job_pauses_when_the_store_is_down_for_good_and_goes_on_from_what_is_in_it(
    tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer() as tools:
        spec = load_job(write_job(tmp_path, tiny_model, tools.url))
        made, job_id = create_job(spec)
        made.close()
        kept = ObjectStore(f"file://{tmp_path}/kept", patience_s=0)
        outage = Outage(PUSHES_BEFORE_THE_OUTAGE)
        with one_thread(), JobStore(spec.output_dir, artifacts=_in(kept, spec.output_dir, outage)) as store:
            with pytest.raises(ArtifactsError):
                await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            job = store.get_job(job_id)
            assert job.status == "paused" and job.error == "the store is down."
            done = store.metrics(job_id)
            assert [(row["phase"], row["step"]) for row in done] == PHASES[:3]
            assert len(store.pending_rollouts(job_id, "train", 1)) == 8
        with one_thread(), JobStore(spec.output_dir, artifacts=_in(kept, spec.output_dir, None)) as store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            assert [(row["phase"], row["step"]) for row in store.metrics(job_id)] == PHASES
            assert store.metrics(job_id)[:3] == done
            assert sorted(store.checkpoints(job_id)) == [0, 1, 2, 3]
            checkpoints = store.job_folder(job_id) / "checkpoints"
            assert sorted(store.artifacts.entries(checkpoints)) == sorted(path.name for path in checkpoints.iterdir())


def _in(kept: ObjectStore, root: Path, outage: Outage | None) -> SharedArtifacts:
    return SharedArtifacts(root, kept, guard=outage)
