"""Rollout workers that are lost, hang, or are not wanted any more: what becomes of their rollouts, calls and hooks.

The workers are the real ones, in this process: they are lost when a test says so, and what goes between them and the
job's side is pickled as it is between processes. `test_rollout_workers.py` has some of this with Ray.
"""

import asyncio
import os
import pickle
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentrft.cluster.ray_cluster import ActorLostError
from agentrft.cluster.rollouts import RolloutSetup, RolloutWorkers, link
from agentrft.cluster.rollouts import pool as pool_module
from agentrft.cluster.rollouts.messages import Batch, NotStarted, Started, ToWorker
from agentrft.cluster.rollouts.worker import RolloutWorker
from agentrft.engine import EngineFailure, Generation, Sampling
from agentrft.errors import JobFailedError, UserError
from agentrft.models.catalog import resolve_model
from agentrft.rollout import Rollout, RolloutTask
from agentrft.spec import JobSpec, load_job
from agentrft.tools import create_toolbox
from agentrft.traffic import Gates, having_gates
from agentrft.traffic.gate import LocalGate
from tests.job.scripted import CALL, LIMITS, SAMPLE, ScriptedEngine, ScriptedSession, Write
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer, hang, ok

GRADER = {
    "type": "string_check",
    "name": "is_red",
    "input": "{{ sample.output_text }}",
    "reference": "red",
    "operation": "eq",
}


class ActorHere:
    """A worker in this process, until it is killed; a silent one answers nothing. It starts once it has a place."""

    def __init__(self, places: asyncio.Semaphore) -> None:
        self.worker = RolloutWorker()
        self.is_silent = False
        self._places = places
        self._gone = asyncio.Event()

    @property
    def is_killed(self) -> bool:
        return self._gone.is_set()

    async def start(self, setup: RolloutSetup) -> Started | NotStarted:
        await self._places.acquire()
        return await self._carried(self.worker.start(pickle.loads(pickle.dumps(setup))))

    async def fetch(self, patience_s: float) -> Batch:
        return await self._carried(self.worker.fetch(patience_s))

    async def tell(self, messages: Sequence[ToWorker]) -> None:
        await self._carried(self.worker.tell(pickle.loads(pickle.dumps(messages))))

    async def close(self) -> None:
        await self._carried(self.worker.close())

    def kill(self) -> None:
        self._gone.set()
        for task in self.worker._running.values():
            task.cancel()

    async def _carried(self, call: Coroutine[Any, Any, Any]) -> Any:
        working, gone = asyncio.create_task(call), asyncio.create_task(self._gone.wait())
        try:
            await asyncio.wait([working, gone], return_when=asyncio.FIRST_COMPLETED)
            if self.is_silent:
                await gone
            if gone.done():
                raise ActorLostError("it was killed")
            return pickle.loads(pickle.dumps(working.result()))
        finally:
            working.cancel()
            gone.cancel()
            await asyncio.gather(working, gone, return_exceptions=True)


class ProcessesHere:
    """Args:
    places: for how many workers there is room; one that is lost leaves none.
    """

    def __init__(self, places: int = 100) -> None:
        self.actors: list[ActorHere] = []
        self.places = asyncio.Semaphore(places)

    def open(self) -> None:
        pass

    def new_actor(self) -> ActorHere:
        self.actors.append(ActorHere(self.places))
        return self.actors[-1]

    def close(self) -> None:
        for actor in self.actors:
            actor.kill()


