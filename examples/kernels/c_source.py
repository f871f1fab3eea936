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


BEST = Habits()


def write(graph: Graph, habits: Habits = BEST, script: random.Random | None = None) -> str:
    """One C function.

    Args:
        script: decides where the habits show; not needed without any.
    """
    chooser = script or random.Random(0)
    head = SIGNATURES[graph.signature]
    other = "w[j]" if graph.over_row else "z[i]"
    before = "".join(_statement(step, other, habits, chooser) for step in graph.before)
    after = "".join(_statement(step, other, habits, chooser) for step in graph.after)
    if not graph.over_row:
        return f"{head}{{for(int i=0;i<n;i++){{float v=x[i];{before}y[i]=v;}}}}"
    rows = "for(int i=0;i<r;i++){"
    if graph.reduces:
        reduction = REDUCTIONS[graph.over_row]
        is_careless = chooser.random() < habits.careless
        begin = reduction.wrong_begin if is_careless and reduction.wrong_begin else reduction.begin
        end = reduction.wrong_end if is_careless and not reduction.wrong_begin else reduction.end
        loop = f"{begin}for(int j=0;j<n;j++){{float v=x[i*n+j];{before}{reduction.step}}}"
        return f"{head}{{{rows}{loop}float v={end};{after}y[i]=v;}}}}"
    norm = NORMS[graph.over_row]
    first, then = norm.careless if chooser.random() < habits.careless else (norm.first, norm.then)
    fill = f"float*b=y+i*n;for(int j=0;j<n;j++){{float v=x[i*n+j];{before}b[j]=v;}}"
    scale = f"for(int j=0;j<n;j++){{float v=b[j];v={then};{after}b[j]=v;}}"
    return f"{head}{{{rows}{fill}{first}{scale}}}}}"


def _statement(step: Step, other: str, habits: Habits, chooser: random.Random) -> str:
    operator = ELEMENTWISE[step.name]
    form, drawn = operator.right, chooser.random()
    if drawn < habits.wrong and operator.wrong:
        form = chooser.choice(operator.wrong)
    elif drawn < habits.wrong + habits.slow and operator.slow:
        form = operator.slow
    return f"v={form.replace('{c}', f'{step.constant:.4g}' if step.constant % 1 else f'{step.constant:.1f}').replace('{z}', other)};"
