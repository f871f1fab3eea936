"""Whether a kernel computes what it should: fresh inputs, awkward sizes and values, what it must not touch.

Every call's output is compared with PyTorch's value in double precision. All calls are made in one process, some of
them with new numbers behind the same pointers, so a kernel that remembers gives itself away.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from examples.kernels.graphs import Graph
from examples.kernels.runner import FIRST_SLOT, OUT_SLOT, SECOND_SLOT, SLOT_FLOATS, Call, KernelDied, Runner

RELATIVE, ABSOLUTE = 1e-5, 1e-6
# Of PyTorch's own error in single precision, which a kernel may be so many times as far off.
OWN_ERRORS = 4.0
# Where PyTorch's own single precision is this far off, an element says nothing about a kernel.
OWN_FAILURE = 1e-4
# A NaN that no arithmetic makes: what is still there after a call was not written.
POISON = np.uint32(0x7FC0DEAD)
SPECIAL = (0.0, -0.0, np.inf, -np.inf, 1e-40, -1e-40, 1e30, -1e30, 100.0, -100.0, 25.0, -25.0, 1.0, -1.0)
SMALL_ELEMENTS = 16

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """Inputs of one call.

    Attributes:
        rows: 1 for elementwise chains.
        n: elements of a row.
        scale: of normal values.
        has_special: with infinities, zeros, denormal and huge values, or for rows with values that a careless sum of
            exponentials cannot take.
        is_at_end: whether the buffers end at a guard; else they begin at one.
    """

    rows: int
    n: int
    scale: float = 1.0
    has_special: bool = False
    is_at_end: bool = True


@dataclass(frozen=True)
class Checked:
    """What checking a kernel found.

    Attributes:
        share: of the cases with at least `SMALL_ELEMENTS` elements, those that it got right, from 0 to 1.
        error: largest error, absolute, of what was compared.
        problem: the first fault, in words; empty where there is none.
        tripped: the defence that caught it, "inputs", "bounds", "threads" or "died"; empty where none did, and where it
            is only wrong.
    """

    share: float
    error: float
    problem: str = ""
    tripped: str = ""

    @property
    def correct(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class Expected:
    """What a call should give.

    Attributes:
        value, tolerance: of each element; a tolerance of infinity where nothing is asked.
    """

    value: NDArray[np.float64]
    tolerance: NDArray[np.float64]


class Faulty(Exception):
    """A kernel touched what it may not.

    Attributes:
        tripped: as in `Checked`.
    """

    def __init__(self, tripped: str, problem: str) -> None:
        super().__init__(problem)
        self.tripped = tripped


def check(runner: Runner, graph: Graph, entropy: random.Random) -> Checked:
    """Call the loaded kernel on fresh inputs.

    Args:
        entropy: of sizes and inputs; `random.SystemRandom()` but for tests.
    """
    sizes, right, problem, tripped, error = [], [], "", "", 0.0
    runner.open()
    is_open = True
    try:
        for case in cases(graph, entropy):
            x, other = inputs(graph, case, entropy)
            expected = expect(graph, x, other)
            got = _call(runner, graph, case, x, other)
            off, wrong = compare(got, expected)
            sizes.append(x.size)
            right.append(not wrong)
            error = max(error, off)
            problem = (
                problem
                or (f"n={case.n} " if graph.signature < 2 else f"r={case.rows} n={case.n} ") * bool(wrong) + wrong
            )
        if (threads := runner.threads()) != 1:
            raise Faulty("threads", f"it left {threads - 1} threads running")
        is_open = False
        status = runner.close_calls()
        if status != 0:
            raise Faulty("died", "it did not end as it should")
    except Faulty as fault:
        problem, tripped = str(fault), fault.tripped
    except KernelDied as death:
        problem, tripped, is_open = f"crashed: {death}", "died", False
    if is_open:
        runner.close_calls()
    counted = [is_right for is_right, size in zip(right, sizes, strict=True) if size >= SMALL_ELEMENTS]
    share = 0.0 if tripped or not counted else sum(counted) / len(counted)
    return Checked(share, error, problem, tripped)


def cases(graph: Graph, entropy: random.Random) -> Iterator[Case]:
    """Sizes from one element up, odd ones among them; the last three calls have the same pointers."""
    if not graph.over_row:
        yield Case(1, 2 * entropy.randint(16, 150) + 1)
        yield Case(1, 1)
        yield Case(1, 2 * entropy.randint(1, 15) + 1, is_at_end=False)
        yield Case(1, entropy.randint(64, 120), has_special=True)
        yield Case(1, entropy.randint(1000, 4000), scale=2.0, is_at_end=False)
        n = entropy.randint(33, 300)
        yield from [Case(1, n)] * 3
        return
    yield Case(entropy.randint(2, 9), 2 * entropy.randint(8, 60) + 1)
    yield Case(1, 2 * entropy.randint(10, 200) + 1)
    yield Case(entropy.randint(2, 9), entropy.randint(2, 7), is_at_end=False)
    yield Case(entropy.randint(2, 5), entropy.randint(20, 50), has_special=True)
    yield Case(entropy.randint(2, 4), entropy.randint(500, 1000), is_at_end=False)
    rows, n = entropy.randint(2, 9), entropy.randint(17, 130)
    yield from [Case(rows, n)] * 3


def inputs(graph: Graph, case: Case, entropy: random.Random) -> tuple[Floats, Floats]:
    """`x` as [rows, n], and the other input: as large as `x`, or for rows [n]."""
    generator = np.random.default_rng(entropy.getrandbits(128))
    x = generator.normal(0, case.scale, (case.rows, case.n)).astype(np.float32)
    other = generator.normal(0, case.scale, case.n).astype(np.float32)
    if case.has_special and graph.over_row:
        x[0] *= 40
        x[-1] += 150
    elif case.has_special:
        places = generator.permutation(case.n)[: len(SPECIAL)]
        x[0, places] = np.array(SPECIAL, np.float32)
    if graph.positive:
        x = np.abs(x) + np.float32(1e-3)
    return x, other


def expect(graph: Graph, x: Floats, other: Floats) -> Expected:
    """The value in double precision, and how far from it a kernel may be."""
    signs = 1 - 2 * (np.arange(x.size).reshape(x.shape) % 2)
    nudged = x.astype(np.float64) * (1 + signs * float(np.finfo(np.float32).eps))
    with torch.inference_mode():
        second = torch.from_numpy(other)
        exact = _value(graph, torch.from_numpy(x), second, torch.float64)
        single = _value(graph, torch.from_numpy(x), second, torch.float32)
        moved = _value(graph, torch.from_numpy(nudged), second, torch.float64)
    # What is too large for single precision is infinite there.
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32).astype(np.float64)
        exact = np.where(np.isinf(rounded), rounded, exact)
        own = np.abs(single - exact) / (np.abs(exact) + 1)
        own = np.where(np.isinf(exact), np.where(single == exact, 0.0, np.inf), own)
        judged = own < OWN_FAILURE
        slack = OWN_ERRORS * own[judged].max(initial=0.0)
        absolute = ABSOLUTE + (RELATIVE * _size(exact[judged]) if graph.over_row else 0.0)
        # Where the last digit of an input moves the value this far, rounding does, too.
        sensitivity = OWN_ERRORS * np.nan_to_num(np.abs(moved - exact), posinf=0.0)
        tolerance = RELATIVE * np.abs(exact) + absolute + slack * (np.abs(exact) + 1) + sensitivity
    return Expected(exact, np.where(judged, np.where(np.isinf(exact), 0.0, tolerance), np.inf))


def compare(got: Floats, expected: Expected) -> tuple[float, str]:
    """The largest error, and the first element that is wrong, in words."""
    value, tolerance = expected.value, expected.tolerance
    with np.errstate(invalid="ignore"):
        error = np.where(value == got, 0.0, np.abs(got.astype(np.float64) - value))
        wrong = ~(error <= tolerance) & (tolerance < np.inf)
    unwritten = got.view(np.uint32) == POISON
    wrong |= unwritten
    judged = error[(tolerance < np.inf) & np.isfinite(error)]
    largest = float(judged.max(initial=0.0))
    if not wrong.any():
        return largest, ""
    place = int(np.flatnonzero(wrong)[0])
    if unwritten[place]:
        return largest, f"y[{place}] was not written"
    return largest, f"y[{place}]={got[place]:.4g}, want {value[place]:.4g}"


def _size(values: NDArray[np.float64]) -> float:
    """Root mean square: what a sum over a row is exact to."""
    finite = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(np.square(finite)))) if finite.size else 0.0


def _value(graph: Graph, x: Tensor, other: Tensor, kind: torch.dtype) -> NDArray[np.float64]:
    value = graph.compute(x.to(kind) if graph.over_row else x[0].to(kind), other.to(kind))
    return value.flatten().double().numpy()


def _call(runner: Runner, graph: Graph, case: Case, x: Floats, other: Floats) -> Floats:
    """Call with guards beside the buffers, and see that nothing else changed.

    Raises:
        Faulty: an input changed, or the output's surroundings.
        KernelDied: the process ended.
    """
    n_out = case.rows if graph.reduces else x.size
    first = _put(runner.inputs, FIRST_SLOT, x.ravel(), case.is_at_end)
    second = _put(runner.inputs, SECOND_SLOT, other, case.is_at_end)
    slot = runner.outputs[OUT_SLOT // 4 :][:SLOT_FLOATS]
    slot.view(np.uint32)[:] = POISON
    begin = SLOT_FLOATS - n_out if case.is_at_end else 0
    before = runner.inputs[FIRST_SLOT // 4 : SECOND_SLOT // 4 + SLOT_FLOATS].tobytes()
    runner.plan([Call(graph.signature, case.rows, case.n, first, second, OUT_SLOT + 4 * begin)])
    runner.call(0)
    if runner.inputs[FIRST_SLOT // 4 : SECOND_SLOT // 4 + SLOT_FLOATS].tobytes() != before:
        raise Faulty("inputs", "it changed an input")
    surroundings = np.delete(slot.view(np.uint32), np.s_[begin : begin + n_out])
    if (surroundings != POISON).any():
        raise Faulty("bounds", "it wrote outside of y")
    return slot[begin : begin + n_out].copy()


def _put(memory: Floats, slot: int, values: Floats, is_at_end: bool) -> int:
    """Put values into a slot; returns the byte offset at which they begin."""
    start = slot // 4 + (SLOT_FLOATS - values.size if is_at_end else 0)
    memory[start : start + values.size] = values
    return 4 * start
