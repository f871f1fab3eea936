"""kill -9 of a server and of its workers: nothing that was finished is lost, and nothing happens twice."""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from openai import OpenAI

from agentrft.server.records import Records
from agentrft.server.records.rows import ServedJob
from agentrft.server.workers.queues import MOST_CRASHES
from agentrft.store import JobRow
from tests.job.tiny_job import serving
from tests.server.live import (
    ENDED,
    MODEL,
    QUICK,
    Live,
    live,
    lives,
    method,
    open_store,
    until,
    upload,
    wait_for,
    workers,
)
from tests.traffic.chaos_server import ChaosServer, hang, ok

STEPS = 4
WARM_START_BATCHES = 2
ROLLOUTS = 8
PHASES = (
    [("warm_start", batch) for batch in range(1, WARM_START_BATCHES + 1)]
    + [("validation", 0)]
    + [(phase, step) for step in range(1, STEPS + 1) for phase in ("train", "validation")]
)
CANCELLED_WITHIN_S = 10
# A worker looks once a second whether its server lives; after the grace of a stop it ends by force.
# A worker that is still importing looks for its server when that is done.
GONE_WITHIN_S = 60
# Long enough that sampling can be seen from outside.
SLOW_TOOL = ok(delay_s=0.2)


@pytest.fixture(scope="module")
def slow_tools() -> Iterator[ChaosServer]:
    with serving(ChaosServer(default=SLOW_TOOL)) as tools:
        yield tools


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    with live(tmp_path_factory.mktemp("killed") / "data", tiny_model, "--max-running-jobs", "2") as started:
        yield started


@pytest.fixture(scope="module")
def own_files(own_server: Live, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return upload(own_server.client(), tmp_path_factory.mktemp("rows"))


class Record:
    """What is on disk of a job, read past the server."""

    def __init__(self, server: Live, job_id: str) -> None:
        self.job_id = job_id
        self._store = open_store(server)
        self._records = Records(self._store)

    @property
    def job(self) -> JobRow:
        return self._store.get_job(self.job_id)

    @property
    def served(self) -> ServedJob:
        served = self._records.served(self.job_id)
        assert served is not None
        return served

    @property
    def checkpoints(self) -> set[str]:
        folder = self._store.job_folder(self.job_id) / "checkpoints"
        return set(os.listdir(folder)) if folder.is_dir() else set()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        return self._store.metrics(self.job_id)

    @property
    def steps(self) -> list[tuple[str, int]]:
        return [(row["phase"], row["step"]) for row in self.metrics]

    def pending(self, phase: str, step: int) -> int:
        return len(self._store.pending_rollouts(self.job_id, phase, step))

    def file_steps(self) -> list[tuple[str, int]]:
        lines = (self._store.job_folder(self.job_id) / "metrics.jsonl").read_text().splitlines()
        return [(row["phase"], row["step"]) for row in map(json.loads, lines)]

    def messages(self) -> list[str]:
        return [event.message for event in self._store.events(self.job_id)]

    def hold(self) -> Any:
        """The job's lock, as the worker that runs it has it."""
        return self._store.job_lock(self.job_id)


Sign = Callable[[Record], bool]


def starting(record: Record) -> bool:
    """Its worker loads its modules, and has not taken the job yet."""
    return record.job.status == "queued"


def warming(batch: int, record: Record) -> bool:
    return ("warm_start", batch) in record.steps


def sampling(phase: str, step: int, record: Record) -> bool:
    return record.pending(phase, step) > 0 or (phase, step) in record.steps


def updating(step: int, record: Record) -> bool:
    return record.pending("train", step) == ROLLOUTS or ("train", step) in record.steps


def committing(step: int, record: Record) -> bool:
    return f".step-{step:05d}.partial" in record.checkpoints or ("train", step) in record.steps


def committed(step: int, record: Record) -> bool:
    return f"step-{step:05d}" in record.checkpoints


@dataclass(frozen=True)
class Kill:
    """Who is killed once the job shows a sign; later, where a sign is too short to be seen."""

    victim: str
    sign: Sign
    is_rare: bool = False  # only in the long form


FIRST = [
    Kill("worker", partial(warming, 1), is_rare=True),
    Kill("worker", partial(sampling, "train", 2)),
    Kill("worker", partial(committing, 3)),
    Kill("worker", partial(sampling, "validation", 3), is_rare=True),
]
SECOND = [
    Kill("worker", partial(sampling, "validation", 0), is_rare=True),
    Kill("worker", partial(updating, 1), is_rare=True),
    Kill("server", starting),
    Kill("server and workers", partial(sampling, "train", 2)),
    Kill("worker", partial(committed, 3), is_rare=True),
    Kill("server", partial(sampling, "train", 4), is_rare=True),
]
# `make test-api` says so: all ten.
IS_LONG = "AGENTRFT_ALL_KILLS" in os.environ


def create(client: OpenAI, files: dict[str, str], tool_url: str, **changes: Any) -> str:
    hyperparameters = {"max_steps": STEPS, **changes.pop("hyperparameters", {})}
    warm_start = {"training_file": files["demonstrations"], "batch_size": 2, "learning_rate": 1e-3}
    return client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        seed=7,
        method=method(tool_url, hyperparameters=hyperparameters),  # type: ignore[arg-type]
        extra_body={**QUICK, "warm_start": warm_start, **changes},
    ).id


