"""A rollout worker: the actor that runs rollouts of a job, and asks the job's process for turns and admissions."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext

from agentrft.cluster.rollouts.messages import (
    Answer,
    Batch,
    Cancel,
    Ended,
    Failed,
    Notice,
    NotStarted,
    Run,
    Started,
    ToWorker,
)
from agentrft.cluster.rollouts.remote import AttemptsTold, Mailbox, RemoteGates, RemoteSession, running
from agentrft.cluster.rollouts.setup import RolloutParts, RolloutSetup
from agentrft.errors import UserError, describe
from agentrft.tracing import Tracing, open_tracing, tracing

# How long one that is to end waits for what its rollouts still have to do, such as telling a hook of their end.
END_S = 10.0
SPANS_S = 2.0


class RolloutWorker:
    """Its methods are called by the job's process, one `tell` after another, in one event loop.

    What it was asked for but has not fetched is bounded by the rollouts that run, of which the engine has so many.
    """

    def __init__(self) -> None:
        self._mailbox = Mailbox()
        self._parts: RolloutParts | None = None
        self._tracing: Tracing | None = None
        self._running: dict[int, asyncio.Task[None]] = {}

    async def start(self, setup: RolloutSetup) -> Started | NotStarted:
        """Make what runs rollouts."""
        loop = asyncio.get_running_loop()

        def notify(level: str, text: str) -> None:
            # What is told while parts are made, in a thread, the job's process has found by itself.
            if self._parts is not None:
                loop.call_soon_threadsafe(self._mailbox.post, Notice(level, text))

        make = _making(setup, self._mailbox, notify)
        try:
            # It reads files, and may talk to servers.
            self._parts = await asyncio.to_thread(make)
        except UserError as error:
            return NotStarted(error.cause, error.remedy)
        try:
            self._tracing = open_tracing()
        except UserError as error:
            self._mailbox.post(Notice("warning", f"There are no spans of rollouts. {error.cause} {error.remedy}"))
        return Started(os.getpid())

    async def fetch(self, patience_s: float) -> Batch:
        """What it has to say, as soon as there is something; nothing after so many seconds."""
        return await self._mailbox.fetch(patience_s)

    async def tell(self, messages: Sequence[ToWorker]) -> None:
        """Take messages, in order."""
        for message in messages:
            match message:
                case Run():
                    task = asyncio.create_task(self._run(message), name=f"agentrft-rollout-{message.rollout}")
                    self._running[message.rollout] = task
                    task.add_done_callback(lambda _, number=message.rollout: self._running.pop(number, None))
                case Cancel(rollout):
                    if rollout in self._running:
                        _cancel(self._running[rollout])
                case Answer(question, value):
                    self._mailbox.answered(question, value)

    async def close(self) -> None:
        """Break off what runs, and give back what is held."""
        left = list(self._running.values())
        for task in left:
            _cancel(task)
        if left:
            await asyncio.wait(left, timeout=END_S)
        if self._parts is not None:
            await self._parts.close()
        if self._tracing is not None:
            lost = await asyncio.to_thread(self._tracing.close, deadline_s=SPANS_S)
            if lost:
                self._mailbox.post(Notice("warning", f"{lost} spans of rollouts were not taken by their endpoint."))

    async def _run(self, asked: Run) -> None:
        assert self._parts is not None
        running.set(asked.rollout)
        session = RemoteSession(self._mailbox, asked.rollout)
        try:
            with self._spans_of(asked):
                record = await self._parts.runner.run(asked.task, session, earlier=asked.earlier)
        except Exception as error:  # a mistake of ours: it ends the job, as it would in the job's own process
            self._mailbox.post(Failed(asked.rollout, describe(error)))
            raise
        self._mailbox.post(Ended(asked.rollout, record))

    def _spans_of(self, asked: Run) -> AbstractContextManager[None]:
        if self._tracing is None or asked.spans is None:
            return nullcontext()
        return tracing(self._tracing, asked.spans)


def _cancel(task: asyncio.Task[None]) -> None:
    """Once: a second time would break off what it does at its end, such as telling a hook."""
    if not task.cancelling():
        task.cancel()


def _making(setup: RolloutSetup, mailbox: Mailbox, notify: Callable[[str, str], None]) -> Callable[[], RolloutParts]:
    return lambda: setup.make(RemoteGates(mailbox), AttemptsTold(mailbox), notify)
