"""How many worker processes of python graders live at once in this process, whichever graders they belong to."""

import asyncio
import os
from collections import deque
from typing import Protocol
from weakref import WeakKeyDictionary

# A multi grader may have 16 python graders, each with a worker of its own.
MIN_WORKERS = 16


class Evictable(Protocol):
    async def reap(self) -> None:
        """End the worker; it then gives its place back."""
        ...


class WorkerBudget:
    """Places for workers. A worker that is idle loses its place to one that is needed; else who needs one waits.

    Args:
        limit: how many workers may live.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n_taken = 0
        self._idle: dict[Evictable, None] = {}
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Also those that were woken and have not run since.
        self._n_waiting = 0

    @property
    def n_taken(self) -> int:
        """Workers that live or are being started."""
        return self._n_taken

    async def take(self) -> None:
        """Take a place. The wait for one ends with a call of another grader, all of which have time-outs."""
        self._n_waiting += 1
        try:
            while not self._take_one():
                if self._idle:
                    longest_idle = next(iter(self._idle))
                    self.busy(longest_idle)
                    await longest_idle.reap()
                else:
                    await self._changed()
        finally:
            self._n_waiting -= 1

    def take_free(self) -> bool:
        """Take a place if there is one that nobody has or waits for."""
        return self._n_waiting == 0 and self._take_one()

    def _take_one(self) -> bool:
        if self._n_taken >= self._limit:
            return False
        self._n_taken += 1
        return True

    def give_back(self) -> None:
        """The worker is gone."""
        self._n_taken -= 1
        self._wake_one()

    def idle(self, worker: Evictable) -> None:
        """The worker may be ended for another one."""
        self._idle[worker] = None
        self._wake_one()

    def busy(self, worker: Evictable) -> None:
        """The worker may no longer be ended for another one."""
        self._idle.pop(worker, None)

    async def _changed(self) -> None:
        changed = asyncio.get_running_loop().create_future()
        self._waiting.append(changed)
        try:
            await changed
        except asyncio.CancelledError:
            # What woke this one is for the next.
            if changed.done() and not changed.cancelled():
                self._wake_one()
            raise

    def _wake_one(self) -> None:
        while self._waiting:
            changed = self._waiting.popleft()
            if not changed.done():
                changed.set_result(None)
                return


# Futures and processes belong to one event loop; a process of ours runs its graders in one.
_budgets: "WeakKeyDictionary[asyncio.AbstractEventLoop, WorkerBudget]" = WeakKeyDictionary()


def worker_budget() -> WorkerBudget:
    """The budget of the running event loop."""
    loop = asyncio.get_running_loop()
    if loop not in _budgets:
        _budgets[loop] = WorkerBudget(max(MIN_WORKERS, 2 * (os.cpu_count() or 1)))
    return _budgets[loop]
