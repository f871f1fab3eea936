"""Generates by vLLM servers: one, or several of the same model, of which a rollout stays with one that is there."""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from agentrft.engine.base import EngineFailure, Generation, Sampling
from agentrft.engine.vllm.proof import prove
from agentrft.engine.vllm.server import Server, ServerLostError
from agentrft.engine.vllm.weights import Adapter, FullWeights, ServedWeights
from agentrft.errors import EndpointError

# For a server that is away when it is to load weights.
AWAY_S = 600.0


class VllmSession:
    """One rollout's context; its server finds the keys and values by the tokens.

    Attributes:
        server: that its turns are asked of.
    """

    def __init__(self, engine: "VllmEngine", server: Server) -> None:
        self._engine = engine
        self.server = server
        self._context: list[int] = []
        self._closed = False

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        """See `Session.generate`. Cancelling the call ends the request, and with it the server's work on it."""
        if self._closed:
            raise EngineFailure("closed", "this session was closed")
        if not self._context and not new_ids:
            raise EngineFailure("empty", "a turn needs at least one token of context")
        self._context += new_ids
        generation = await self._engine._sample(self, self._context, sampling)
        self._context += generation.token_ids
        return generation

    def restart(self) -> None:
        self._context = []

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine._release(self.server)


class VllmEngine:
    """Each policy version is loaded by every server that is there before any samples from it; one that is away gets it
    with its next turn, so that no machine that is lost holds the others up. Its sessions go on with another server,
    which computes their contexts anew; only where none is there do they wait.

    Args:
        servers: of the same model.
        model: as they call it.
        max_sequences: sessions that are open at once, on all of them.
        sleeps: whether the servers give their memory back between rollouts.

    Attributes:
        policy_version: of what it samples from.
        busy_s: seconds in which it had something to generate.
        away_s: for how long it waits for the first of its servers where all are away when they are to load weights.
        waits: whether a turn waits, within its deadline, where all of them are lost.
    """

    def __init__(self, servers: Sequence[Server], model: str, *, max_sequences: int, sleeps: bool = False) -> None:
        self._servers = list(servers)
        self._model = model
        self._places = asyncio.Semaphore(max_sequences)
        self._in_flight = 0
        self._busy_since = 0.0
        self._busy_s = 0.0
        self._sleeps = sleeps
        self._asleep = False
        self._waking = asyncio.Lock()
        self._closed = False
        self.away_s = AWAY_S
        self.waits = True
        self.policy_version = 0

    @property
    def counters(self) -> Counter[str]:
        """Tokens and requests since it was made."""
        return sum((server.counters for server in self._servers), Counter[str]())

    @property
    def busy_s(self) -> float:
        running = time.perf_counter() - self._busy_since if self._in_flight else 0.0
        return self._busy_s + running

    async def open(self) -> VllmSession:
        """Wait for a place, and take it with the server that has the fewest sessions, of those that are there.

        Raises:
            EngineFailure: the engine was closed.
        """
        await self._places.acquire()
        if self._closed:
            self._places.release()
            raise EngineFailure("stopped", "the engine was closed")
        return VllmSession(self, self._with_fewest_sessions())

    async def use_adapter(self, folder: Path, policy_version: int) -> None:
        """Sample from this adapter from now on. Open sessions go on with it at their next turn.

        Args:
            folder: in PEFT's format, where the servers can read it too; it must stay until the one after the next is
                used: turns that are under way end with it.

        Raises:
            EngineFailure: a server does not take the adapter, or all of them stay away.
        """
        await self._use(Adapter(folder, policy_version), policy_version)

    async def use_weights(self, folder: Path, policy_version: int) -> None:
        """Sample from these weights from now on, as `use_adapter` does.

        Args:
            folder: as `save_pretrained` writes it; it must stay as that of an adapter must.
        """
        await self._use(FullWeights(self._model, folder, policy_version), policy_version)

    async def release_memory(self) -> None:
        """Let the servers sleep, where the job says that they share the memory; they wake for the next turn.

        Raises:
            EngineFailure: sessions are open.
        """
        self._refuse_open("before the servers sleep")
        if self._sleeps and not self._asleep:
            self._asleep = True
            await asyncio.gather(*(server.sleep() for server in self._servers))

    async def prove(self, *, temperature: float, top_p: float, context_tokens: int) -> None:
        """See that the servers are such that this job can train with them; those that are ours are started.

        Raises:
            EndpointError: one does not start, cannot be reached, has not the model, not the room, or tells other
                log-probabilities than a policy gradient needs.
        """
        try:
            await _all(server.keeper.start() for server in self._servers)
            await self._wake()
        except EngineFailure as error:
            raise EndpointError(str(error), "Run the command by hand to see why, or mend engine.command.") from error
        for server in self._servers:
            await prove(
                server.client,
                self._model,
                temperature=temperature,
                top_p=top_p,
                context_tokens=context_tokens,
                sleeps=self._sleeps,
            )

    async def close(self) -> None:
        """Stop; servers that are not ours stay."""
        self._closed = True
        await asyncio.gather(*(server.close() for server in self._servers))

    async def _use(self, weights: ServedWeights, policy_version: int) -> None:
        await self._wake()
        is_there = await asyncio.gather(*(server.use(weights, policy_version) for server in self._servers))
        if not any(is_there):
            await self._until_one_is_there()
        self.policy_version = policy_version

    async def _until_one_is_there(self) -> None:
        coming = [asyncio.create_task(server.until_there(within_s=self.away_s)) for server in self._servers]
        try:
            done, _ = await asyncio.wait(coming, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for one in coming:
                one.cancel()
            await asyncio.gather(*coming, return_exceptions=True)

    async def _wake(self) -> None:
        async with self._waking:
            if self._asleep:
                await asyncio.gather(*(server.wake(within_s=self.away_s) for server in self._servers))
                self._asleep = False

    def _with_fewest_sessions(self) -> Server:
        """With one session more."""
        server = min(self._servers, key=lambda one: (one.is_lost, one.sessions))
        server.sessions += 1
        return server

    def _may_leave(self, server: Server) -> bool:
        return not self.waits or self._is_another_there(server)

    def _is_another_there(self, than: Server) -> bool:
        return any(not server.is_lost for server in self._servers if server is not than)

    async def _sample(self, session: VllmSession, context: list[int], sampling: Sampling) -> Generation:
        if self._asleep:
            await self._wake()
        if not self._in_flight:
            self._busy_since = time.perf_counter()
        self._in_flight += 1
        try:
            while True:
                server = session.server
                try:
                    return await server.sample(context, sampling, may_leave=partial(self._may_leave, server))
                except ServerLostError:
                    if not self._is_another_there(server):
                        raise EngineFailure(
                            "unreachable", f"no vLLM server answers at {server.client.shown_url}"
                        ) from None
                    server.counters["moved"] += 1
                    server.sessions -= 1
                    session.server = self._with_fewest_sessions()
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._busy_s += time.perf_counter() - self._busy_since

    def _refuse_open(self, when: str) -> None:
        if count := sum(server.sessions for server in self._servers):
            raise EngineFailure("busy", f"{count} sessions are open; close them {when}")

    def _release(self, server: Server) -> None:
        server.sessions -= 1
        self._places.release()


async def _all(started: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until all have ended; the first that fails ends the others."""
    tasks = [asyncio.create_task(one) for one in started]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
