"""One vLLM server, as the engine sees it: its weights, and turns that are asked for until they are answered."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from agentrft.engine.base import EngineFailure, Generation, Sampling
from agentrft.engine.vllm.client import ASKING_TIMEOUT_S, Attempts, Client
from agentrft.engine.vllm.host import Host
from agentrft.engine.vllm.keeper import Keeper
from agentrft.engine.vllm.turns import completion, read_answer
from agentrft.engine.vllm.weights import Original, ServedWeights
from agentrft.traffic import Notify, notify_nobody

HANG_S = 120.0
MOST_SEED = (1 << 63) - 1


class ServerLostError(Exception):
    """Nobody answers at a server, or it does not get on; a turn is to be asked for elsewhere."""


class Version:
    """One version of the policy at one server, and the turns that it has not answered of it."""

    def __init__(self, weights: ServedWeights, number: int) -> None:
        self.weights = weights
        self.number = number
        self._turns = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def is_idle(self) -> bool:
        return not self._turns

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One more, while this lasts."""
        self._turns += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._turns -= 1
            if not self._turns:
                self._idle.set()

    async def until_idle(self) -> None:
        """Until its turns are over; each has a deadline."""
        await self._idle.wait()


class Server:
    """Generating has no effects beside its answer, so what does not come through is asked for again, within the turn's
    deadline: a server that restarts costs nothing but time, and is given its weights anew.

    Weights change under open sessions, and never within a turn: those under way end with the version that they began
    with, unless they are asked for again: then they are of the newest. A new adapter is loaded beside the one before,
    which is dropped when its last turn is over, and before another one is loaded; all weights are replaced when no turn
    is under way, and turns that come meanwhile wait.

    Args:
        model: as the server calls the model that is trained.
        host: what runs the server, if that is ours to run.
        hang_s: for how long it may neither answer nor get on with its work before something is done about it.
        notify: told of trouble.
        seeded: whether turns are asked for with their seed. vLLM samples such a request apart from the others, and its
            CPU builds end with one.

    Attributes:
        client: what asks it.
        keeper: what watches over it.
        in_flight: requests for turns that it has not answered.
        sessions: that are open with it.
        counters: tokens and requests since it was made.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        *,
        host: Host | None = None,
        hang_s: float = HANG_S,
        notify: Notify = notify_nobody,
        seeded: bool = False,
    ) -> None:
        self.client = client
        self.in_flight = 0
        self.sessions = 0
        self.keeper = Keeper(client, model, host, is_busy=lambda: self.in_flight > 0, hang_s=hang_s, notify=notify)
        self.counters: Counter[str] = Counter()
        self._version = Version(Original(model), 0)
        # The version before it, as long as it has turns, and what waits for their end.
        self._before: Version | None = None
        self._leaving: asyncio.Task[None] | None = None
        self._takes_turns = asyncio.Event()
        self._takes_turns.set()
        self._loading = asyncio.Lock()
        self._notify = notify
        self._seeded = seeded

    @property
    def is_lost(self) -> bool:
        """Whether nobody answers there, or it does not get on."""
        return self.keeper.lost.is_set()

    async def use(self, weights: ServedWeights, policy_version: int) -> bool:
        """Sample from these from the next turn on.

        Returns:
            Whether it was there to load them. One that was not is given them with its next turn.

        Raises:
            EngineFailure: it does not take them.
        """
        await self.keeper.start()
        await self._left()
        before = self._version
        if not weights.is_beside:
            self._takes_turns.clear()
        try:
            if not weights.is_beside:
                await before.until_idle()
            # One that hangs would hold the others up.
            is_there = not self.is_lost and await self._load(weights)
            self._version = Version(weights, policy_version)
        finally:
            self._takes_turns.set()
        if before.weights.model != weights.model:
            # What the server keeps of old ones is the server's affair, and no reason to fail.
            self._leaving = asyncio.create_task(self._leave(before), name="agentrft-vllm-leaving")
            if before.is_idle:
                await self._left()
        return is_there

    async def until_there(self, *, within_s: float) -> None:
        """Have it load what it is to sample from.

        Raises:
            EngineFailure: it does not take it, or stays away for so long.
        """
        attempts = Attempts(time.perf_counter() + within_s)
        while not await self._load(self._version.weights):
            if not attempts.left_s:
                raise EngineFailure("unreachable", f"no vLLM server answers at {self.client.shown_url}")
            await asyncio.sleep(attempts.next_pause_s())

    async def sample(
        self, context: list[int], sampling: Sampling, *, may_leave: Callable[[], bool] = lambda: False
    ) -> Generation:
        """A turn behind this context.

        Args:
            may_leave: whether it can be asked for elsewhere, if this server is lost.

        Raises:
            EngineFailure: it was refused, sampled by other weights, or not answered within its deadline.
            ServerLostError: the server is lost, and the turn may leave it.
        """
        await self.keeper.start()
        attempts = Attempts(time.perf_counter() + sampling.deadline_s)
        while True:
            if self.is_lost and may_leave():
                raise ServerLostError
            while not self._takes_turns.is_set():
                try:
                    await asyncio.wait_for(self._takes_turns.wait(), attempts.left_s)
                except TimeoutError:
                    raise _timeout(sampling) from None
            version = self._version
            with version.turn():
                answer = await self._while_there(self._asked(context, sampling, attempts, version.weights), may_leave)
            if answer is not None:
                break
            self.counters["repeated"] += 1
            await asyncio.sleep(attempts.next_pause_s())
        self.counters["requests"] += 1
        tokens, logprobs = read_answer(answer)
        self.counters["tokens_sampled"] += len(tokens)
        reason = "stop" if tokens[-1] in sampling.stop_ids else "length"
        return Generation(tokens, logprobs, reason, version.number)

    async def sleep(self) -> None:
        """Have it give back the memory of its caches, and move its weights to the machine's. Where it does not, that
        is told, and all goes on with less memory.
        """
        status, answer = await self.client.request("/sleep?level=1", {}, ASKING_TIMEOUT_S)
        # One that is away has no memory, and is awake when it comes back.
        if status not in (0, 200):
            said = self.client.said(answer)
            self._notify("warning", f"the vLLM server at {self.client.shown_url} does not sleep: {status}: {said}")

    async def wake(self, *, within_s: float) -> None:
        """Have it take its memory again.

        Raises:
            EngineFailure: it does not, for so long.
        """
        attempts = Attempts(time.perf_counter() + within_s)
        status, answer = await self.client.request("/wake_up", {}, ASKING_TIMEOUT_S)
        while status != 200:
            self._refuse_dead()
            if not attempts.left_s:
                raise EngineFailure("sleep", f"the vLLM server does not wake up: {self.client.said(answer)}")
            await asyncio.sleep(attempts.next_pause_s())
            status, answer = await self.client.request("/wake_up", {}, ASKING_TIMEOUT_S)

    async def close(self) -> None:
        """Let it forget what is ours, and end it if it is ours."""
        if self._leaving is not None:
            self._leaving.cancel()
            await asyncio.gather(self._leaving, return_exceptions=True)
        if self._before is not None:
            await self._before.weights.forget(self.client)
        await self._version.weights.forget(self.client)
        await self.keeper.close()
        await self.client.close()

    async def _left(self) -> None:
        """Until the version before the newest has no turn left, and the server has dropped it."""
        if self._leaving is not None:
            await self._leaving
            self._leaving = None

    async def _leave(self, before: Version) -> None:
        self._before = before
        await before.until_idle()
        await before.weights.forget(self.client)
        self._before = None

    async def _while_there(
        self, asked: Coroutine[Any, Any, dict[str, Any] | None], may_leave: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """What comes of it; None where the server is lost meanwhile and the turn may leave it."""
        asking, losing = asyncio.create_task(asked), asyncio.create_task(self.keeper.lost.wait())
        try:
            await asyncio.wait([asking, losing], return_when=asyncio.FIRST_COMPLETED)
            if not asking.done() and may_leave():
                return None
            return await asking
        finally:
            asking.cancel()
            losing.cancel()
            await asyncio.gather(asking, losing, return_exceptions=True)

    async def _asked(
        self, context: list[int], sampling: Sampling, attempts: Attempts, weights: ServedWeights
    ) -> dict[str, Any] | None:
        """The answer to a turn; None where it is to be asked for again."""
        self._refuse_dead()
        if not attempts.left_s:
            raise _timeout(sampling)
        body = completion(weights.model, context, sampling)
        if self._seeded:
            body["seed"] = sampling.seed & MOST_SEED
        self.in_flight += 1
        try:
            status, answer = await self.client.request("/v1/completions", body, attempts.left_s)
        finally:
            self.in_flight -= 1
        self.keeper.asked(answered=status != 0)
        if status == 200 and isinstance(answer, dict):
            if await weights.confirm(self.client, answer):
                self.keeper.works()
                return answer
            await self._load(weights)
        elif status == 404 and weights.is_given:
            # A server that was started anew does not know it.
            await self._load(weights)
        elif 400 <= status < 500 and status not in (408, 429):
            kind = "context" if "maximum context length" in str(answer) else "refused"
            raise EngineFailure(kind, f"vLLM answered {status}: {self.client.said(answer)}")
        return None

    async def _load(self, weights: ServedWeights) -> bool:
        self._refuse_dead()
        async with self._loading:
            return await weights.load(self.client)

    def _refuse_dead(self) -> None:
        if self.keeper.gave_up is not None:
            raise self.keeper.gave_up


def _timeout(sampling: Sampling) -> EngineFailure:
    return EngineFailure("timeout", f"the turn did not end within {sampling.deadline_s} s")
