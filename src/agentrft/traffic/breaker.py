"""Waiting out an endpoint that is down, or refuses its credential, instead of sending every rollout into it.

After several failures without an answer between them the endpoint is probed. If it does not answer that either, the
breaker opens: calls wait, and the probe is repeated at growing intervals until it is answered (the circuit breaker of
Nygard, "Release It!", 2007). A call that the endpoint breaks on, time and again, while it answers the probe is that
call's own failure and holds up no other.

A credential that is refused (401, 403, 407) is probed for at once: it is the same for all calls. Where the probe is
taken and the next call is refused again, with no answer between the two, the breaker opens all the same; a call that is
refused while later ones are answered is on its own. So is every 403 where the probe is taken: it may be about what the
model asked for, which no new credential mends, and which must not hold up others.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

FAILURES_TO_PROBE = 5
REFUSALS_TO_PAUSE = 2
FIRST_INTERVAL_S = 1.0
MAX_INTERVAL_S = 15.0
CREDENTIAL_REFUSED = "credential_refused"

Notify = Callable[[str, str], None]
"""Called with a level ("info", "warning", "error") and a text, from the event loop; must return at once."""


def notify_nobody(level: str, text: str) -> None:
    pass


class OutageError(Exception):
    """The endpoint has been down, or has refused its credential, for longer than a call waits. `kind` says which."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Breaker:
    """Used from one event loop at a time.

    Args:
        label: what to call the endpoint in events.
        probe: True where the endpoint answers; False, or the kind of what is wrong, where it does not.
        notify: told when the endpoint goes down and when it answers again.
    """

    def __init__(self, label: str, probe: Callable[[], Awaitable[bool | str]], notify: Notify) -> None:
        self._label = label
        self._probe = probe
        self._notify = notify
        self._failures = 0
        self._refusals = 0
        self._interval_s = FIRST_INTERVAL_S
        self._opened_at: float | None = None
        self._refuses_since: float | None = None
        self._last_taken = 0.0
        self._closed = asyncio.Event()
        self._looked = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._opened_at is not None

    async def admit(self, patience_s: float) -> None:
        """Wait until the endpoint is up.

        Raises:
            OutageError: it was not within `patience_s` seconds.
        """
        if self._opened_at is None:
            return
        opened_at, refuses = self._opened_at, self._refuses_since is not None
        try:
            await asyncio.wait_for(self._closed.wait(), max(0.0, patience_s))
        except TimeoutError:
            since_s = f"for {time.monotonic() - opened_at:.0f} s"
            if refuses:
                raise OutageError(CREDENTIAL_REFUSED, f"its credential was refused {since_s}") from None
            raise OutageError("outage", f"down {since_s}") from None

    async def looked(self) -> None:
        """Wait until it is known whether a refusal opens the breaker."""
        if self._watch is not None and not self._watch.done():
            await self._looked.wait()

    def took_one_since(self, moment: float) -> bool:
        """Whether the endpoint answered a request that was sent after a moment of `time.monotonic`."""
        return self._last_taken > moment

    def answered(self, sent_at: float = 0.0) -> None:
        """The endpoint answered a request, sent at a moment of `time.monotonic`."""
        self._last_taken = max(self._last_taken, sent_at)
        self._failures = self._refusals = 0
        self._interval_s = FIRST_INTERVAL_S
        if self._refuses_since is None:
            if self._opened_at is not None:
                self._close()
        elif self._opened_at is None:
            # Answers while it is open are to requests of before: only a probe ends that.
            refused_s = time.monotonic() - self._refuses_since
            self._refuses_since = None
            self._notify("info", f"{self._label} takes its credential again after {refused_s:.0f} s; the job goes on")

    def failed(self, kind: str, *, is_forbidden: bool = False) -> None:
        """The endpoint answered a request with an error of its own, refused the credential, or did not answer.

        Args:
            is_forbidden: it was a 403, which alone says nothing of the credential.
        """
        is_refused = kind == CREDENTIAL_REFUSED
        if is_refused:
            self._refusals += not is_forbidden
        else:
            self._failures += 1
        enough = is_refused or self._refusals > 0 or self._failures >= FAILURES_TO_PROBE
        if enough and (self._watch is None or self._watch.done()):
            self._looked = asyncio.Event()
            self._watch = asyncio.create_task(self._watch_until_it_answers(kind), name=f"agentrft-watch-{self._label}")

    async def close(self) -> None:
        """Stop probing."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
        self._looked.set()

    async def _watch_until_it_answers(self, kind: str) -> None:
        try:
            await self._watch_for_answers(kind)
        finally:
            # Whoever waits to know goes on, whatever became of the probe.
            self._looked.set()

    async def _watch_for_answers(self, kind: str) -> None:
        paused = False
        while True:
            found = await self._probe()
            if found is True and (paused or self._refusals < REFUSALS_TO_PAUSE):
                break
            paused = True
            self._open(CREDENTIAL_REFUSED if found is True else found or self._usual(kind))
            self._looked.set()
            await asyncio.sleep(self._interval_s)
            self._interval_s = min(2 * self._interval_s, MAX_INTERVAL_S)
        if self._opened_at is not None:
            self._close()
        elif self._refuses_since is None:
            self._failures = 0

    def _usual(self, kind: str) -> str:
        return "no answer to a probe" if kind == CREDENTIAL_REFUSED else kind

    def _open(self, kind: str) -> None:
        if self._opened_at is None:
            self._opened_at = time.monotonic()
            self._closed = asyncio.Event()
            if kind != CREDENTIAL_REFUSED:
                self._notify("warning", f"{self._label} is down ({kind}); calls to it wait until it answers")
        if kind == CREDENTIAL_REFUSED and self._refuses_since is None:
            self._refuses_since = time.monotonic()
            self._notify(
                "warning",
                f"{self._label} refuses its credential (401, 403 or 407); calls to it wait until it is taken again. "
                "Renew the key or token there, or stop the job, correct the `headers`, and resume it",
            )

    def _close(self) -> None:
        down_s = time.monotonic() - (self._opened_at or 0.0)
        self._opened_at = None
        self._failures = 0
        self._closed.set()
        # Whether a credential is taken again only a call can say.
        if self._refuses_since is None:
            self._notify("info", f"{self._label} answers again after {down_s:.0f} s; the job goes on")