class Pool:
    """Workers of a job, and what they say."""

    def __init__(self, spec: JobSpec, write: Write, places: int) -> None:
        self.write = write
        self.heard: list[str] = []
        self.processes = ProcessesHere(places)
        gates = Gates()
        with having_gates(gates):
            self.toolbox = create_toolbox(
                spec.tools, on_rollout_start=spec.on_rollout_start, on_rollout_end=spec.on_rollout_end
            )
        gate = gates["tool 'lookup'/0"]
        assert isinstance(gate, LocalGate)
        self.gate = gate
        setup = RolloutSetup.here(spec, resolve_model("smollm2-135m"), LIMITS)
        self.workers = RolloutWorkers(spec.cluster, setup, gates, self.toolbox, self._hear, self.processes)

    def _hear(self, level: str, text: str) -> None:
        self.heard.append(text)

    def engine(self, *, attempts: int = 1) -> ScriptedEngine:
        """A call and an answer, after the calls of so many attempts but one that are lost."""
        return ScriptedEngine([self.write(text) for text in [CALL] * attempts + ["red"]])

    def begin(self, index: int = 0, *, attempts: int = 1, session: Any = None) -> "asyncio.Task[Rollout]":
        task = RolloutTask(SAMPLE, step=1, index=index, temperature=1.0, top_p=1.0, seed=0, policy_version=3)

        async def run() -> Rollout:
            return await self.workers.run(task, session or await self.engine(attempts=attempts).open())

        return asyncio.create_task(run())

    def busy(self) -> ActorHere:
        """The worker that runs something."""
        (actor,) = [actor for actor in self.processes.actors if actor.worker._running]
        return actor


@pytest.fixture(scope="module")
def write() -> Write:
    return Write()


@asynccontextmanager
async def pool(
    folder: Path,
    write: Write,
    server: ChaosServer,
    *,
    workers: int = 2,
    places: int = 100,
    cluster: dict[str, Any] | None = None,
    **job: Any,
) -> AsyncIterator[Pool]:
    given = {"rollout_workers": workers, **(cluster or {})}
    path = write_job(folder, Path("smollm2-135m"), server.url, grader=GRADER, cluster=given, **job)
    spec = load_job(path)
    assert isinstance(spec, JobSpec)
    made = Pool(spec, write, places)
    try:
        yield made
    finally:
        await made.workers.close()
        await made.toolbox.close()
        # What of another process would be gone with it.
        for actor in made.processes.actors:
            if actor.worker._parts is not None:
                await actor.worker._parts.close()


async def until(what: Any) -> None:
    async with asyncio.timeout(600):
        while not what():
            await asyncio.sleep(0.02)


def calls(server: ChaosServer, kind: str = "function_call") -> list[dict[str, Any]]:
    return [{**one.body, "attempt": one.headers["X-Attempt"]} for one in server.received if one.body["type"] == kind]


async def test_rollouts_are_spread_over_the_workers_and_each_is_graded(tmp_path: Path, write: Write) -> None:
    # No rollout ends before all have called, so that they are seen in both workers.
    server = ChaosServer(script=[ok(delay_s=2.0)] * 6)
    async with server, pool(tmp_path, write, server) as some:
        running = [some.begin(index) for index in range(6)]
        await until(lambda: len(some.processes.actors) == 2 and all(a.worker._running for a in some.processes.actors))
        rollouts = await asyncio.gather(*running)
    assert [(one.outcome, one.reward, one.attempt) for one in rollouts] == [("graded", 1.0, 1)] * 6
    assert len({one.trace_id for one in rollouts}) == len(calls(server)) == 6
    assert [len(one.turns) for one in rollouts] == [2] * 6
    assert rollouts[0].turns[0].sampled_ids == write(CALL)
    # The end of workers that are not wanted any more is no loss.
    assert some.heard == []


