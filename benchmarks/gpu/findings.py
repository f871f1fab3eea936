"""What a part of the check is told, and what it tells: numbers, and checks that hold or do not."""

import json
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Setting:
    """Where a part runs, and how large.

    Attributes:
        small: shapes that a CPU computes in seconds.
        model: of `benchmarks.gpu.models.SHAPES`; None for parts that take none.
    """

    device: torch.device
    small: bool
    model: str | None = None

    @property
    def dtype(self) -> torch.dtype:
        """What is measured: not every CPU multiplies bfloat16 by itself."""
        return torch.float32 if self.device.type == "cpu" else torch.bfloat16

    def wait(self) -> None:
        """Until the device has computed all that it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


class Findings:
    """Of one part, on disk after each of them.

    Args:
        path: of the JSON file that is written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {"checks": []}
        self._write()

    def note(self, **values: Any) -> None:
        """Numbers, by their names; a dictionary's are added to those under the same name."""
        for name, value in values.items():
            before = self._found.get(name)
            self._found[name] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        self._write()

    def check(self, what: str, measured: float, *, at_most: float) -> None:
        """A number that must not be larger; one that is none is too large."""
        holds = measured <= at_most
        # JSON has no other way to say that something is no number.
        number = measured if math.isfinite(measured) else None
        self._found["checks"].append({"what": what, "measured": number, "at_most": at_most, "ok": holds})
        self._write()
        if not holds:
            say(f"{what}: {measured:.3g}, and at most {at_most:.3g} is right")

    def fail(self, what: str, error: BaseException) -> None:
        """A part of the part that could not be done."""
        self._found["checks"].append({"what": what, "error": told(error), "ok": False})
        self._write()
        say(f"{what}: {told(error)}")

    @contextmanager
    def timed(self, what: str) -> Iterator[None]:
        """Notes how long it took, under `seconds_of`."""
        started = time.perf_counter()
        yield
        self.note(seconds_of={what: round(time.perf_counter() - started, 2)})

    def _write(self) -> None:
        partial = self._path.with_suffix(".partial")
        partial.write_text(json.dumps(self._found), encoding="utf-8")
        partial.replace(self._path)


def say(text: str) -> None:
    """Tell whoever watches."""
    print(f"    {text}", file=sys.stderr, flush=True)


def told(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
