"""Regular expressions of schemas, as ECMA-262 has them, on a budget for each value.

Without lookaround and back references an expression is an automaton, whose time is its size times the text's length.
With them it is tried out by backtracking, whose time can be the square of the length and more.
"""

import threading
from functools import lru_cache
from typing import Any

import jsonschema_rs
from jsonschema_rs import FancyRegexOptions, RegexOptions

# A schema is compiled with this keyword in place of `pattern`.
PATTERN = "agentrft:pattern"

# Compiled sizes in bytes: an expression counts as the first that it fits.
SIZES = (1 << 10, 1 << 12, 1 << 14, 1 << 16, 1 << 18, 1 << 20, 10 << 20)
# Compiling takes up to 60 ms at the largest size.
MAX_TOTAL_SIZE = 32 << 20
DFA_BYTES = 1 << 20
BACKTRACKING_SIZE = 1 << 20
BACKTRACK_LIMIT = 50_000
# Of one value, in bytes of automaton times characters: about a second where each character visits all states.
BUDGET = 3_000_000_000
# What a backtracking expression takes for the square of a character, in the same unit.
SQUARE = 8

FANCY = FancyRegexOptions(backtrack_limit=BACKTRACK_LIMIT, size_limit=BACKTRACKING_SIZE, dfa_size_limit=DFA_BYTES)


class Expression:
    """One regular expression.

    Raises:
        ValueError: it is none, or a very large one.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.size, self._validator = _compiled(pattern)
        self.lookarounds = 0 if self.size else pattern.count("(?") + 1

    @property
    def compiled_size(self) -> int:
        """In bytes, or the most that a backtracking one has."""
        return self.size or BACKTRACKING_SIZE

    def cost(self, characters: int) -> int:
        """Of a search in so many characters, in the unit of `BUDGET`."""
        if self.size:
            return self.size * characters
        return SQUARE * self.lookarounds * characters * characters

    def found_in(self, text: str) -> bool:
        return self._validator.is_valid(text)


class Budget(threading.local):
    """What is left for the value that is being checked in this thread."""

    left = BUDGET

    def renew(self) -> None:
        self.left = BUDGET

    def spend(self, cost: int) -> bool:
        """Whether there was enough."""
        self.left -= cost
        return self.left >= 0


def keyword(budget: Budget) -> type[Any]:
    """The keyword `PATTERN` for a schema whose values have this budget."""

    class Pattern:
        def __init__(self, parent_schema: dict[str, Any], value: Any, schema_path: list[str | int]) -> None:
            self._expression = expression(value)

        def validate(self, instance: Any) -> None:
            if not isinstance(instance, str):
                return
            if not budget.spend(self._expression.cost(len(instance))):
                raise ValueError(f"too long to be searched for the pattern {self._expression.pattern!r}")
            if not self._expression.found_in(instance):
                raise ValueError(f"does not match the pattern {self._expression.pattern!r}")

    return Pattern


@lru_cache(maxsize=2048)
def expression(pattern: str) -> Expression:
    """As `Expression`, remembered."""
    return Expression(pattern)


def _compiled(pattern: str) -> tuple[int, Any]:
    """Size and what searches; 0 for one that is tried out by backtracking."""
    schema = {"pattern": pattern}
    for size in SIZES:
        try:
            options = RegexOptions(size_limit=size, dfa_size_limit=DFA_BYTES)
            return size, jsonschema_rs.validator_for(schema, pattern_options=options, offline=True)
        except ValueError:
            continue
    return 0, jsonschema_rs.validator_for(schema, pattern_options=FANCY, offline=True)
