"""The last results of a function that is asked the same again and again, as for how a conversation begins."""

from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Memo(Generic[Value]):
    """Keeps the last `most` results; several threads may use it, and at worst make one twice."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._made: dict[str, Value] = {}

    def get(self, key: str, make: Callable[[], Value]) -> Value:
        """What `make` returned for this key, or returns now."""
        known = self._made.get(key)
        if known is not None:
            return known
        value = make()
        self._made[key] = value
        for oldest in list(self._made)[: -self._most]:
            self._made.pop(oldest, None)
        return value
