"""A job is watched from another process until it ends."""

import threading
import time
from pathlib import Path

from agentrft.cli.watch import bars
from agentrft.store import JobStore
from agentrft.store.layout import TRAIN
from tests.cli.commands import run_here
from tests.dashboard.stored_runs import commit, stored_job
from tests.report.why.planted import Run, honest


def test_steps_and_events_are_told_as_they_come_and_it_ends_with_the_job(tmp_path: Path) -> None:
    steps = Run(honest, steps=2, samples=2).rolled_out()
    with JobStore(tmp_path / "runs") as store:
        job_id = stored_job(store, steps[:1], status="running", validation=False)

        def go_on() -> None:
            time.sleep(1)
            commit(store, job_id, TRAIN, 2, steps[1])
            store.add_event(job_id, "warning", "an alarm [rang]")
            store.set_status(job_id, "succeeded")

        going = threading.Thread(target=go_on)
        going.start()
        result = run_here("watch", "latest", "--every", "0.2", "--output-dir", str(tmp_path / "runs"))
        going.join()
    lines = result.stdout.splitlines()
    assert result.code == 0
    assert [line.partition(":")[0] for line in lines if line.startswith("train")] == ["train, step 1", "train, step 2"]
    assert "warning: an alarm [rang]" in lines and lines[-1] == f"{job_id} succeeded"


def test_bars_stand_between_the_lowest_and_the_highest() -> None:
    assert bars([0.0, 0.5, 1.0]) == "▁▅█" and bars([]) == "" and bars([0.3, 0.3]) == "▁▁"
