"""Compiles, checks and times kernels: what the tools and the grader ask.

One thread owns the jail and the clock, so kernels are timed one at a time, and never beside another one's check.
"""

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch

from agentrft.errors import UserError
from examples.kernels.checking import Checked, check
from examples.kernels.compiler import Compiled, Compiler, compile_unchecked
from examples.kernels.graphs import Graph
from examples.kernels.runner import KernelDied, Runner
from examples.kernels.timing import Stopwatch, Timed

WAIT_S = 300.0
NOTHING = "void f(const float*x,float*y,int n){}"
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Verdict:
    """All that is known of a source.

    Attributes:
        compiled: what came of compiling it.
        checked: None where it did not compile.
        timed: None where it is not right.
    """

    compiled: Compiled
    checked: Checked | None = None
    timed: Timed | None = None

    @property
    def correct(self) -> bool:
        """Right where it was checked, and in every timed call."""
        return self.checked is not None and self.checked.correct and self.timed is not None and not self.timed.problem

    @property
    def tripped(self) -> str:
        """The defence that caught it; empty where none did. A mistake can trip one, too."""
        found = [self.compiled.refused]
        found += [part.tripped for part in (self.checked, self.timed) if part is not None]
        return next(filter(None, found), "")


class Bench:
    """A compiler, a jail and a stopwatch. `close` ends the jail.

    `compile`, `check`, `time` and `judge` are all that tools and grader know of how kernels are run: a bench for
    another language has the same four.

    Args:
        trusted: run kernels without bubblewrap; they still have no system calls and no clock.
        entropy: of all inputs; the system's by default, so that nobody knows them.

    Raises:
        UserError: kernels cannot be compiled, or not be jailed.
    """

    def __init__(self, *, trusted: bool = False, entropy: random.Random | None = None) -> None:
        self._compiler = Compiler()
        self._entropy = entropy or random.SystemRandom()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="bench")
        self._closed = threading.Lock()
        self._runner, self._stopwatch = self._on_thread(lambda: self._start(trusted))

    def compile(self, graph: Graph, source: str) -> Compiled:
        """A source for that graph's signature, compiled, or why it is not."""
        return self._compiler.compile(source, graph.signature)

    def check(self, graph: Graph, library: bytes) -> Checked:
        """Whether a compiled kernel is right, on fresh inputs."""
        return self._on_thread(lambda: self._checked(graph, library))

    def time(self, graph: Graph, library: bytes) -> Timed:
        """How quick it is. It should be right: what its timed calls gave is compared, too."""
        return self._on_thread(lambda: self._timed(graph, library))

    def judge(self, graph: Graph, source: str) -> Verdict:
        """Everything about a source, from scratch."""
        compiled = self.compile(graph, source)
        library = compiled.library
        if library is None:
            return Verdict(compiled)
        return self._on_thread(lambda: self._judged(graph, compiled, library))

    def close(self) -> None:
        """End the jail. The bench is of no use afterwards."""
        if self._closed.acquire(blocking=False):
            self._on_thread(self._runner.close)
            self._thread.shutdown()

    def _start(self, trusted: bool) -> tuple[Runner, Stopwatch]:
        # PyTorch is timed on one thread, as a kernel is.
        torch.set_num_threads(1)
        nothing = compile_unchecked(NOTHING)
        if nothing.library is None:
            raise UserError(
                f"gcc does not compile a kernel: {nothing.diagnostic}",
                "Install gcc with binutils and the C library's headers.",
            )
        runner = Runner(trusted=trusted)
        return runner, Stopwatch(runner, nothing.library, self._entropy)

    def _judged(self, graph: Graph, compiled: Compiled, library: bytes) -> Verdict:
        checked = self._checked(graph, library)
        return Verdict(compiled, checked, self._timed(graph, library) if checked.correct else None)

    def _checked(self, graph: Graph, library: bytes) -> Checked:
        self._runner.load(library)
        return check(self._runner, graph, self._entropy)

    def _timed(self, graph: Graph, library: bytes) -> Timed:
        try:
            return self._stopwatch.time(graph, library)
        except KernelDied as death:
            return Timed(problem=f"crashed when timed: {death}", tripped="died")

    def _on_thread(self, work: Callable[[], Answer]) -> Answer:
        return self._thread.submit(work).result(WAIT_S)