async def test_a_lost_workers_rollout_is_run_again_as_its_next_attempt(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(script=[hang()])
    async with server, pool(tmp_path, write, server, tool={"max_concurrency": 1}) as some:
        engine = some.engine(attempts=2)
        running = some.begin(session=await engine.open())
        await until(lambda: server.received)
        some.busy().kill()
        rollout = await running
        assert some.gate.limiter.in_flight == 0
    assert (rollout.outcome, rollout.attempt, rollout.given_up) == ("graded", 2, ["worker:lost"])
    assert rollout.faults == {"worker:lost": 1}
    assert engine.restarts == 1
    assert [(call["trace_id"], call["attempt"]) for call in calls(server)] == [
        (rollout.trace_id, "1"),
        (rollout.trace_id, "2"),
    ]
    (told,) = some.heard
    assert "was lost: it was killed; 1 rollout(s) of it had not ended; it is started again (1 of 3)" in told


async def test_hooks_are_told_of_the_end_of_a_lost_attempt_once(tmp_path: Path, write: Write) -> None:
    async with ChaosServer() as hooks:
        urls: dict[str, Any] = {"on_rollout_start": {"url": hooks.url}, "on_rollout_end": {"url": hooks.url}}
        server = ChaosServer(script=[hang()])
        async with server, pool(tmp_path, write, server, workers=1, **urls) as some:
            running = some.begin(attempts=2)
            await until(lambda: server.received)
            some.busy().kill()
            rollout = await running
        told = [(one.body["type"], one.body["attempt"], one.body.get("outcome")) for one in hooks.received]
        assert {one.body["trace_id"] for one in hooks.received} == {rollout.trace_id}
    # Whatever a worker that is cancelled still says, as one in this process does: that it broke.
    assert Counter(told) == Counter(
        [
            ("rollout_start", 1, None),
            ("rollout_end", 1, "infra_failed"),
            ("rollout_start", 2, None),
            ("rollout_end", 2, "graded"),
        ]
    )


async def test_a_rollout_whose_worker_is_lost_twice_is_broken_infrastructure(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(default=hang())
    async with server, pool(tmp_path, write, server) as some:
        running = some.begin(attempts=2)
        for times in (1, 2):
            await until(lambda times=times: len(server.received) == times)
            some.busy().kill()
        rollout = await running
    assert (rollout.outcome, rollout.failure_kind, rollout.attempt) == ("infra_failed", "worker:lost", 2)
    assert (rollout.given_up, rollout.faults, rollout.reward) == (["worker:lost"], {"worker:lost": 2}, None)
    assert Rollout.from_dict(rollout.as_dict()) == rollout


async def test_a_call_that_may_not_repeat_is_not_repeated(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(default=hang())
    async with server, pool(tmp_path, write, server, tool={"idempotent": False}) as some:
        running = some.begin()
        await until(lambda: server.received)
        some.busy().kill()
        rollout = await running
    assert (rollout.outcome, rollout.failure_kind, rollout.attempt) == ("infra_failed", "worker:lost", 1)
    assert len(server.received) == 1


async def test_a_worker_that_is_silent_is_lost(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "FETCH_S", 0.2)
    server = ChaosServer(script=[hang()])
    async with server, pool(tmp_path, write, server, cluster={"worker_timeout_s": 5}) as some:
        running = some.begin(attempts=2)
        await until(lambda: server.received)
        some.busy().is_silent = True
        rollout = await running
    assert (rollout.outcome, rollout.given_up) == ("graded", ["worker:lost"])
    assert any("did not answer within" in text and "cluster.worker_timeout_s" in text for text in some.heard)


async def test_when_no_worker_is_left_rollouts_fail_as_infrastructure(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(default=hang())
    async with server, pool(tmp_path, write, server, workers=1, cluster={"max_restarts": 0}) as some:
        running = some.begin()
        await until(lambda: server.received)
        some.busy().kill()
        first, second = await running, await some.begin()
    assert first.failure_kind == second.failure_kind == "worker:lost"
    assert "no rollout worker is left" in (second.failure_message or "")
    assert "it is not started again, and 0 rollout worker(s) are left" in some.heard[0]


async def test_a_cancelled_rollout_gives_back_its_slot_and_its_session(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(script=[hang()])
    async with server, pool(tmp_path, write, server, workers=1, tool={"max_concurrency": 1}) as some:
        running = some.begin()
        await until(lambda: server.received)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await until(lambda: some.gate.limiter.in_flight == 0)
        assert (await some.begin()).outcome == "graded"
    assert some.heard == []


async def test_hooks_are_told_of_a_cancelled_rollouts_end_also_where_its_worker_ends(
    tmp_path: Path, write: Write
) -> None:
    async with ChaosServer() as hooks:
        server = ChaosServer(script=[hang()])
        end: dict[str, Any] = {"on_rollout_end": {"url": hooks.url}}
        async with server, pool(tmp_path, write, server, workers=1, **end) as some:
            running = some.begin()
            await until(lambda: server.received)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert [one.body["outcome"] for one in hooks.received] == ["infra_failed"]


class BrokenSession(ScriptedSession):
    """An engine that fails each turn."""

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        raise EngineFailure("forward", "out of memory")


async def test_an_engines_failure_is_the_engines_also_from_afar(tmp_path: Path, write: Write) -> None:
    async with ChaosServer() as server, pool(tmp_path, write, server, workers=1) as some:
        rollout = await some.begin(session=BrokenSession(some.engine(), iter(())))
    assert (rollout.outcome, rollout.failure_kind, rollout.attempt) == ("infra_failed", "engine:forward", 2)
    assert rollout.failure_message == "engine: forward: out of memory"


# With one worker it begins. The address is that of no cluster: what runs here is in this process.
ELASTIC = {"min_rollout_workers": 1, "address": "auto"}


async def test_workers_join_when_there_is_room_for_them(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(script=[ok()] + [ok(delay_s=2.0)] * 6)
    async with server, pool(tmp_path, write, server, workers=3, places=1, cluster=ELASTIC) as some:
        assert (await some.begin()).outcome == "graded"
        assert some.heard == [f"rollout worker 1 (process {os.getpid()}) is there: 1 of 3"]
        some.processes.places.release()
        some.processes.places.release()
        await until(lambda: len(some.heard) == 3)
        running = [some.begin(index) for index in range(6)]
        await until(lambda: all(actor.worker._running for actor in some.processes.actors))
        rollouts = await asyncio.gather(*running)
    assert [one.outcome for one in rollouts] == ["graded"] * 6
    assert some.heard[-1].endswith("is there: 3 of 3")


async def test_without_a_worker_rollouts_wait_for_the_next_that_there_is_room_for(tmp_path: Path, write: Write) -> None:
    server = ChaosServer(script=[hang()])
    async with server, pool(tmp_path, write, server, places=1, cluster=ELASTIC) as some:
        running = some.begin(attempts=2)
        await until(lambda: server.received)
        some.busy().kill()
        await until(lambda: len(some.heard) == 2)
        await asyncio.sleep(0.2)
        assert not running.done()
        some.processes.places.release()
        rollout = await running
    assert (rollout.outcome, rollout.attempt, rollout.given_up) == ("graded", 2, ["worker:lost"])
    assert "started again (1 of 3)" in some.heard[1] and some.heard[2].endswith("is there: 1 of 2")


async def test_a_job_ends_while_workers_still_wait_for_room(tmp_path: Path, write: Write) -> None:
    async with ChaosServer() as server, pool(tmp_path, write, server, places=1, cluster=ELASTIC) as some:
        assert (await some.begin()).outcome == "graded"
        await some.workers.close()
        assert [actor.is_killed for actor in some.processes.actors] == [True, True]


@pytest.mark.parametrize(
    ("places", "cluster", "told"),
    [(1, {}, "[01] of 2 workers were there within 0.5 s"), (0, ELASTIC, "0 of 1 workers were there within 0.5 s")],
)
async def test_a_job_that_has_too_few_workers_does_not_begin(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch, places: int, cluster: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(pool_module, "START_S", 0.5)
    async with ChaosServer() as server, pool(tmp_path, write, server, places=places, cluster=cluster) as some:
        with pytest.raises(JobFailedError, match=told):
            await some.begin()
        assert all(actor.is_killed for actor in some.processes.actors)
        assert not server.received


async def test_a_worker_that_cannot_run_the_job_says_why_before_anything_runs(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(self: RolloutWorker, setup: RolloutSetup) -> NotStarted:
        return NotStarted("GRADER_KEY is not set there", "Set it.")

    monkeypatch.setattr(RolloutWorker, "start", refuse)
    async with ChaosServer() as server, pool(tmp_path, write, server) as some:
        with pytest.raises(UserError, match="rollout worker 1: GRADER_KEY is not set there"):
            await some.begin()
        assert all(actor.is_killed for actor in some.processes.actors)
