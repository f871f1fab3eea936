"""One worker as the job's process sees it: what it runs, what it asks for, and whether it is still there."""

import asyncio
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NoReturn

from agentrft.cluster.ray_cluster import ActorLostError
from agentrft.cluster.rollouts.keeper import GateKeeper
from agentrft.cluster.rollouts.messages import (
    Answer,
    AttemptBegan,
    Cancel,
    Ended,
    EngineFailed,
    Enter,
    Failed,
    FromWorker,
    Generate,
    GiveBack,
    Leave,
    Notice,
    Restarted,
    Run,
    TookCredential,
    ToWorker,
)
from agentrft.cluster.rollouts.processes import Actor
from agentrft.engine import EngineFailure, Session
from agentrft.errors import JobFailedError
from agentrft.rollout import EarlierAttempts, Rollout, RolloutTask
from agentrft.tracing import span_attributes
from agentrft.traffic import Gates, Notify

# How long a worker that has nothing to say waits before it says so: how soon one that hangs may be noticed.
FETCH_S = 10.0


@dataclass(eq=False)
class Running:
    """A rollout that a worker runs.

    Attributes:
        session: where its turns are sampled.
        ended: its record; raises `ActorLostError` where the worker is lost before.
        trace_id, attempt: of the attempt that has begun; 0 where nothing has.
        turns: that it asked for.
        generating: a turn that is being sampled.
    """

    number: int
    task: RolloutTask
    session: Session
    ended: asyncio.Future[Rollout]
    trace_id: str = ""
    attempt: int = 0
    turns: int = 0
    generating: asyncio.Task[None] | None = None
    started_at: float = field(default_factory=time.time)

    async def stop_generating(self) -> None:
        """The session is free when this returns."""
        if self.generating is not None:
            self.generating.cancel()
            await asyncio.gather(self.generating, return_exceptions=True)
            self.generating = None


class WorkerLink:
    """A worker that has started.

    Args:
        name: for messages.
        gates: that its requests pass.
        notify: told what it tells.
        timeout_s: after so many seconds without an answer it is lost.
    """

    def __init__(self, actor: Actor, name: str, gates: Gates, notify: Notify, timeout_s: float) -> None:
        self.name = name
        self.running: dict[int, Running] = {}
        self._actor = actor
        self._notify = notify
        self._timeout_s = timeout_s
        self._keeper = GateKeeper(gates, self._answer)
        self._numbers = itertools.count(1)
        self._to_tell: list[ToWorker] = []
        self._has_more = asyncio.Event()

    def begin(self, task: RolloutTask, session: Session, earlier: EarlierAttempts | None) -> Running:
        """Have it run a rollout."""
        running = Running(next(self._numbers), task, session, asyncio.get_running_loop().create_future())
        if earlier is not None:
            running.started_at = earlier.started_at
        self.running[running.number] = running
        self._tell(Run(running.number, task, earlier, span_attributes()))
        return running

    async def cancel(self, running: Running) -> None:
        """Nobody waits for it any longer. Its session is free when this returns."""
        if self.running.pop(running.number, None) is not None:
            self._tell(Cancel(running.number))
        await running.stop_generating()

    async def serve(self) -> NoReturn:
        """Answer what it asks for, until it is lost: raises `ActorLostError`."""
        telling = asyncio.create_task(self._keep_telling())
        try:
            fetching = asyncio.create_task(self._keep_fetching())
            try:
                done, _ = await asyncio.wait([telling, fetching], return_when=asyncio.FIRST_COMPLETED)
            finally:
                fetching.cancel()
                await asyncio.gather(fetching, return_exceptions=True)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        raise next(error for task in done if (error := task.exception()) is not None)

    def lost(self, why: str) -> None:
        """It is there no more: what it held is free again, and its rollouts are for others."""
        self._keeper.lost()
        for running in self.running.values():
            if not running.ended.done():
                running.ended.set_exception(ActorLostError(why))
                # Whoever began it may have been cancelled, and asks no more.
                running.ended.exception()
        self.running.clear()

    async def close(self, deadline_s: float) -> None:
        """Let it break off what it runs, while it is still served, and end its process."""
        try:
            async with asyncio.timeout(deadline_s):
                await self._actor.close()
        except (TimeoutError, ActorLostError):
            pass  # it is ended all the same
        self._actor.kill()

    def kill(self) -> None:
        """End its process at once."""
        self._actor.kill()

    async def _keep_fetching(self) -> NoReturn:
        while True:
            for message in (await self._in_time(self._actor.fetch(FETCH_S), FETCH_S + self._timeout_s)).messages:
                self._handle(message)

    async def _keep_telling(self) -> NoReturn:
        # One after another, so that they come in order, and those that gather meanwhile go together.
        while True:
            await self._has_more.wait()
            self._has_more.clear()
            messages, self._to_tell = self._to_tell, []
            await self._in_time(self._actor.tell(messages), self._timeout_s)

    async def _in_time(self, call: Any, timeout_s: float) -> Any:
        try:
            async with asyncio.timeout(timeout_s):
                return await call
        except TimeoutError:
            raise ActorLostError(f"it did not answer within {timeout_s:g} s (cluster.worker_timeout_s)") from None

    def _handle(self, message: FromWorker) -> None:
        match message:
            case Enter():
                self._keeper.enter(message)
            case Leave():
                self._keeper.leave(message)
            case GiveBack(request):
                self._keeper.give_back(request)
            case TookCredential(gate, took):
                self._keeper.took_credential(gate, took)
            case Notice(level, text):
                self._notify(level, text)
            case _:
                # Of a rollout that was cancelled nothing is asked for any more.
                running = self.running.get(message.rollout)
                if running is not None:
                    self._handle_of(running, message)

    def _handle_of(self, running: Running, message: AttemptBegan | Generate | Restarted | Ended | Failed) -> None:
        match message:
            case AttemptBegan(_, trace_id, attempt):
                running.trace_id, running.attempt = trace_id, attempt
            case Generate():
                running.turns += 1
                running.generating = asyncio.create_task(self._generate(running, message))
            case Restarted():
                running.session.restart()
            case Ended(number, record):
                del self.running[number]
                _settle(running.ended.set_result, running, record)
            case Failed(number, why):
                del self.running[number]
                error = JobFailedError(f"{self.name}: a rollout broke: {why}", "Its traceback is in the worker's log.")
                _settle(running.ended.set_exception, running, error)

    async def _generate(self, running: Running, asked: Generate) -> None:
        try:
            answer: Any = await running.session.generate(asked.new_ids, asked.sampling)
        except EngineFailure as failure:
            answer = EngineFailed(failure.kind, str(failure).removeprefix(f"engine: {failure.kind}: "))
        except Exception as error:  # a mistake of ours: it is raised where the rollout is waited for
            self.running.pop(running.number, None)
            self._tell(Cancel(running.number))
            _settle(running.ended.set_exception, running, error)
            return
        self._answer(asked.question, answer)

    def _answer(self, question: int, value: Any) -> None:
        self._tell(Answer(question, value))

    def _tell(self, message: ToWorker) -> None:
        self._to_tell.append(message)
        self._has_more.set()


def _settle(settle: Callable[[Any], None], running: Running, value: Any) -> None:
    if not running.ended.done():
        settle(value)
