"""Watches over a server: whether it answers, and whether it gets on with what it is asked. One that is ours is started
anew when it ended or hangs; of another one an event says so."""

import asyncio
import re
import time
from collections.abc import Callable

from agentrft.engine.base import EngineFailure, Sampling
from agentrft.engine.vllm.client import Client
from agentrft.engine.vllm.host import Host, NotBegunError
from agentrft.engine.vllm.turns import completion
from agentrft.traffic import Notify

# Large models take long to load.
START_TIMEOUT_S = 1800.0
# Between two looks at a server that is ours, and at another one.
INTERVAL_S, OTHERS_INTERVAL_S = 1.0, 5.0
# Of one look.
LOOK_TIMEOUT_S = 10.0
# In a row, with no turn answered in between.
MOST_RESTARTS = 5
# Requests in a row that nobody answered: it is lost, until it answers again.
LOST_AFTER = 2
# Of vLLM's counters, those that move whenever it computes.
PROGRESS = re.compile(r"^vllm:(?:prompt|generation)_tokens_total(?:\{[^}]*\})? ([0-9.e+]+)", re.MULTILINE)


class Keeper:
    """Keeps one server.

    Args:
        model: as the server calls it: one token of it shows that a server gets on again.
        host: what runs it; None for a server that is another's to start.
        is_busy: whether it has been asked for something.
        hang_s: for how long it may neither answer nor get on.
        notify: told of trouble, and of its end.

    Attributes:
        gave_up: why it is not started any more; None while it is.
        lost: set while nobody answers there, or it does not get on.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        host: Host | None,
        *,
        is_busy: Callable[[], bool],
        hang_s: float,
        notify: Notify,
    ) -> None:
        self._client = client
        self._one_token = completion(model, [1], Sampling(0.0, 1.0, 1, frozenset(), 0, deadline_s=LOOK_TIMEOUT_S))
        self._host = host
        self._is_busy = is_busy
        self._hang_s = hang_s
        self._notify = notify
        self._starting = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._restarts = 0
        self._silent_since: float | None = None
        self._heard_at = self._got_on_at = 0.0
        self._progress: float | None = None
        self._unanswered = 0
        # It did not get on, and has not shown since that it does. That it has nothing to do shows nothing.
        self._is_stuck = False
        self.gave_up: EngineFailure | None = None
        self.lost = asyncio.Event()

    async def start(self) -> None:
        """Start the server, if that is ours to do, and watch it from now on. Later calls do nothing.

        Raises:
            EngineFailure: it does not start.
        """
        async with self._starting:
            if self._watching is not None:
                return
            if self._host is not None:
                trouble = await self._begun(self._host)
                if trouble is not None:
                    failure = await self._failure(self._host, trouble)
                    await self._host.kill()
                    raise failure
            self._begin_to_count()
            self._watching = asyncio.get_running_loop().create_task(self._watch(), name="agentrft-vllm-keeper")

    def works(self) -> None:
        """It has answered a turn: what went wrong before counts no more."""
        self._restarts = 0

    def asked(self, *, answered: bool) -> None:
        """A request has ended, with an answer or without one."""
        self._unanswered = 0 if answered else self._unanswered + 1
        if self._unanswered >= LOST_AFTER:
            self.lost.set()

    async def close(self) -> None:
        """Stop watching, and end a server that is ours."""
        async with self._starting:
            if self._watching is not None:
                self._watching.cancel()
                await asyncio.gather(self._watching, return_exceptions=True)
            if self._host is not None:
                await self._host.end()

    async def _watch(self) -> None:
        interval = OTHERS_INTERVAL_S if self._host is None else INTERVAL_S
        while self.gave_up is None:
            await asyncio.sleep(min(interval, self._hang_s / 4))
            looked_at = time.monotonic()
            trouble = await self._trouble()
            if trouble is not None:
                self.lost.set()
            elif self._heard_at >= looked_at:
                self._unanswered = 0
                self.lost.clear()
            if self._host is not None and trouble is not None:
                await self._start_anew(self._host, trouble)
            elif trouble is not None and self._silent_since is None:
                self._silent_since = time.monotonic() - self._hang_s
                self._notify("warning", f"the vLLM server at {self._client.shown_url} {trouble}")
            elif trouble is None and self._silent_since is not None:
                self._tell_that_it_is_back(self._silent_since)
                self._silent_since = None

    async def _start_anew(self, host: Host, why: str) -> None:
        began = time.monotonic()
        trouble: str | None = why
        while trouble is not None:
            self._restarts += 1
            if self._restarts > MOST_RESTARTS:
                self.gave_up = await self._failure(host, f"{trouble}, after {MOST_RESTARTS} starts in a row")
                self._notify("error", str(self.gave_up))
                await host.kill()
                return
            count = f"{self._restarts} of at most {MOST_RESTARTS} in a row"
            self._notify("warning", f"the vLLM server {trouble}; it is started anew ({count}); its log: {host.log}")
            trouble = await self._begun(host)
        self._begin_to_count()
        self.lost.clear()
        self._tell_that_it_is_back(began)

    async def _begun(self, host: Host) -> str | None:
        """None once it answers, else why it does not."""
        try:
            self._client.move_to(await host.begin())
        except NotBegunError as error:
            return str(error)
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if (ended := await host.how_it_ended()) is not None:
                return f"{ended} before it answered"
            status, _ = await self._client.request("/health", None, LOOK_TIMEOUT_S)
            if status == 200:
                return None
            await asyncio.sleep(0.25)
        return f"did not answer within {START_TIMEOUT_S:.0f} s"

    async def _trouble(self) -> str | None:
        """What is wrong with it, if anything."""
        ended = None if self._host is None else await self._host.how_it_ended()
        if ended is not None:
            return ended
        timeout_s = min(LOOK_TIMEOUT_S, self._hang_s / 2)
        status, _ = await self._client.request("/health", None, timeout_s)
        now = time.monotonic()
        if status == 200:
            self._heard_at = now
        elif now - self._heard_at > self._hang_s:
            return f"has not answered for {now - self._heard_at:.0f} s"
        if self._is_stuck:
            status, _ = await self._client.request("/v1/completions", self._one_token, timeout_s)
            if status != 200:
                return "does not get on with its work"
            self._is_stuck = False
        if not self._is_busy():
            self._got_on_at = now
            return None
        status, progress = await self._tokens_so_far(timeout_s)
        # Servers without these counters are held to their answers alone.
        if status == 200 and (progress is None or progress != self._progress):
            self._progress, self._got_on_at = progress, now
        elif now - self._got_on_at > self._hang_s:
            self._is_stuck = True
            return f"has not got on with its work for {now - self._got_on_at:.0f} s"
        return None

    async def _tokens_so_far(self, timeout_s: float) -> tuple[int, float | None]:
        """The status of its answer, 200 too where it has no such page; and what it counted."""
        status, answer = await self._client.request("/metrics", None, timeout_s)
        found = PROGRESS.findall(answer) if status == 200 and isinstance(answer, str) else []
        return 200 if status == 404 else status, sum(map(float, found)) if found else None

    def _begin_to_count(self) -> None:
        self._heard_at = self._got_on_at = time.monotonic()
        self._progress = None
        self._is_stuck = False

    def _tell_that_it_is_back(self, since: float) -> None:
        seconds = time.monotonic() - since
        self._notify("info", f"the vLLM server at {self._client.shown_url} answers again after {seconds:.0f} s")

    async def _failure(self, host: Host, trouble: str) -> EngineFailure:
        said = self._client.said(await host.last_words())
        return EngineFailure("dead", f"the vLLM server {trouble}: {host.shown}; {host.log} ends with: {said}")
