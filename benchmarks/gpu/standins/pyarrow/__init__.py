"""Stands in for PyArrow where there is none and 55 MB cannot be taken along: what a job asks of it, as JSON.

On PYTHONPATH for the check alone (`scripts/gpu_check.sh`). What it writes is no Parquet, and only it reads it.
"""

from dataclasses import dataclass
from typing import Any


class ArrowException(Exception):
    """As PyArrow's base class."""


def string() -> str:
    return "string"


def int64() -> str:
    return "int64"


def float64() -> str:
    return "float64"


def schema(fields: list[tuple[str, str]]) -> list[str]:
    """The names alone."""
    return [name for name, _ in fields]


@dataclass(frozen=True)
class Table:
    """Rows with the schema's columns."""

    rows: list[dict[str, Any]]

    @classmethod
    def from_pylist(cls, rows: list[dict[str, Any]], schema: list[str]) -> "Table":
        return cls([{name: row.get(name) for name in schema} for row in rows])

    def to_pylist(self) -> list[dict[str, Any]]:
        return self.rows


@dataclass(frozen=True)
class BufferReader:
    content: bytes
