"""Where a server that is the job's own runs: on this machine, or on one that somebody else finds."""

import asyncio
from typing import Protocol

from agentrft.engine.vllm.process import ServerProcess


class NotBegunError(Exception):
    """A server did not come to be started; the message says what about it, such as "found no place"."""


class Host(Protocol):
    """Runs one server, wherever that is.

    Attributes:
        shown: the command, as a shell takes it.
        log: where the server writes to, as messages name it.
    """

    shown: str
    log: str

    async def begin(self) -> str:
        """Start it; what it was before is killed. Returns its URL, at which it answers when it is ready.

        Raises:
            NotBegunError: there is no place for it, or its machine has not what it needs.
        """
        ...

    async def how_it_ended(self) -> str | None:
        """Such as "ended with status 1"; None while it runs."""
        ...

    async def last_words(self) -> str:
        """What it wrote at the end; empty where that is gone with it."""
        ...

    async def kill(self) -> None:
        """At once, with all that it started."""
        ...

    async def end(self) -> None:
        """Ask it to end, and see that it does."""
        ...


class LocalHost:
    """This machine; see `Host`.

    Args:
        url: at which the process's command will listen.
    """

    def __init__(self, process: ServerProcess, url: str) -> None:
        self._process = process
        self._url = url
        self.shown = process.shown
        self.log = str(process.log)

    async def begin(self) -> str:
        """See `Host`."""
        await self.kill()
        self._process.begin()
        return self._url

    async def how_it_ended(self) -> str | None:
        """See `Host`."""
        return self._process.how_it_ended()

    async def last_words(self) -> str:
        """See `Host`."""
        return self._process.last_words()

    async def kill(self) -> None:
        """See `Host`."""
        await asyncio.to_thread(self._process.kill)

    async def end(self) -> None:
        """See `Host`."""
        await asyncio.to_thread(self._process.end)
