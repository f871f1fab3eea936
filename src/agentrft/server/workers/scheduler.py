"""Starts a worker process for each of what waits in a queue, up to the queue's bound, the first in it first."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from agentrft.graders.own_server import OwnServer, told_of
from agentrft.program import command
from agentrft.server.background.loop import keep_doing
from agentrft.server.records import new_id
from agentrft.server.settings import Settings
from agentrft.server.workers.leases import LOST, STOP_GRACE_S
from agentrft.server.workers.queues import Queue
from agentrft.server.workers.told import Told

logger = logging.getLogger(__name__)

LOOK_S = 0.5
# Until what a killed worker left is in the record.
NOTE_S = 2.0


@dataclass
class Worker:
    """A worker process, from the scheduler's side.

    Attributes:
        owner: the name under which it holds its lease.
        stopping_since: when a pause or cancel was seen, by the monotonic clock; None while there is none.
    """

    process: asyncio.subprocess.Process
    owner: str
    stopping_since: float | None = None


class Scheduler:
    """Starts workers and watches them. All other state is in the database, so several servers may share it.

    Args:
        driver_environment: variables that workers need to reach the artifact store, and that jobs must not read.
        own_server: how judges of its jobs reach models of this server.
    """

    def __init__(
        self,
        settings: Settings,
        queue: Queue,
        secret_key: str,
        driver_environment: dict[str, str],
        own_server: Callable[[], OwnServer | None],
    ) -> None:
        self._own_server = own_server
        self._settings = settings
        self._queue = queue
        self._secret_key = secret_key
        self._driver_environment = driver_environment if settings.artifacts is not None else {}
        self._workers: dict[str, Worker] = {}
        self._watching: set[asyncio.Task[None]] = set()
        self.woken = asyncio.Event()

    async def run(self) -> None:
        """Run until cancelled. Then all workers are stopped; what they did not finish goes on with the next start."""
        try:
            await keep_doing(f"looking at the {self._queue.what}", self._look, every_s=LOOK_S, woken=self.woken)
        finally:
            await self._stop_all()

    @property
    def running(self) -> list[str]:
        return sorted(self._workers)

    async def _look(self) -> None:
        await asyncio.to_thread(self._queue.end_what_does_not_run, set(self._workers))
        await self._start_what_may_run()
        self._kill_what_does_not_stop()

    async def _start_what_may_run(self) -> None:
        free = self._queue.most - len(self._workers)
        if free <= 0:
            return
        # Those just started may not have their leases yet.
        waiting = [one for one in await asyncio.to_thread(self._queue.waiting) if one not in self._workers]
        for name in waiting[:free]:
            await self._start(name)

    async def _start(self, name: str) -> None:
        owner = new_id("worker-", 12)
        told = Told(
            self._settings,
            self._secret_key,
            name,
            owner,
            os.getpid(),
            self._driver_environment,
            told_of(self._own_server()),
        )
        path = self._queue.log_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *command(self._queue.module),
                stdin=asyncio.subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._workers[name] = Worker(process, owner)
        task = asyncio.create_task(self._watch(name, self._workers[name]), name=f"agentrft-watch-{name}")
        self._watching.add(task)
        task.add_done_callback(self._watching.discard)
        assert process.stdin is not None
        try:
            process.stdin.write(told.as_line())
        except (RuntimeError, ConnectionError):  # uvloop says the former of a pipe that is closed
            logger.warning("%s: its worker died before it was told what to do", name)

    async def _watch(self, name: str, worker: Worker) -> None:
        code = await worker.process.wait()
        try:
            if code not in (0, LOST):
                is_stopping = worker.stopping_since is not None
                await asyncio.to_thread(self._queue.after_a_crash, name, worker.owner, _how(code), is_stopping)
        finally:
            del self._workers[name]
            self.woken.set()

    def _kill_what_does_not_stop(self) -> None:
        now = time.monotonic()
        for name, worker in self._workers.items():
            if not self._queue.is_to_stop(name):
                worker.stopping_since = None
                continue
            worker.stopping_since = worker.stopping_since or now
            if now - worker.stopping_since > STOP_GRACE_S:
                _kill(worker)

    async def _stop_all(self) -> None:
        for worker in self._workers.values():
            worker.stopping_since = time.monotonic()
            _signal(worker, signal.SIGTERM)
        if self._watching:
            await asyncio.wait(self._watching, timeout=STOP_GRACE_S)
        for worker in self._workers.values():
            _kill(worker)
        if self._watching:
            await asyncio.wait(self._watching, timeout=NOTE_S)


def _how(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _signal(worker: Worker, number: int) -> None:
    try:
        worker.process.send_signal(number)
    except ProcessLookupError:
        pass


def _kill(worker: Worker) -> None:
    """Kill the worker and all processes that it started."""
    try:
        os.killpg(worker.process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