def told_steps(client: OpenAI, job_id: str) -> dict[str, int]:
    """The steps that a client reads of, by the ids of their events; oldest first."""
    events = list(client.fine_tuning.jobs.list_events(job_id, limit=100))[::-1]
    return {event.id: event.data["step"] for event in events if event.type == "metrics"}  # type: ignore[index]


def kill_workers(server: Live) -> list[psutil.Process]:
    killed = workers(server)
    for worker in killed:
        worker.kill()
    return killed


def worker_of(record: Record, server: Live) -> psutil.Process | None:
    """None while the job waits for one, which is so when it was killed a moment ago."""
    return next((worker for worker in workers(server) if worker.pid == record.job.pid), None)


def kill_server(server: Live, *, workers_too: bool) -> list[psutil.Process]:
    """Kill it and start it again, while its workers, which are returned, may still be ending."""
    left = workers(server)
    assert server.process is not None
    server.process.send_signal(signal.SIGKILL)
    for worker in left if workers_too else ():
        worker.kill()
    server.process.wait()
    server.start(server.port)
    return left


class Watched:
    """What a client saw of a job, which must stay."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._told: dict[str, int] = {}
        self._metrics: list[dict[str, Any]] = []

    def look(self, client: OpenAI) -> None:
        told, metrics = told_steps(client, self._record.job_id), self._record.metrics
        assert list(told.items())[: len(self._told)] == list(self._told.items())
        assert metrics[: len(self._metrics)] == self._metrics
        self._told, self._metrics = told, metrics


@pytest.mark.slow
def test_two_jobs_end_whole_though_their_server_and_workers_are_killed_again_and_again(
    own_server: Live, own_files: dict[str, str], slow_tools: ChaosServer
) -> None:
    client = own_server.client()
    records = [Record(own_server, create(client, own_files, slow_tools.url)) for _ in range(2)]
    watched = [Watched(record) for record in records]
    plans = [[kill for kill in plan if IS_LONG or not kill.is_rare] for plan in (FIRST, SECOND)]
    ending: list[tuple[float, psutil.Process]] = []

    def kill_what_is_due() -> bool:
        for record, plan in zip(records, plans, strict=True):
            assert not plan or record.job.status not in ENDED, record.job.error
            worker = worker_of(record, own_server)
            if not plan or not plan[0].sign(record) or (plan[0].victim == "worker" and worker is None):
                continue
            victim = plan.pop(0).victim
            if victim == "worker" and worker is not None:
                worker.kill()
            else:
                left = kill_server(own_server, workers_too=victim == "server and workers")
                ending.extend((time.monotonic() + GONE_WITHIN_S, process) for process in left)
            for one in watched:
                one.look(client)
        outlived = [process for until_s, process in ending if time.monotonic() > until_s and lives(process)]
        assert not outlived, "workers end with their server"
        return not any(plans)

    until(kill_what_is_due, "all kills", timeout_s=900)
    for record in records:
        job = wait_for(client, record.job_id, "succeeded")
        until(lambda record=record: record.served.lease_owner is None, "its worker is done")
        assert job.fine_tuned_model and job.error is None
        assert record.steps == record.file_steps() == PHASES
        assert list(told_steps(client, record.job_id).values()) == list(range(STEPS + 1))
        assert record.messages().count("The job has successfully completed") == 1
        assert record.served.crashes == 0
        found = client.fine_tuning.jobs.checkpoints.list(record.job_id).data
        assert [one.step_number for one in found] == list(range(STEPS, 0, -1))
    for one in watched:
        one.look(client)
    assert not any(lives(process) for _, process in ending)
    assert all(times == 1 for key, times in slow_tools.executed.items() if key)


def test_after_a_sigterm_a_running_job_is_queued_and_goes_on_with_the_next_server(
    own_server: Live, own_files: dict[str, str], slow_tools: ChaosServer
) -> None:
    client = own_server.client()
    record = Record(own_server, create(client, own_files, slow_tools.url, hyperparameters={"max_steps": 2}))
    until(lambda: sampling("train", 2, record), "it samples")
    left, done = workers(own_server), record.steps
    own_server.stop()
    assert record.job.status == "queued" and record.served.lease_owner is None
    assert not any(map(lives, left))
    own_server.start(own_server.port)
    wait_for(client, record.job_id, "succeeded")
    assert record.steps[: len(done)] == done and record.steps == PHASES[: PHASES.index(("validation", 2)) + 1]
    assert not [message for message in record.messages() if "worker died" in message]


def test_a_worker_that_dies_again_and_again_without_a_step_fails_its_job(
    server: Live, client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    record = Record(server, create(client, files, tools.url))
    for crash in range(1, MOST_CRASHES + 1):
        until(partial(kill_workers, server), "a worker")
        until(lambda crash=crash: record.served.crashes == crash, "the death is noted")
    job = wait_for(client, record.job_id, "failed")
    assert job.error is not None and job.error.code == "worker_died"
    assert (
        job.error.message == f"its worker died {MOST_CRASHES} times without finishing a step, at last by signal SIGKILL"
    )
    died = [message for message in record.messages() if "worker died" in message]
    assert len(died) == MOST_CRASHES and died[-1] == job.error.message
    assert not workers(server)


def cancel(client: OpenAI, record: Record) -> None:
    client.fine_tuning.jobs.cancel(record.job_id)
    job = wait_for(client, record.job_id, "cancelled", timeout_s=CANCELLED_WITHIN_S)
    assert job.finished_at and job.fine_tuned_model is None
    assert record.messages().count("The job was cancelled") == 1


@pytest.mark.slow
def test_a_cancel_ends_jobs_that_wait_warm_up_or_hang_in_a_tool_within_ten_seconds(
    server: Live, client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    with serving(ChaosServer(default=hang())) as hanging:
        in_a_tool, warming_up, waiting = (
            Record(server, create(client, files, url)) for url in (hanging.url, tools.url, tools.url)
        )
        cancel(client, waiting)
        until(lambda: warming(1, warming_up), "a batch of the warm start")
        cancel(client, warming_up)
        until(lambda: len(hanging.received) > 1, "a call")
        cancel(client, in_a_tool)
    assert waiting.steps == [] and in_a_tool.steps == PHASES[:WARM_START_BATCHES]


def test_a_worker_that_does_not_stop_is_killed_and_a_pause_does_not_undo_its_cancel(
    server: Live, client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    record = Record(server, create(client, files, tools.url))
    until(lambda: updating(1, record), "an update")
    (worker,) = workers(server)
    worker.suspend()
    client.fine_tuning.jobs.cancel(record.job_id)
    client.fine_tuning.jobs.pause(record.job_id)
    cancel(client, record)
    assert record.served.crashes == 0 and not worker.is_running()


@pytest.mark.slow
def test_a_job_waits_for_an_earlier_worker_that_still_holds_it_and_once_paused_goes_on_from_its_last_step(
    server: Live, client: OpenAI, files: dict[str, str], slow_tools: ChaosServer
) -> None:
    record = Record(server, create(client, files, slow_tools.url))
    with record.hold():
        until(lambda: record.served.lease_owner, "a worker has the lease")
        leased_until = record.served.lease_until
        until(lambda: record.served.lease_until != leased_until, "it lives")
        assert record.job.status == "interrupted"

    until(lambda: sampling("train", 1, record), "a step is under way")
    client.fine_tuning.jobs.pause(record.job_id)
    wait_for(client, record.job_id, "paused")
    done, told = record.metrics, told_steps(client, record.job_id)
    assert len(done) >= PHASES.index(("train", 1))
    client.fine_tuning.jobs.resume(record.job_id)
    wait_for(client, record.job_id, "succeeded")
    assert record.metrics[: len(done)] == done and record.steps == PHASES
    assert list(told_steps(client, record.job_id).items())[: len(told)] == list(told.items())
    assert all(times == 1 for key, times in slow_tools.executed.items() if key)
