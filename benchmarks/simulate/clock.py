"""Simulated time: an event loop that jumps to its next timer when nothing is left to do.

The process that runs a job is one thread, so what it computes keeps it from everything else. Therefore processor time
that it really takes passes on the simulated clock, too, and so does time that is charged for what was left out. What is
the simulation's own (`set_apart`) takes no time.
"""

import asyncio
import math
import selectors
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


class NothingLeft(Exception):
    """All wait, and for nothing that will ever come: a deadlock of what is simulated."""


class Clock:
    """The time of one simulated process, in seconds from its start.

    Args:
        counts_processor: whether real processor time passes on it; without, the same seed gives the same run.

    Attributes:
        now_s: the time.
        busy_s: of it, how long the process computed.
        apart_s: real processor seconds of the simulation itself.
    """

    def __init__(self, *, counts_processor: bool = True) -> None:
        self.now_s = 0.0
        self.busy_s = 0.0
        self.apart_s = 0.0
        self._counts = counts_processor
        self._mark = time.thread_time()

    def charge(self, seconds: float) -> None:
        """The process computes for so long."""
        self.now_s += seconds
        self.busy_s += seconds

    def settle(self) -> None:
        """Let the processor time since the last call pass."""
        now = time.thread_time()
        if self._counts:
            self.charge(now - self._mark)
        self._mark = now

    @contextmanager
    def set_apart(self) -> Iterator[None]:
        """What is done meanwhile is the simulation's."""
        self.settle()
        try:
            yield
        finally:
            now = time.thread_time()
            self.apart_s += now - self._mark
            self._mark = now

    def jump_to(self, moment_s: float) -> None:
        """The process waited until then."""
        self.now_s = max(self.now_s, moment_s)


class _Waiting(selectors.BaseSelector):
    """Where a loop waits for files: nothing comes from any, and to wait is to put the clock forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._files: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        self._files[fileobj] = selectors.SelectorKey(fileobj, 0, events, data)
        return self._files[fileobj]

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.pop(fileobj)

    def get_map(self) -> dict[Any, selectors.SelectorKey]:
        return self._files

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise NothingLeft("nothing runs, and no timer is set: what is awaited will never come")
        # The loop computed it before it counted what was done since.
        until_s = self._clock.now_s + timeout
        self._clock.settle()
        if timeout > 0:
            self._clock.jump_to(until_s)
        return []


class SimulatedLoop(asyncio.SelectorEventLoop):
    """An event loop on a simulated clock. It has no threads and no network."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(_Waiting(clock))
        self._clock = clock

    def time(self) -> float:
        return self._clock.now_s

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
        raise RuntimeError(f"{func} wants a thread, which simulated time does not have")


@contextmanager
def on_the_clock(clock: Clock) -> Iterator[None]:
    """Let the code of agentrft that is loaded read this clock, in place of the machine's.

    The store keeps the real one: its database and files are real.
    """
    simulated = SimpleNamespace(
        monotonic=lambda: clock.now_s, perf_counter=lambda: clock.now_s, time=lambda: clock.now_s, sleep=_refuse_sleep
    )
    modules = [
        module
        for name, module in list(sys.modules.items())
        if name.startswith("agentrft.")
        and not name.startswith("agentrft.store")
        and getattr(module, "time", None) is time
    ]
    for module in modules:
        vars(module)["time"] = simulated
    try:
        yield
    finally:
        for module in modules:
            vars(module)["time"] = time


def run(clock: Clock, work: Any) -> Any:
    """The result of a coroutine in simulated time."""
    with on_the_clock(clock), asyncio.Runner(loop_factory=lambda: SimulatedLoop(clock)) as runner:
        clock.settle()
        return runner.run(work)


def _refuse_sleep(seconds: float) -> None:
    raise RuntimeError(f"time.sleep({seconds}) holds the whole process")


def until(moment_s: float) -> float:
    """A moment that a timer can be set for: the loop takes no infinite ones."""
    return moment_s if math.isfinite(moment_s) else 1e12
