"""C for a graph, in one line: right, slow or wrong, as its expressions are chosen."""

import random
from dataclasses import dataclass

from examples.kernels.graphs import SIGNATURES, Graph, Step
from examples.kernels.operators import ELEMENTWISE
from examples.kernels.row_operators import NORMS, REDUCTIONS


@dataclass(frozen=True)
class Habits:
    """How somebody writes kernels: shares, from 0 to 1, of steps.

    Attributes:
        wrong: written as another operator, or without a case.
        slow: right, in double precision or in a roundabout way.
        careless: of operators over rows, without the case that makes them safe.
    """

    wrong: float = 0.0
    slow: float = 0.0
    careless: float = 0.0


@dataclass(frozen=True)
class Written:
    """A source, and what its writer knows of it."""

    source: str
    is_right: bool
    is_slow: bool


def best(graph: Graph) -> str:
    """The source that is right, and as quick as one short line of C gets."""
    return write(graph, Habits(), random.Random(0)).source


def write(graph: Graph, habits: Habits, script: random.Random) -> Written:
    """One C function. `script` decides where the habits show."""
    other = "w[j]" if graph.over_row else "z[i]"
    before, after = (
        [_Statement.of(step, other, habits, script) for step in steps] for steps in (graph.before, graph.after)
    )
    is_careless = bool(graph.over_row) and script.random() < habits.careless
    body = _body(graph, "".join(s.text for s in before), "".join(s.text for s in after), is_careless)
    statements = (*before, *after)
    is_right = not is_careless and not any(statement.is_wrong for statement in statements)
    return Written(f"{SIGNATURES[graph.signature]}{{{body}}}", is_right, any(s.is_slow for s in statements))


@dataclass(frozen=True)
class _Statement:
    text: str
    is_wrong: bool = False
    is_slow: bool = False

    @classmethod
    def of(cls, step: Step, other: str, habits: Habits, script: random.Random) -> "_Statement":
        operator, drawn = ELEMENTWISE[step.name], script.random()
        is_wrong = drawn < habits.wrong and bool(operator.wrong)
        is_slow = not is_wrong and habits.wrong <= drawn < habits.wrong + habits.slow and bool(operator.slow)
        form = script.choice(operator.wrong) if is_wrong else operator.slow if is_slow else operator.right
        return cls(f"v={form.replace('{c}', _number(step.constant)).replace('{z}', other)};", is_wrong, is_slow)


def _body(graph: Graph, before: str, after: str, is_careless: bool) -> str:
    if not graph.over_row:
        return f"for(int i=0;i<n;i++){{float v=x[i];{before}y[i]=v;}}"
    rows = "for(int i=0;i<r;i++){"
    if graph.reduces:
        reduction = REDUCTIONS[graph.over_row]
        begin = reduction.wrong_begin if is_careless and reduction.wrong_begin else reduction.begin
        end = reduction.wrong_end if is_careless and not reduction.wrong_begin else reduction.end
        loop = f"{begin}for(int j=0;j<n;j++){{float v=x[i*n+j];{before}{reduction.step}}}"
        return f"{rows}{loop}float v={end};{after}y[i]=v;}}"
    norm = NORMS[graph.over_row]
    first, then = norm.careless if is_careless else (norm.first, norm.then)
    fill = f"float*b=y+i*n;for(int j=0;j<n;j++){{float v=x[i*n+j];{before}b[j]=v;}}"
    scale = f"for(int j=0;j<n;j++){{float v=b[j];v={then};{after}b[j]=v;}}"
    return f"{rows}{fill}{first}{scale}}}"


def _number(constant: float) -> str:
    """As C takes it before an `f`: with a point."""
    return f"{constant:.4g}" if constant % 1 else f"{constant:.1f}"
