"""The formula of a multi grader: arithmetic over the scores of its graders, parsed by hand and never evaluated as code.

    expression := term (("+" | "-") term)*
    term       := sign (("*" | "/") sign)*
    sign       := ("-" | "+") sign | power
    power      := atom ("^" sign)?                     so that -x^2 is -(x^2), and x^-1 is allowed
    atom       := number | name | function "(" expression ("," expression)* ")" | "(" expression ")"

The parser writes a postfix program, which a small stack machine runs.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from agentrft.errors import UserError

MAX_DEPTH = 50
MAX_LENGTH = 10_000
# As long as any float64 needs.
MAX_DIGITS = 400
# Characters of a formula in an error.
MAX_SHOWN = 500
TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<name>[^\W\d]\w*)"
    r"|(?P<symbol>[-+*/^(),]))"
)

# Each function with the least and the most arguments it takes.
FUNCTIONS: Mapping[str, tuple[Callable[..., float], int, int]] = {
    "min": (min, 2, 100),
    "max": (max, 2, 100),
    "abs": (math.fabs, 1, 1),
    "floor": (math.floor, 1, 1),
    "ceil": (math.ceil, 1, 1),
    "exp": (math.exp, 1, 1),
    "sqrt": (math.sqrt, 1, 1),
    "log": (math.log, 1, 1),
}
OPERATORS: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": math.pow,
}


class FormulaError(UserError):
    """The formula cannot be read, or names a grader that does not exist."""


@dataclass(frozen=True)
class _Token:
    kind: Literal["number", "name", "symbol", "end"]
    text: str
    position: int


@dataclass(frozen=True)
class Instruction:
    """One step of the stack machine; `text` is the number, name, operator or function."""

    kind: Literal["number", "name", "operator", "negate", "call"]
    text: str
    n_arguments: int = 0

    @property
    def n_operands(self) -> int:
        """How many values it takes from the stack."""
        return {"number": 0, "name": 0, "operator": 2, "negate": 1, "call": self.n_arguments}[self.kind]


class Formula:
    """A formula over named scores.

    Args:
        text: such as `0.8 * accuracy + 0.2 * min(style, 1)`.
        names: the names it may use.

    Attributes:
        program: in postfix order.

    Raises:
        FormulaError: with the position, or the names that exist; or a part of it that reads no score has no value.
    """

    def __init__(self, text: str, names: Iterable[str]) -> None:
        self.text = text
        self.program = _Parser(text, sorted(names)).program()
        self._check_constants()

    @property
    def names(self) -> set[str]:
        """The names that the formula uses."""
        return {instruction.text for instruction in self.program if instruction.kind == "name"}

    def _check_constants(self) -> None:
        """Run the parts that are the same for all scores; None on the stack is a part that is not."""
        stack: list[float | None] = []
        for instruction in self.program:
            n = instruction.n_operands
            operands = stack[len(stack) - n :]
            del stack[len(stack) - n :]
            known = [value for value in operands if value is not None]
            divides_by_zero = instruction.text == "/" and operands[-1] == 0
            if instruction.kind == "name" or (len(known) < n and not divides_by_zero):
                stack.append(None)
                continue
            try:
                # For a division by zero, which has no value whatever is divided, any number stands for the score.
                part = [1.0 if value is None else value for value in operands]
                _step(self.text, instruction, part, {})
            except ArithmeticError as error:
                raise FormulaError(
                    f"formula, {str(error)[-MAX_SHOWN:]}, whatever the scores are.", "Correct that part of the formula."
                ) from error
            stack += part

    def evaluate(self, scores: Mapping[str, float]) -> float:
        """The formula's value.

        Raises:
            ArithmeticError: division by zero, a root or logarithm that does not exist, or a result that is not finite.
        """
        stack: list[float] = []
        for instruction in self.program:
            _step(self.text, instruction, stack, scores)
        return stack.pop()


def _step(formula: str, instruction: Instruction, stack: list[float], scores: Mapping[str, float]) -> None:
    try:
        _run(instruction, stack, scores)
    except (ZeroDivisionError, OverflowError, ValueError) as error:
        raise ArithmeticError(f"'{formula}': '{instruction.text}': {error}") from error
    if not math.isfinite(stack[-1]):
        raise ArithmeticError(f"'{formula}': '{instruction.text}' gives {stack[-1]}")


def _run(instruction: Instruction, stack: list[float], scores: Mapping[str, float]) -> None:
    match instruction.kind:
        case "number":
            stack.append(float(instruction.text))
        case "name":
            stack.append(float(scores[instruction.text]))
        case "negate":
            stack.append(-stack.pop())
        case "operator":
            right, left = stack.pop(), stack.pop()
            stack.append(OPERATORS[instruction.text](left, right))
        case "call":
            arguments = stack[-instruction.n_arguments :]
            del stack[-instruction.n_arguments :]
            stack.append(float(FUNCTIONS[instruction.text][0](*arguments)))


class _Parser:
    """Recursive descent; `_output` is the postfix program so far."""

    def __init__(self, text: str, names: list[str]) -> None:
        if len(text) > MAX_LENGTH:
            raise FormulaError(f"formula: longer than {MAX_LENGTH} characters.", "Write a shorter formula.")
        self._text = text
        self._names = names
        self._tokens = self._tokenize()
        self._next = 0
        self._depth = 0
        self._output: list[Instruction] = []

    def program(self) -> tuple[Instruction, ...]:
        self._expression()
        token = self._tokens[self._next]
        if token.kind != "end":
            raise self._error(token, f"expected an operator, found '{token.text}'")
        return tuple(self._output)

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        end = len(self._text.rstrip())
        while position < end:
            match = TOKEN.match(self._text, position)
            if match is None:
                start = position + len(self._text[position:]) - len(self._text[position:].lstrip())
                raise self._error(_Token("symbol", "", start), f"unexpected character {self._text[start]!r}")
            for kind in ("number", "name", "symbol"):
                if match[kind] is not None:
                    tokens.append(_Token(kind, match[kind], match.start(kind)))
            position = match.end()
        return [*tokens, _Token("end", "", end)]

    def _expression(self) -> None:
        self._left_associative(("+", "-"), lambda: self._left_associative(("*", "/"), self._sign))

    def _left_associative(self, symbols: tuple[str, ...], operand: Callable[[], None]) -> None:
        operand()
        while (symbol := self._take(*symbols)) is not None:
            operand()
            self._output.append(Instruction("operator", symbol))

    def _sign(self) -> None:
        # Every recursion of the grammar passes here.
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._error(self._tokens[self._next], f"nested more than {MAX_DEPTH} deep")
        sign = self._take("-", "+")
        if sign is None:
            self._power()
        else:
            self._sign()
            if sign == "-":
                self._output.append(Instruction("negate", "-"))
        self._depth -= 1

    def _power(self) -> None:
        self._atom()
        if self._take("^"):
            self._sign()
            self._output.append(Instruction("operator", "^"))

    def _atom(self) -> None:
        token = self._tokens[self._next]
        if token.kind == "number":
            if len(token.text) > MAX_DIGITS:
                raise self._error(token, f"a number of more than {MAX_DIGITS} digits")
            if not math.isfinite(float(token.text)):
                raise self._error(token, f"{token.text} is too large for a number")
            self._next += 1
            self._output.append(Instruction("number", token.text))
        elif token.kind == "name":
            self._next += 1
            self._name_or_call(token)
        elif self._take("("):
            self._expression()
            self._expect(")")
        else:
            found = f"'{token.text}'" if token.text else "the end of the formula"
            raise self._error(token, f"expected a number, a grader's name or '(', found {found}")

    def _name_or_call(self, token: _Token) -> None:
        if self._take("(") is None:
            if token.text not in self._names:
                known = ", ".join(self._names) or "none"
                raise self._error(token, f"unknown grader '{token.text}'; graders here: {known}")
            self._output.append(Instruction("name", token.text))
            return
        if token.text not in FUNCTIONS:
            raise self._error(token, f"unknown function '{token.text}'; functions: {', '.join(FUNCTIONS)}")
        n_arguments = 1
        self._expression()
        while self._take(","):
            self._expression()
            n_arguments += 1
        self._expect(")")
        _, least, most = FUNCTIONS[token.text]
        if not least <= n_arguments <= most:
            wanted = str(least) if least == most else f"{least} or more"
            raise self._error(token, f"'{token.text}' takes {wanted} argument(s), found {n_arguments}")
        self._output.append(Instruction("call", token.text, n_arguments))

    def _take(self, *symbols: str) -> str | None:
        token = self._tokens[self._next]
        if token.kind != "symbol" or token.text not in symbols:
            return None
        self._next += 1
        return token.text

    def _expect(self, symbol: str) -> None:
        token = self._tokens[self._next]
        if self._take(symbol) is None:
            found = f"'{token.text}'" if token.text else "the end of the formula"
            raise self._error(token, f"expected '{symbol}', found {found}")

    def _shown(self) -> str:
        return repr(self._text if len(self._text) <= MAX_SHOWN else self._text[:MAX_SHOWN] + "...")

    def _error(self, token: _Token, problem: str) -> FormulaError:
        return FormulaError(
            f"formula, position {token.position + 1}: {problem}: {self._shown()}",
            "Use graders' names, numbers, + - * / ^, parentheses and " + ", ".join(FUNCTIONS) + ".",
        )


def linear_weights(formula: Formula) -> dict[str, float] | None:
    """The weight of each name in a formula that adds them up; None where it does anything else with them.

    A formula that is a sum changes by the same amount from any scores on; one is tried at several places.
    """
    names = sorted(formula.names)
    try:
        nothing = formula.evaluate(dict.fromkeys(names, 0.0))
        weights = {name: formula.evaluate({**dict.fromkeys(names, 0.0), name: 1.0}) - nothing for name in names}
        for place in range(1, 8):
            scores = {name: ((7 * place + 3 * number) % 11 - 5) / 2 for number, name in enumerate(names)}
            expected = nothing + sum(weights[name] * score for name, score in scores.items())
            if not math.isclose(formula.evaluate(scores), expected, rel_tol=1e-9, abs_tol=1e-9):
                return None
    except ArithmeticError:
        return None
    return weights
