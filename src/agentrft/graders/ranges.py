"""Between which bounds a grader's scores lie, as far as its spec says so: interval arithmetic for formulas.

A formula's bounds are those of its parts taken for independent (Moore, Interval Analysis, 1966): no score lies outside,
and where a grader occurs twice in a formula they may be wider than its scores ever are.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from agentrft.graders.formula import Formula, FormulaError, Instruction
from agentrft.spec.graders import (
    MAX_SCORE,
    EndpointGraderSpec,
    GraderSpec,
    LabelModelGraderSpec,
    ModelGraderSpec,
    MultiGraderSpec,
    PythonGraderSpec,
    ScoreModelGraderSpec,
    StringCheckGraderSpec,
    TextSimilarityGraderSpec,
    TraceGraderSpec,
)

Range = tuple[float, float]


class _UnboundedError(Exception):
    """The formula has no finite bounds, or none that can be told from its parts'."""


def score_range(spec: GraderSpec) -> Range | None:
    """The lowest and the highest score that a grader can give; None where its spec does not say."""
    match spec:
        case StringCheckGraderSpec() | TextSimilarityGraderSpec() | LabelModelGraderSpec() | TraceGraderSpec():
            return 0.0, 1.0
        case ScoreModelGraderSpec():
            return spec.range
        case PythonGraderSpec() | EndpointGraderSpec() | ModelGraderSpec():
            return None
        case MultiGraderSpec():
            found = formula_range(spec, {key: score_range(one) for key, one in spec.graders.items()})
            if found is None or spec.invalid_grade is None:
                return found
            return min(found[0], spec.invalid_grade), max(found[1], spec.invalid_grade)


def formula_range(spec: MultiGraderSpec, known: Mapping[str, Range | None]) -> Range | None:
    """The range of a `multi` whose graders' scores lie in these ranges; None where it cannot be told."""
    try:
        formula = Formula(spec.calculate_output, spec.graders)
        # What lies outside is no score.
        low, high = (max(-MAX_SCORE, min(end, MAX_SCORE)) for end in _bounds(formula.program, known))
        return low, high
    except (FormulaError, _UnboundedError, ArithmeticError, ValueError):
        return None


def _bounds(program: Sequence[Instruction], known: Mapping[str, Range | None]) -> Range:
    stack: list[Range] = []
    for instruction in program:
        match instruction.kind:
            case "number":
                stack.append((float(instruction.text), float(instruction.text)))
            case "name":
                found = known[instruction.text]
                if found is None:
                    raise _UnboundedError
                stack.append(found)
            case "negate":
                low, high = stack.pop()
                stack.append((-high, -low))
            case "operator":
                right, left = stack.pop(), stack.pop()
                stack.append(_OPERATORS[instruction.text](left, right))
            case "call":
                arguments = stack[-instruction.n_arguments :]
                del stack[-instruction.n_arguments :]
                stack.append(_called(instruction.text, arguments))
        if not all(map(math.isfinite, stack[-1])):
            raise _UnboundedError
    return stack.pop()


def _called(name: str, arguments: Sequence[Range]) -> Range:
    low, high = arguments[0]
    match name:
        case "min":
            return min(one[0] for one in arguments), min(one[1] for one in arguments)
        case "max":
            return max(one[0] for one in arguments), max(one[1] for one in arguments)
        case "abs":
            return (0.0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
        case "sqrt":
            # What has no root is no score.
            return math.sqrt(max(low, 0.0)), math.sqrt(high)
        case "log" if low <= 0:
            raise _UnboundedError
        case _:
            rising = {"floor": math.floor, "ceil": math.ceil, "exp": math.exp, "log": math.log}[name]
            return float(rising(low)), float(rising(high))


def _corners(left: Range, right: Range, value: Callable[[float, float], float]) -> Range:
    values = [value(a, b) for a in left for b in right]
    return min(values), max(values)


def _quotient(left: Range, right: Range) -> Range:
    if right[0] <= 0 <= right[1]:
        raise _UnboundedError
    return _corners(left, right, lambda a, b: a / b)


def _power(left: Range, right: Range) -> Range:
    exponent = right[0]
    if left[0] >= 0 and exponent >= 0:
        return _corners(left, right, math.pow)
    if left[0] > 0:
        return _corners(left, right, math.pow)
    # A negative base has powers with whole exponents only.
    if exponent != right[1] or exponent != int(exponent) or exponent < 0:
        raise _UnboundedError
    low, high = _corners(left, right, math.pow)
    return (min(low, 0.0) if left[0] <= 0 <= left[1] else low), high


_OPERATORS: Mapping[str, Callable[[Range, Range], Range]] = {
    "+": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "-": lambda a, b: (a[0] - b[1], a[1] - b[0]),
    "*": lambda a, b: _corners(a, b, lambda x, y: x * y),
    "/": _quotient,
    "^": _power,
}
