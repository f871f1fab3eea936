"""The gates of one process, passed by endpoints of others: limits hold over all, and what a lost one held comes back.

Both sides are the real ones; what Ray would carry between them is carried at once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentrft.cluster.rollouts.keeper import GateKeeper
from agentrft.cluster.rollouts.messages import Enter, GiveBack, Leave, TookCredential
from agentrft.cluster.rollouts.remote import Mailbox, RemoteGates
from agentrft.traffic import Answer, Endpoint, Fault, Gates, Sent, Traffic, having_gates
from agentrft.traffic.gate import LocalGate
from tests.traffic.chaos_server import ChaosServer, hang, ok, status

TRAFFIC = Traffic(timeout_s=10, max_concurrency=3, retries=2, backoff_s=0.01, outage_deadline_s=5.0)
LABEL = "tool 'search'"


class Side:
    """A process with an endpoint of its own whose gate is the first one's."""

    def __init__(self, gates: Gates, url: str, traffic: Traffic) -> None:
        self.mailbox = Mailbox()
        self.keeper = GateKeeper(gates, self.mailbox.answered, lingers_s=0.5)
        with having_gates(RemoteGates(self.mailbox)):
            self.endpoint = Endpoint(LABEL, url, {}, traffic)
        self.carrying = asyncio.create_task(self._carry())

    async def _carry(self) -> None:
        while True:
            for message in (await self.mailbox.fetch(60)).messages:
                match message:
                    case Enter():
                        self.keeper.enter(message)
                    case Leave():
                        self.keeper.leave(message)
                    case GiveBack(request):
                        self.keeper.give_back(request)
                    case TookCredential(gate, took):
                        self.keeper.took_credential(gate, took)
                    case _:
                        raise AssertionError(message)

    async def call(self, number: int = 0) -> Sent[bytes]:
        return await self.endpoint.send(b"%d" % number, {}, read, trace_id="trace_1")


def read(answer: Answer) -> bytes | Fault:
    return answer.body or b""


@asynccontextmanager
async def sides(server: ChaosServer, count: int = 2, **changes: Any) -> AsyncIterator[tuple[LocalGate, list[Side]]]:
    traffic = Traffic(**{**TRAFFIC.__dict__, **changes})
    gates = Gates()
    with having_gates(gates):
        own = Endpoint(LABEL, server.url, {}, traffic)
    made = [Side(gates, server.url, traffic) for _ in range(count)]
    try:
        assert isinstance(own.gate, LocalGate)
        yield own.gate, made
    finally:
        for side in made:
            side.carrying.cancel()
            await side.endpoint.close()
        await own.close()


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


async def test_a_limit_holds_over_all_of_them_together() -> None:
    async with ChaosServer(default=ok(delay_s=0.05)) as server, sides(server) as (gate, both):
        calls: list[Awaitable[Sent[bytes]]] = [side.call(number) for number in range(12) for side in both]
        for sent in await asyncio.gather(*calls):
            assert not isinstance(sent.verdict, Fault)
        assert server.max_in_flight == 3
        assert gate.limiter.in_flight == 0


async def test_a_refusal_that_one_of_them_gets_lowers_the_limit_of_all() -> None:
    server = ChaosServer(script=[status(429, Retry_After="0")])
    async with server, sides(server, max_concurrency=32) as (gate, both):
        sent = await both[0].call()
        assert not isinstance(sent.verdict, Fault) and sent.attempts == 2
        assert gate.limiter.limit == pytest.approx(32 * 0.85)


async def test_what_a_lost_one_held_or_waited_for_is_for_the_others() -> None:
    server = ChaosServer(script=[hang(), hang()])
    async with server, sides(server, max_concurrency=2) as (gate, (lost, other)):
        hanging = [asyncio.create_task(lost.call(number)) for number in range(4)]
        await until(lambda: len(server.received) == 2)
        waiting = asyncio.create_task(other.call())
        await asyncio.sleep(0.1)
        assert not waiting.done() and gate.limiter.in_flight == 2
        lost.carrying.cancel()
        lost.keeper.lost()
        # The server is still at work on what nobody waits for any more, and its limit holds.
        await asyncio.sleep(0.2)
        assert not waiting.done() and gate.limiter.in_flight == 2
        sent = await asyncio.wait_for(waiting, 10)
        assert not isinstance(sent.verdict, Fault)
        assert gate.limiter.in_flight == 0
        for task in hanging:
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)


async def test_a_call_that_is_cancelled_gives_back_what_it_held_or_waited_for() -> None:
    server = ChaosServer(script=[hang()])
    async with server, sides(server, max_concurrency=1) as (gate, (one, other)):
        calls = [asyncio.create_task(one.call()), asyncio.create_task(other.call())]
        await until(lambda: len(server.received) == 1)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: gate.limiter.in_flight == 0)
        assert not isinstance((await one.call()).verdict, Fault)


async def test_an_outage_that_one_of_them_meets_is_waited_out_by_all_and_found_over_by_one() -> None:
    server = ChaosServer(script=[status(503)] * 5, default=ok())
    async with server, sides(server, retries=3) as (gate, both):
        # The fifth failure opens the breaker.
        calls = [asyncio.create_task(side.call(number)) for number in range(3) for side in both]
        for sent in await asyncio.gather(*calls):
            assert not isinstance(sent.verdict, Fault), sent
        assert not gate.breaker.is_open


async def test_a_down_endpoint_fails_calls_of_others_with_its_own_words() -> None:
    server = ChaosServer(default=status(503))
    async with server, sides(server, retries=1, outage_deadline_s=0.2) as (gate, both):
        sents = await asyncio.gather(*(side.call(number) for number in range(4) for side in both))
        kinds = {sent.verdict.kind for sent in sents if isinstance(sent.verdict, Fault)}
        assert len(sents) == 8 and kinds <= {"outage", "server_error"} and "outage" in kinds
        assert gate.limiter.in_flight == 0


async def test_a_credential_that_was_never_taken_is_the_users_mistake_wherever_it_is_refused() -> None:
    async with ChaosServer(default=status(401)) as server, sides(server) as (gate, both):
        for side in both:
            sent = await side.call()
            assert isinstance(sent.verdict, Fault) and "was never taken" in sent.verdict.message
            assert sent.attempts == 1
        assert not gate.breaker.is_open
