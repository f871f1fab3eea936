"""Lets the requests of one worker pass the gates of the job's process, and takes back what it held when it is lost."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from agentrft.cluster.rollouts.messages import Enter, Entered, Leave, Left, NoSlot, Outage
from agentrft.traffic import Admission, Caller, Gate, Gates, OutageError

# For how long an endpoint is taken to be still at work on what a worker that is gone had asked of it.
LINGERS_S = 5.0


class GateKeeper:
    """Args:
    gates: of this process's endpoints, whose names the worker knows.
    answer: sends the worker the answer to a question of that number.
    lingers_s: after which a lost worker's requests count no more against an endpoint's limit.
    """

    def __init__(self, gates: Gates, answer: Callable[[int, Any], None], *, lingers_s: float = LINGERS_S) -> None:
        self._gates = gates
        self._answer = answer
        self._lingers_s = lingers_s
        self._held: dict[int, tuple[Gate, Caller, Admission]] = {}
        self._entering: dict[int, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def enter(self, asked: Enter) -> None:
        """Answer once the request may be sent, or may not be."""
        task = self._begun(self._enter(asked))
        self._entering[asked.question] = task
        task.add_done_callback(lambda _: self._entering.pop(asked.question, None))

    def leave(self, told: Leave) -> None:
        """The request has ended; where it has a fault the worker waits for the answer."""
        task = self._begun(self._leave(told))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    def give_back(self, request: int) -> None:
        """The request is not, or no longer, wanted."""
        if request in self._held:
            gate, caller, admission = self._held.pop(request)
            gate.give_back(caller, admission)
        elif request in self._entering:
            self._entering[request].cancel()

    def took_credential(self, gate: str, took: bool) -> None:
        """See `Gate`."""
        self._gates[gate].took_credential(took)

    def lost(self) -> None:
        """The worker is gone, with all that it held or waited for. A server does not know that at once."""
        for request in tuple(self._entering):
            self.give_back(request)
        loop, held = asyncio.get_running_loop(), list(self._held.values())
        self._held.clear()
        for gate, caller, admission in held:
            loop.call_later(self._lingers_s, gate.give_back, caller, admission)

    async def _enter(self, asked: Enter) -> None:
        gate, caller = self._gates[asked.gate], _caller(asked)
        try:
            admission = await gate.enter(
                caller,
                is_repeated=asked.is_repeated,
                queue_left_s=asked.queue_left_s,
                outage_deadline_s=asked.outage_deadline_s,
            )
        except OutageError as outage:
            outcome = Outage(outage.kind, str(outage))
        except TimeoutError as error:
            outcome = NoSlot(str(error))
        else:
            outcome = None if admission is None else replace(admission, ticket=asked.question)
            if admission is not None:
                self._held[asked.question] = gate, caller, admission
        self._answer(asked.question, Entered(outcome, caller.state, gate.is_down))

    async def _leave(self, told: Leave) -> None:
        gate, caller, admission = self._held.pop(told.request)
        if told.asks_for is not None:
            caller.asks_for = lambda: told.asks_for
        fault = await gate.leave(caller, admission, told.seen)
        if told.seen.fault is not None:
            self._answer(told.question, Left(fault, caller.state, gate.is_down))

    def _begun(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)


def _caller(asked: Enter) -> Caller:
    # What the call is about is told where it fails, and is asked for nowhere else.
    caller = Caller(lambda: None)
    caller.state = asked.caller
    return caller
