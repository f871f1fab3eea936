"""Results that take time, kept as long as what they are made of stays as it is."""

import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """The last so many results. Each is made once, also where several ask for it meanwhile. Safe across threads.

    Args:
        most: that are kept; those that were asked for longest ago go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._found: dict[Hashable, tuple[Hashable, T]] = {}
        self._making: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, name: Hashable, state: Hashable, make: Callable[[], T]) -> T:
        """What is kept under a name if it is of this state, else what `make` returns."""
        with self._lock:
            making = self._making.setdefault(name, threading.Lock())
        with making:
            with self._lock:
                kept = self._found.pop(name, None)
                if kept is not None and kept[0] == state:
                    self._found[name] = kept
                    return kept[1]
            made = make()
            with self._lock:
                self._found[name] = state, made
                while len(self._found) > self._most:
                    oldest = next(iter(self._found))
                    del self._found[oldest]
                    self._making.pop(oldest, None)
            return made


def identity(path: Path) -> tuple[str, int, int, int] | None:
    """Another one where a file was written anew, or replaced by another; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return str(path), found.st_size, found.st_mtime_ns, found.st_ctime_ns
