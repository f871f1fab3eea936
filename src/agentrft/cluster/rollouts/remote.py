"""What a rollout worker has of the job's process: the engine's sessions and the endpoints' gates, by messages."""

import asyncio
import hashlib
import itertools
from contextvars import ContextVar
from typing import Any

from agentrft.cluster.rollouts.messages import (
    AttemptBegan,
    Batch,
    EngineFailed,
    Enter,
    Entered,
    FromWorker,
    Generate,
    GiveBack,
    Leave,
    Left,
    NoSlot,
    Outage,
    Restarted,
    TookCredential,
)
from agentrft.engine import EngineFailure, Generation, Sampling
from agentrft.traffic import Admission, Caller, Fault, Gate, Gates, Notify, OutageError, Seen, Traffic

running: ContextVar[int] = ContextVar("agentrft-rollout")
"""The number of the rollout that a task of a worker runs."""


class Mailbox:
    """Messages that wait to be fetched, and questions whose answers have not come. Of one event loop."""

    def __init__(self) -> None:
        self._messages: list[FromWorker] = []
        self._has_mail = asyncio.Event()
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Any]] = {}

    def post(self, message: FromWorker) -> None:
        self._messages.append(message)
        self._has_mail.set()

    def number(self) -> int:
        """Of another question."""
        return next(self._numbers)

    async def ask(self, question: int, message: FromWorker) -> Any:
        """Post a question, and wait for its answer: whoever answers has the deadline."""
        answer = self._asked[question] = asyncio.get_running_loop().create_future()
        self.post(message)
        try:
            return await answer
        finally:
            del self._asked[question]

    def answered(self, question: int, value: Any) -> None:
        """The answer, unless nobody waits for it any longer."""
        answer = self._asked.get(question)
        if answer is not None and not answer.done():
            answer.set_result(value)

    async def fetch(self, patience_s: float) -> Batch:
        """All messages, as soon as there is one; none after `patience_s` seconds."""
        try:
            async with asyncio.timeout(patience_s):
                await self._has_mail.wait()
        except TimeoutError:
            return Batch()
        self._has_mail.clear()
        messages, self._messages = self._messages, []
        return Batch(messages)


class RemoteSession:
    """See `Session`: that which the job's process has open for a rollout."""

    def __init__(self, mailbox: Mailbox, rollout: int) -> None:
        self._mailbox = mailbox
        self._rollout = rollout

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        """See `Session`."""
        question = self._mailbox.number()
        answer = await self._mailbox.ask(question, Generate(question, self._rollout, new_ids, sampling))
        if isinstance(answer, EngineFailed):
            raise EngineFailure(answer.kind, answer.message)
        assert isinstance(answer, Generation)
        return answer

    def restart(self) -> None:
        """See `Session`."""
        self._mailbox.post(Restarted(self._rollout))

    def close(self) -> None:
        """Nothing: the job's process closes it."""


class RemoteGate:
    """See `Gate`: that which the job's process has for the same endpoint.

    `is_down` is as it was when the gate was last passed.
    """

    def __init__(self, mailbox: Mailbox, name: str) -> None:
        self._mailbox = mailbox
        self._name = name
        self.is_down = False

    async def enter(
        self, caller: Caller, *, is_repeated: bool, queue_left_s: float, outage_deadline_s: float
    ) -> Admission | None:
        """See `Gate`."""
        number = self._mailbox.number()
        question = Enter(number, self._name, caller.state, is_repeated, queue_left_s, outage_deadline_s)
        try:
            entered = await self._mailbox.ask(number, question)
        except BaseException:  # such as a rollout that is cancelled: it waits no longer, and may be in already
            self._mailbox.post(GiveBack(number))
            raise
        assert isinstance(entered, Entered)
        caller.state, self.is_down = entered.caller, entered.is_down
        match entered.outcome:
            case Outage(kind, message):
                raise OutageError(kind, message)
            case NoSlot(message):
                raise TimeoutError(message)
            case admission:
                return admission

    async def leave(self, caller: Caller, admission: Admission, seen: Seen) -> Fault | None:
        """See `Gate`."""
        number = self._mailbox.number()
        if seen.fault is None:
            self._mailbox.post(Leave(number, admission.ticket, seen, None))
            return None
        left = await self._mailbox.ask(number, Leave(number, admission.ticket, seen, _digest(caller)))
        assert isinstance(left, Left)
        caller.state, self.is_down = left.caller, left.is_down
        return left.fault

    def give_back(self, caller: Caller, admission: Admission) -> None:
        """See `Gate`."""
        self._mailbox.post(GiveBack(admission.ticket))

    def took_credential(self, took: bool) -> None:
        """See `Gate`."""
        self._mailbox.post(TookCredential(self._name, took))

    async def close(self) -> None:
        """Nothing: others may pass the gate."""


class RemoteGates(Gates):
    """See `Gates`."""

    def __init__(self, mailbox: Mailbox) -> None:
        super().__init__()
        self._mailbox = mailbox

    def made(self, name: str, where: str, traffic: Traffic, notify: Notify, *, forbids_things: bool) -> Gate:
        """See `Gates`."""
        return RemoteGate(self._mailbox, name)


class AttemptsTold:
    """See `RolloutResource`: tells of each attempt as it begins, so that nothing is done of one that nobody knows."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox

    async def begin(self, *, trace_id: str, attempt: int, item: dict[str, Any]) -> None:
        """See `RolloutResource`."""
        self._mailbox.post(AttemptBegan(running.get(), trace_id, attempt))

    async def end(self, *, trace_id: str, attempt: int, outcome: str) -> None:
        """Nothing: the rollout's record says it."""

    async def close(self) -> None:
        """Nothing to give back."""


def _digest(caller: Caller) -> str:
    """Of what a call is about: the same in all processes, and short."""
    return hashlib.sha256(repr(caller.asks_for()).encode(errors="surrogatepass")).hexdigest()
