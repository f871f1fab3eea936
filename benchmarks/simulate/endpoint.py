"""The user's tool: the real tool, limiter, breaker and retries, with answers that come from a distribution."""

import asyncio
import random
from collections import Counter
from collections.abc import Mapping

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool
from agentrft.traffic import Answer, Endpoint, Fault, Traffic
from agentrft.traffic.gate import LocalGate
from benchmarks.simulate.clock import Clock
from benchmarks.simulate.work import ToolBehaviour

REFUSED_AFTER_S, BROKEN_AFTER_S = 0.02, 0.2
JSON = {"Content-Type": "application/json"}


class SimulatedEndpoint(Endpoint):
    """An endpoint that takes so many calls at once, and says 429 to others.

    Attributes:
        met: how its calls ended, by HTTP status.
        most_at_once: calls under way.
    """

    def __init__(
        self, tool: HttpTool, behaviour: ToolBehaviour, capacity: int, call_s: float, clock: Clock, seed: int
    ) -> None:
        traffic = Traffic.of(tool.spec, idempotent=tool.idempotent)
        super().__init__(f"tool '{tool.name}'", str(tool.spec.server_url), {}, traffic)
        self._behaviour, self._capacity, self._call_s, self._clock = behaviour, capacity, call_s, clock
        self._source = random.Random(f"{seed}/tool")
        self._at_once = self.most_at_once = 0
        self.met: Counter[int] = Counter()

    async def exchange(self, body: bytes, headers: Mapping[str, str], timeout_s: float) -> Answer | Fault:
        """See `Endpoint.exchange`."""
        self._clock.charge(self._call_s)
        latency_s, is_broken = self._behaviour.latency_s(self._source), self._is_broken()
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            if self._at_once > self._capacity:
                await asyncio.sleep(REFUSED_AFTER_S)
                return self._answer(429, {"Retry-After": "1"})
            if latency_s > timeout_s:
                await asyncio.sleep(timeout_s)
                self.met[0] += 1
                return Fault("timeout", f"no answer within {timeout_s:g} s", transient=True)
            await asyncio.sleep(BROKEN_AFTER_S if is_broken else latency_s)
            return self._answer(500, {}) if is_broken else self._answer(200, JSON)
        finally:
            self._at_once -= 1

    def _is_broken(self) -> bool:
        return self._source.random() < self._behaviour.broken_share

    def _answer(self, status: int, headers: Mapping[str, str]) -> Answer:
        self.met[status] += 1
        return Answer(status, headers, b'{"output": "a line of what was found"}' if status == 200 else b"")


class SimulatedTool(HttpTool):
    """The real tool at such an endpoint."""

    def __init__(
        self, spec: HttpToolSpec, behaviour: ToolBehaviour, capacity: int, call_s: float, clock: Clock, seed: int
    ) -> None:
        super().__init__(spec)
        self.met = SimulatedEndpoint(self, behaviour, capacity, call_s, clock, seed)
        self.endpoint, self.counters = self.met, self.met.counters

    @property
    def limit(self) -> float:
        """Of its calls at once, as its gate has come to it."""
        gate = self.met.gate
        assert isinstance(gate, LocalGate)
        return gate.limiter.limit
