"""A worker's side of a lease: renewed until the work ends, and asked again and again whether that is to stop."""

import asyncio
import logging
import os
import threading
import time
from typing import Protocol

from sqlalchemy.exc import SQLAlchemyError

from agentrft.job.stop import Stop
from agentrft.server.workers.leases import HEARTBEAT_S, LEASE_S, LOST, RENEW_S, STOP_GRACE_S

logger = logging.getLogger(__name__)


class Leases(Protocol):
    """The records of who has what; the second value says what was requested of the work: "pause", "cancel" or None."""

    def acquire(self, name: str, owner: str, seconds: float, /) -> bool: ...

    def renew(self, name: str, owner: str, seconds: float, /) -> tuple[bool, str | None]: ...

    def held(self, name: str, owner: str, /) -> tuple[bool, str | None]: ...

    def release(self, name: str, owner: str, /) -> None: ...


class LeaseKeeper:
    """Keeps one lease.

    Args:
        name: of what is leased: a job's or a run's id.
        parent: the process id of the server, without which the worker ends.
    """

    def __init__(self, leases: Leases, name: str, *, owner: str, parent: int) -> None:
        self._leases = leases
        self._name = name
        self._owner = owner
        self._parent = parent
        self._ended = threading.Event()
        self._leased_until = 0.0

    def acquire(self) -> bool:
        """Take the lease; False where another has it, nothing is left to do, or the server is gone."""
        if os.getppid() != self._parent or not self._leases.acquire(self._name, self._owner, LEASE_S):
            return False
        self._leased_until = time.monotonic() + LEASE_S
        return True

    def watch(self, stop: Stop, loop: asyncio.AbstractEventLoop) -> None:
        """From now on, in a thread: renew the lease; request a stop when that is wished for or the server is gone."""
        threading.Thread(target=self._beat, args=(stop, loop), name="agentrft-lease", daemon=True).start()

    def keep(self) -> str | None:
        """Renew the lease when that is due. Returns what was requested.

        A worker that lost the lease exits at once: what it worked on belongs to another worker.
        """
        is_mine, wish = self._renew()
        if not is_mine and not self._ended.is_set():
            logger.error("%s: the lease is lost", self._name)
            os._exit(LOST)
        return wish

    def end(self) -> None:
        """The lease is given up from here on, not lost."""
        self._ended.set()

    def release(self) -> None:
        self.end()
        self._leases.release(self._name, self._owner)

    def _beat(self, stop: Stop, loop: asyncio.AbstractEventLoop) -> None:
        """Without a server nobody kills a worker that does not stop: it then exits by itself after `STOP_GRACE_S`."""
        alone_since: float | None = None
        while not self._ended.wait(HEARTBEAT_S):
            wish = self.keep()
            is_alone = os.getppid() != self._parent
            if wish is not None or is_alone:
                loop.call_soon_threadsafe(stop.request)
            if not is_alone:
                continue
            alone_since = alone_since or time.monotonic()
            if time.monotonic() - alone_since > STOP_GRACE_S:
                logger.error("%s does not stop, and the server is gone", self._name)
                os._exit(LOST)

    def _renew(self) -> tuple[bool, str | None]:
        """While the database does not answer, the lease counts as held until it runs out."""
        try:
            if self._leased_until - time.monotonic() > LEASE_S - RENEW_S:
                return self._leases.held(self._name, self._owner)
            is_mine, wish = self._leases.renew(self._name, self._owner, LEASE_S)
        except SQLAlchemyError as error:
            logger.warning("%s: the lease was not prolonged: %s", self._name, error)
            return time.monotonic() < self._leased_until, None
        self._leased_until = time.monotonic() + LEASE_S
        return is_mine, wish
