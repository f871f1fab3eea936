"""Operator graphs: a chain over `x` that may reduce or normalise its rows, as PyTorch's text and as its value.

A graph's `family` is its operators without their constants. Data files are disjoint by family, so a kernel that was
learned by heart is of no use in another file.
"""

import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from examples.kernels.operators import ELEMENTWISE
from examples.kernels.row_operators import NORMS, REDUCTIONS

# By their numbers in `runner.c`.
SIGNATURES = (
    "void f(const float*x,float*y,int n)",
    "void f(const float*x,const float*z,float*y,int n)",
    "void f(const float*x,float*y,int r,int n)",
    "void f(const float*x,const float*w,float*y,int r,int n)",
)
DIFFICULTIES = ("small", "medium", "large")
TRIED_VALUES = 1024
TRIED_ROWS = 16
MOST_COMMON_SHARE, FINITE_SHARE, MATTERS_SHARE = 0.8, 0.999, 0.1
LARGEST_VALUE = 2000.0
OWN_ERROR = 3e-6


@dataclass(frozen=True)
class Step:
    """An elementwise operator and its constant, which is 0 where it has none."""

    name: str
    constant: float = 0.0


@dataclass(frozen=True)
class Graph:
    """A chain of operators.

    Attributes:
        before: elementwise, on `x`.
        over_row: a reduction or a norm of the rows; empty for an elementwise chain.
        after: elementwise, on what comes of that.
        positive: whether `x` has only positive values, as a logarithm needs.
    """

    before: tuple[Step, ...]
    over_row: str = ""
    after: tuple[Step, ...] = ()
    positive: bool = False

    @property
    def family(self) -> str:
        names = [step.name for step in self.before]
        rest = [self.over_row, *(step.name for step in self.after)] if self.over_row else []
        return " ".join([*names, *rest])

    @property
    def reduces(self) -> bool:
        return self.over_row in REDUCTIONS

    @property
    def takes_other(self) -> bool:
        return any(ELEMENTWISE[step.name].takes_other for step in (*self.before, *self.after))

    @property
    def signature(self) -> int:
        return 2 * bool(self.over_row) + self.takes_other

    @property
    def text(self) -> str:
        """PyTorch's expression, such as `torch.relu(x + z) * 0.5`."""
        text, is_infix = "x", False
        for name, constant in self._named():
            if name in ELEMENTWISE:
                operator = ELEMENTWISE[name]
                inner = f"({text})" if is_infix and operator.infix else text
                text = operator.text.format(v=inner, c=f"{constant:g}", z="w" if self.over_row else "z")
                is_infix = operator.infix
            else:
                row = REDUCTIONS[name] if name in REDUCTIONS else NORMS[name]
                text, is_infix = row.text.format(v=text), False
        return text

    def compute(self, x: Tensor, other: Tensor) -> Tensor:
        """The value, in the precision of `x`.

        Args:
            x: [n] of an elementwise chain, else [rows, n].
            other: [n], `z` or `w`; not read where the graph has none.
        """
        value = x
        for name, constant in self._named():
            if name in ELEMENTWISE:
                value = ELEMENTWISE[name].compute(value, constant, other)
            else:
                value = (REDUCTIONS[name] if name in REDUCTIONS else NORMS[name]).compute(value)
        return value

    def without(self, place: int) -> "Graph":
        """The graph that lacks one elementwise step, counted through `before` and `after`."""
        n = len(self.before)
        before = self.before[:place] + self.before[place + 1 :]
        after = self.after if place < n else self.after[: place - n] + self.after[place - n + 1 :]
        return Graph(before, self.over_row, after, self.positive)

    def as_json(self) -> dict[str, Any]:
        """As it stands in a data row."""
        steps = {name: [[step.name, step.constant] for step in getattr(self, name)] for name in ("before", "after")}
        return {**steps, "over_row": self.over_row, "positive": self.positive}

    @classmethod
    def from_json(cls, value: Any) -> "Graph":
        """The graph that `as_json` made this of.

        Raises:
            ValueError: it is none.
        """
        try:
            before, after = (
                tuple(Step(str(name), float(constant)) for name, constant in value[key]) for key in ("before", "after")
            )
            graph = cls(before, str(value["over_row"]), after, bool(value["positive"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"no operator graph: {error}") from error
        names = {step.name for step in (*before, *after)}
        if not names <= ELEMENTWISE.keys() or graph.over_row not in ("", *REDUCTIONS, *NORMS):
            raise ValueError(f"unknown operators in {graph.family!r}")
        return graph

    def _named(self) -> list[tuple[str, float]]:
        row = [(self.over_row, 0.0)] if self.over_row else []
        return [*((s.name, s.constant) for s in self.before), *row, *((s.name, s.constant) for s in self.after)]


def draw(difficulty: str, generator: random.Random) -> Graph:
    """A graph that may not be sound.

    small: 1 or 2 elementwise operators. medium: 3 or 4 of them, or a reduction of 1 to 3. large: a norm with up to 2
    before and 1 or 2 after it.
    """
    if difficulty == "small":
        return Graph(_steps(generator, generator.choice((1, 2, 2, 2)), other=True))
    if difficulty == "medium":
        if generator.random() < 0.5:
            return Graph(_steps(generator, generator.choice((3, 4)), other=True))
        before = _steps(generator, generator.choice((1, 2, 3)), other=False)
        after = _steps(generator, generator.choice((0, 1)), other=False)
        return Graph(before, generator.choice(list(REDUCTIONS)), after)
    before = _steps(generator, generator.choice((0, 1, 2)), other=False)
    after = _steps(generator, generator.choice((1, 2)), other=True)
    return Graph(before, generator.choice(list(NORMS)), after)


def sound(graph: Graph) -> Graph | None:
    """The graph with the inputs that it needs; None where it is not worth asking for.

    Its values are finite, not too large and not all alike, float32 computes them well, and every operator matters.
    """
    for positive in (False, True):
        chosen = Graph(graph.before, graph.over_row, graph.after, positive)
        if _is_sound(chosen):
            return chosen
    return None


def draw_families(
    difficulty: str, count: int, generator: random.Random, without: frozenset[str] = frozenset()
) -> list[Graph]:
    """Sound graphs of `count` different families, none of them in `without`."""
    found: dict[str, Graph] = {}
    seen = set(without)
    while len(found) < count:
        graph = draw(difficulty, generator)
        if graph.family in seen:
            continue
        seen.add(graph.family)
        if (usable := sound(graph)) is not None:
            found[graph.family] = usable
    return list(found.values())


def _steps(generator: random.Random, count: int, *, other: bool) -> tuple[Step, ...]:
    names = [name for name, operator in ELEMENTWISE.items() if other or not operator.takes_other]
    chosen = [generator.choice(names) for _ in range(count)]
    return tuple(
        Step(name, generator.choice(ELEMENTWISE[name].constants) if ELEMENTWISE[name].constants else 0.0)
        for name in chosen
    )


def _is_sound(graph: Graph) -> bool:
    seeded = torch.Generator().manual_seed(0)
    x, other = (torch.randn(TRIED_VALUES, generator=seeded, dtype=torch.float64) * 1.5 for _ in range(2))
    x = x.abs() + 0.05 if graph.positive else x
    if graph.over_row:
        x, other = x.view(TRIED_ROWS, -1), other[: TRIED_VALUES // TRIED_ROWS]
    value = graph.compute(x, other)
    if value.isfinite().double().mean() < FINITE_SHARE:
        return False
    value = value.nan_to_num(0, 0, 0)
    alike = value.flatten().mode().values
    if value.std() < 0.02 or value.abs().max() > LARGEST_VALUE or (value == alike).double().mean() > MOST_COMMON_SHARE:
        return False
    in_float = graph.compute(x.float(), other.float()).double()
    if ((in_float - value).abs() / (value.abs() + 0.1)).nan_to_num(0).max() > OWN_ERROR:
        return False
    for place in range(len(graph.before) + len(graph.after)):
        simpler = graph.without(place).compute(x, other)
        differs = ((simpler - value).abs() > 1e-3 * (value.abs() + 0.1)) | ~simpler.isfinite()
        if differs.double().mean() < MATTERS_SHARE:
            return False
    return True
