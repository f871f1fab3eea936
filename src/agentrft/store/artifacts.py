"""Finished rollouts as Parquet: columns to filter by, and the whole record of each as JSON."""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from agentrft import wire
from agentrft.errors import UserError
from agentrft.store.files import replace_file, sync

SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("sample_id", pa.string()),
        ("phase", pa.string()),
        ("step", pa.int64()),
        ("index", pa.int64()),
        ("outcome", pa.string()),
        ("failure_kind", pa.string()),
        ("reward", pa.float64()),
        ("score", pa.float64()),
        ("tool_calls", pa.int64()),
        ("sampled_tokens", pa.int64()),
        ("latency_s", pa.float64()),
        ("output_text", pa.string()),
        ("record", pa.string()),
    ]
)
RECORDS_AT_ONCE = 16
OTHER_FILE = "Give a file that a job or `agentrft eval --out` wrote."
RECORD_KEYS = frozenset({"trace_id", "sample_id", "turns", "messages", "outcome"})
COPIED = ("trace_id", "sample_id", "step", "index", "outcome", "failure_kind", "reward", "latency_s", "output_text")


def rollout_row(record: dict[str, Any], *, phase: str) -> dict[str, Any]:
    """The row of one rollout.

    Args:
        record: `Rollout.as_dict()`.
        phase: the part of the job that it belongs to, such as "baseline", "train" or "validation".
    """
    turns = record["turns"]
    return {
        **{name: record[name] for name in COPIED},
        "phase": phase,
        "score": record["grade"]["score"] if record["grade"] else None,
        "tool_calls": sum(len(turn["tool_calls"]) for turn in turns),
        "sampled_tokens": sum(len(turn["sampled_ids"]) for turn in turns),
        "record": record,
    }


def write_rollouts(path: Path | str, rows: list[dict[str, Any]]) -> None:
    """Write rows made by `rollout_row`, all or nothing.

    Args:
        path: a file, or any URL that fsspec knows, such as `s3://bucket/rollouts.parquet`.
        rows: dictionaries with the columns of `SCHEMA`; `record` is a dictionary.
    """
    encoded = [
        {**row, "record": wire.dump_always(row["record"]), "output_text": wire.clean_text(row["output_text"])}
        for row in rows
    ]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(encoded, schema=SCHEMA), buffer, compression="zstd")
    filesystem, place = fsspec.core.url_to_fs(str(path))
    filesystem.makedirs(filesystem._parent(place), exist_ok=True)
    if isinstance(filesystem, LocalFileSystem):
        replace_file(Path(place), buffer.getvalue())
        # A step's record, which may come next, says that they are there: updates are made again from them.
        sync(Path(place).parent)
    else:
        # Object stores show an object only when it is whole.
        filesystem.pipe_file(place, buffer.getvalue())


def read_rollouts(path: Path | str) -> list[dict[str, Any]]:
    """The rows as `write_rollouts` was given them; `Rollout.from_dict(row["record"])` is the rollout itself.

    Args:
        path: a file, or any URL that fsspec knows.

    Raises:
        UserError: it is no such file.
    """
    filesystem, place = fsspec.core.url_to_fs(str(path))
    content = filesystem.cat_file(place)
    try:
        # No thread of Arrow's may hold a Python object: a process that ends in that moment is aborted.
        with pq.ParquetFile(pa.BufferReader(content)) as file:
            rows = file.read(use_threads=False).to_pylist()
    except (pa.ArrowException, OSError) as error:  # a damaged file is an OSError
        raise UserError(f"{path}: no Parquet file: {error}.", OTHER_FILE) from error
    return [{**row, "record": _record(path, number, row)} for number, row in enumerate(rows)]


def read_rollout(path: Path, trace_id: str) -> dict[str, Any] | None:
    """The record of one rollout of a step; None where the file has none of this id. Raises as `read_records`."""
    return next(read_records(path, "trace_id", trace_id), None)


def read_records(path: Path, column: str, value: str) -> Iterator[dict[str, Any]]:
    """The records of a step that have a value in a column, such as `sample_id`.

    A few rows at a time: records may be large, and all of a step's are far larger.

    Raises:
        UserError: it is no such file.
    """
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(RECORDS_AT_ONCE, columns=[column, "record"], use_threads=False):
                for own, record in zip(batch.column(column).to_pylist(), batch.column("record"), strict=True):
                    if own == value:
                        yield _record(path, number, {"record": record.as_py()})
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: no Parquet file: {error}.", OTHER_FILE) from error


def _record(path: Path | str, number: int, row: Mapping[str, Any]) -> dict[str, Any]:
    try:
        record = wire.parse_leniently(row["record"])
    except (KeyError, TypeError, wire.WireError) as error:
        raise UserError(f"{path}, row {number}: no record of a rollout: {error!r}.", OTHER_FILE) from error
    if not wire.is_object(record) or not record.keys() >= RECORD_KEYS:
        raise UserError(f"{path}, row {number}: no record of a rollout.", OTHER_FILE)
    return record
