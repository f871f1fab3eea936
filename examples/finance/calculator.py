"""Arithmetic on a line of text. It is parsed by `ast` and computed here, node by node: nothing is ever evaluated.

Numbers, `+ - * / **` and brackets; commas between thousands and dollar signs are left out. All else is refused, and
what
is refused is not repeated in the message: a tool that echoes its arguments would let an agent read whatever it wrote.
"""

import ast
import math
import operator
import re
from collections.abc import Callable

LONGEST = 200
DEEPEST = 30
LARGEST_EXPONENT = 50
THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
OPERATORS: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
FORM = "write numbers, + - * / ** and brackets only"


class CannotCalculate(ValueError):
    """Why there is no result, in words."""


def calculate(expression: str) -> float:
    """The value of an arithmetic expression, computed in floats throughout, so that no integer grows without bound.

    Raises:
        CannotCalculate: it is too long or too deep, has anything but arithmetic in it, or has no finite value.
    """
    if len(expression) > LONGEST:
        raise CannotCalculate(f"the expression is longer than {LONGEST} characters")
    if not expression.isascii():
        raise CannotCalculate(FORM)
    text = THOUSANDS.sub("", expression).replace("$", "").strip()
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise CannotCalculate(FORM) from None
    try:
        value = _value(tree.body, 0)
    except ZeroDivisionError:
        raise CannotCalculate("division by zero") from None
    except OverflowError:
        raise CannotCalculate("the result is too large") from None
    if not math.isfinite(value):
        raise CannotCalculate("the result is too large")
    return value


def shown(value: float) -> str:
    """A result as the tool says it: four decimals at most, and more only of what is close to zero."""
    text = f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.8f}"
    text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def _value(node: ast.expr, depth: int) -> float:
    if depth > DEEPEST:
        raise CannotCalculate("too many brackets")
    match node:
        # Not truth values, which are integers to Python.
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, depth + 1)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _value(operand, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(_value(left, depth + 1), _value(right, depth + 1))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return OPERATORS[type(op)](_value(left, depth + 1), _value(right, depth + 1))
        case _:
            raise CannotCalculate(FORM)


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > LARGEST_EXPONENT:
        raise CannotCalculate(f"no exponents beyond {LARGEST_EXPONENT}")
    result = base**exponent
    # A root of a negative number is a complex one in Python.
    if isinstance(result, complex):
        raise CannotCalculate("no roots of negative numbers")
    return result
