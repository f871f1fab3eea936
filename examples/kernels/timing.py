"""How quick a kernel is beside PyTorch, on one thread each.

A timed series is 64 calls, each on numbers of its own, in a process that was made for it; the clock is `runner.c`'s.
The outputs of the timed calls are what is compared afterwards, all of them: a kernel that does something else when it
is timed, or that remembers, is wrong. Series of the kernel and of PyTorch take turns. Of the kernel the best series
counts; of PyTorch the best of each call, which is less where others have the processor now and then: what errs, errs
for PyTorch.
"""

import random
import time
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from examples.kernels.checking import POISON, Case, Expected, Faulty, compare, expect, inputs
from examples.kernels.graphs import Graph
from examples.kernels.runner import PAGE, TIMED_BYTES, TIMED_CALLS, TIMED_INPUTS, TIMED_OUTPUTS, Call, Runner

ELEMENTS, ROWS = 4096, 32
SERIES = 5
SERIES_OF_NOTHING = 15
POOLS_KEPT, POOL_USES = 24, 64
# A kernel's time is never taken for less than this share of PyTorch's: below lies what the clock cannot see.
SHORTEST_SHARE = 1 / 16
# Bound here, once: whoever replaces `time.perf_counter_ns` later replaces another name.
_nanoseconds = time.perf_counter_ns


@dataclass(frozen=True)
class Timed:
    """What timing found.

    Attributes:
        kernel_us, torch_us: microseconds of one call.
        problem, tripped: as of `Checked`: an output of a timed call was wrong.
    """

    kernel_us: float = 0.0
    torch_us: float = 0.0
    problem: str = ""
    tripped: str = ""

    @property
    def speedup(self) -> float:
        """How many times as fast as PyTorch; 0 where an output was wrong."""
        return 0.0 if self.problem else self.torch_us / max(self.kernel_us, self.torch_us * SHORTEST_SHARE)


@dataclass
class Pool:
    """Inputs for the series of one graph, and what should come of them.

    Attributes:
        x, other: flat float32, `TIMED_CALLS` times `ELEMENTS`; of `other` that, or one row for all calls.
        tensors: the same for PyTorch, by call.
        expected: for all calls, one after the other.
        n_out: elements of one call's output.
        uses: how often it was used; it is drawn again after `POOL_USES`.
    """

    x: np.ndarray
    other: np.ndarray
    tensors: list[tuple[Tensor, Tensor]]
    expected: Expected
    n_out: int
    uses: int = 0


class Stopwatch:
    """Times kernels on one runner. What a series of nothing takes is measured at the start, and taken off: the least of
    many, so never more than a kernel's series had of it.

    Args:
        nothing: a library whose `f` returns at once.
        entropy: of inputs.
    """

    def __init__(self, runner: Runner, nothing: bytes, entropy: random.Random) -> None:
        self._runner, self._entropy = runner, entropy
        self._pools: OrderedDict[Graph, Pool] = OrderedDict()
        runner.load(nothing)
        runner.plan(_plan(0, ELEMENTS))
        self.overhead_ns = min(runner.timed(TIMED_CALLS) for _ in range(SERIES_OF_NOTHING))

    def time(self, graph: Graph, library: bytes, series: int = SERIES) -> Timed:
        """Time a kernel that was found right.

        Raises:
            KernelDied: it ended in a timed call.
        """
        pool, runner = self._pool(graph), self._runner
        runner.load(library)
        runner.plan(_plan(graph.signature, pool.n_out))
        start = TIMED_INPUTS // 4
        runner.inputs[start : start + pool.x.size] = pool.x
        runner.inputs[start + TIMED_BYTES // 4 :][: pool.other.size] = pool.other
        kernel, reference = [], []
        for _ in range(series):
            outputs = runner.outputs[TIMED_OUTPUTS // 4 :]
            outputs.view(np.uint32)[:] = POISON
            kernel.append(runner.timed(TIMED_CALLS) - self.overhead_ns)
            try:
                problem = _problem(outputs, pool)
            except Faulty as fault:
                return Timed(problem=str(fault), tripped=fault.tripped)
            if problem:
                return Timed(problem=f"when timed: {problem}", tripped="timed")
            reference.append(_torch_series(graph, pool))
        torch_ns = np.min(reference, axis=0).mean()
        return Timed(max(0, min(kernel)) / TIMED_CALLS / 1000, float(torch_ns) / 1000)

    def _pool(self, graph: Graph) -> Pool:
        pool = self._pools.pop(graph, None)
        if pool is None or pool.uses >= POOL_USES:
            pool = _draw_pool(graph, self._entropy)
        pool.uses += 1
        self._pools[graph] = pool
        if len(self._pools) > POOLS_KEPT:
            self._pools.popitem(last=False)
        return pool


def _draw_pool(graph: Graph, entropy: random.Random) -> Pool:
    rows = TIMED_CALLS * ROWS
    # All calls at once: nothing that a graph computes goes beyond its row.
    case = Case(rows, ELEMENTS // ROWS) if graph.over_row else Case(1, TIMED_CALLS * ELEMENTS)
    x, other = inputs(graph, case, entropy)
    expected = expect(graph, x, other)
    parts = (
        torch.from_numpy(x).view(TIMED_CALLS, ROWS, -1) if graph.over_row else torch.from_numpy(x).view(TIMED_CALLS, -1)
    )
    others = torch.from_numpy(other)
    other_parts = [others] * TIMED_CALLS if graph.over_row else list(others.view(TIMED_CALLS, -1))
    tensors = list(zip(parts, other_parts, strict=True))
    return Pool(x.ravel(), other, tensors, expected, ROWS if graph.reduces else ELEMENTS)


def _plan(signature: int, n_out: int) -> list[Call]:
    """The calls of a series; between two outputs there is a page that nobody may write to."""
    rows, n = (ROWS, ELEMENTS // ROWS) if signature >= 2 else (1, ELEMENTS)
    stride = 4 * n_out + PAGE
    return [
        Call(
            signature,
            rows,
            n,
            TIMED_INPUTS + 4 * ELEMENTS * number,
            TIMED_INPUTS + TIMED_BYTES + (0 if signature >= 2 else 4 * n * number),
            TIMED_OUTPUTS + stride * number,
        )
        for number in range(TIMED_CALLS)
    ]


def _problem(outputs: np.ndarray, pool: Pool) -> str:
    """What is wrong with the outputs of a series; empty where nothing is.

    Raises:
        Faulty: something else was written.
    """
    stride = pool.n_out + PAGE // 4
    table = outputs[: TIMED_CALLS * stride].reshape(TIMED_CALLS, stride)
    if (table[:, pool.n_out :].view(np.uint32) != POISON).any():
        raise Faulty("bounds", "it wrote outside of y")
    return compare(np.ascontiguousarray(table[:, : pool.n_out]).ravel(), pool.expected)[1]


def _torch_series(graph: Graph, pool: Pool) -> list[int]:
    """Nanoseconds of each call in PyTorch's eager mode, its outputs' memory included."""
    taken = []
    with torch.inference_mode():
        for x, other in pool.tensors:
            started = _nanoseconds()
            graph.compute(x, other)
            taken.append(_nanoseconds() - started)
    return taken
