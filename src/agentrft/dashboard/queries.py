"""Questions about many rollouts, answered by DuckDB from their facts."""

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow.parquet as pq

from agentrft.dashboard.facts_files import DAMAGED, discard
from agentrft.store.artifacts import read_records

MEMORY, THREADS = "128MB", 2
# What rollouts may be sorted by, and how each is said in SQL.
SORTS = {
    "step": "step, sample_id, index",
    "reward": "reward",
    "advantage": "advantage",
    "sample": "sample_id, step, index",
    "calls": "calls",
    "turns": "turns",
    "tokens": "sampled_tokens",
    "latency": "latency_s",
}
ROW = (
    "trace_id, sample_id, phase, step, index, outcome, failure_kind, reward, advantage, left_out, turns, calls, tools, "
    "sampled_tokens, reasoning_tokens, answer_words, latency_s, generation_s, tools_s, grade_s, attempt, "
    "left(answer, 200) AS answer"
)
# Of a job's own file.
SHORT = ["trace_id", "sample_id", "score", "output_text"]
Order = Literal["asc", "desc"]
LOCK = threading.Lock()
T = TypeVar("T")


@dataclass(frozen=True)
class Filter:
    """Which rollouts are asked for; None and the empty string ask for all.

    Attributes:
        low, high: bounds of the reward.
        text: that was said, in any case.
    """

    phase: str = "train"
    step: int | None = None
    sample: str = ""
    outcome: str = ""
    tool: str = ""
    behaviour: str = ""
    lacks: str = ""
    text: str = ""
    low: float | None = None
    high: float | None = None

    def conditions(self) -> tuple[str, list[Any]]:
        """A WHERE clause and its parameters."""
        parts: list[str] = ["phase = ?"]
        values: list[Any] = [self.phase]
        for clause, value in (
            ("step = ?", self.step),
            ("sample_id = ?", self.sample or None),
            ("outcome = ?", self.outcome or None),
            ("list_contains(tools, ?)", self.tool or None),
            ("list_contains(behaviours, ?)", self.behaviour or None),
            ("NOT list_contains(behaviours, ?)", self.lacks or None),
            ("contains(text, ?)", " ".join(self.text.lower().split()) or None),
            ("reward >= ?", self.low),
            ("reward <= ?", self.high),
        ):
            if value is not None:
                parts.append(clause)
                values.append(value)
        return " AND ".join(parts), values


class Rollouts:
    """The rollouts whose facts lie in some files. Safe across threads."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._files = [str(path) for path in files]

    def page(
        self, wanted: Filter, *, sort: str = "step", order: Order = "asc", limit: int = 50, offset: int = 0
    ) -> tuple[list[dict[str, Any]], int]:
        """The rollouts of one page, and how many there are in all."""
        where, values = wanted.conditions()
        by = ", ".join(f"{one.strip()} {order} NULLS LAST" for one in SORTS[sort].split(","))
        rows = self._ask(
            f"SELECT {ROW}, count(*) OVER () AS total FROM FILES WHERE {where} ORDER BY {by}, trace_id "
            "LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        total = rows[0]["total"] if rows else (self.count(wanted) if offset else 0)
        return [{name: value for name, value in row.items() if name != "total"} for row in rows], total

    def count(self, wanted: Filter) -> int:
        where, values = wanted.conditions()
        return self._ask(f"SELECT count(*) AS total FROM FILES WHERE {where}", values)[0]["total"]

    def groups(self, wanted: Filter) -> list[dict[str, Any]]:
        """The groups that have such a rollout: sample, step, and what each of their rollouts came to."""
        where, values = wanted.conditions()
        found = self._ask(f"SELECT DISTINCT step, sample_id FROM FILES WHERE {where}", values)
        fitting = {(row["step"], row["sample_id"]) for row in found}
        where, values = Filter(phase=wanted.phase, step=wanted.step).conditions()
        rows = self._ask(
            "SELECT step, sample_id, list({'trace_id': trace_id, 'reward': reward, 'outcome': outcome, "
            "'left_out': left_out, 'index': index} ORDER BY index) AS rollouts FROM FILES "
            f"WHERE {where} GROUP BY step, sample_id ORDER BY step, sample_id",
            values,
        )
        return [row for row in rows if (row["step"], row["sample_id"]) in fitting]

    def values(self, names: Sequence[str]) -> dict[str, list[str]]:
        """Of columns of names, what there is in them, the most frequent first."""
        found: dict[str, list[str]] = {}
        for name in names:
            value = f"unnest({name})" if name in ("tools", "behaviours") else name
            rows = self._ask(
                f"SELECT value, count(*) AS n FROM (SELECT {value} AS value FROM FILES) WHERE value IS NOT NULL "
                "GROUP BY value ORDER BY n DESC, value LIMIT 300",
                [],
            )
            found[name] = [row["value"] for row in rows]
        return found

    def by_sample(self, phase: str) -> list[dict[str, Any]]:
        """Of each sample and step the mean reward."""
        return self._ask(
            "SELECT sample_id, step, avg(reward) AS reward, count(reward) AS rollouts, max(reward) AS best, "
            "min(reward) AS worst FROM FILES WHERE phase = ? GROUP BY sample_id, step ORDER BY sample_id, step",
            [phase],
        )

    def means(self, phase: str, step: int) -> dict[str, dict[str, float]]:
        """Of each sample at a step the means that two steps are compared by."""
        rows = self._ask(
            "SELECT sample_id, count(*) AS rollouts, avg(reward) AS reward, avg(calls) AS calls, avg(turns) AS turns, "
            "avg(sampled_tokens) AS tokens, avg(latency_s) AS latency_s FROM FILES "
            "WHERE phase = ? AND step = ? AND reward IS NOT NULL GROUP BY sample_id",
            [phase, step],
        )
        return {row.pop("sample_id"): row for row in rows}

    def latencies(self, phase: str, over_s: Mapping[str, float]) -> list[dict[str, Any]]:
        """Of each step and, with step None, of all together: how long rollouts and tool calls took.

        Args:
            over_s: of "rollouts" and of "calls", the seconds of which it is told how many took longer.
        """
        found: list[dict[str, Any]] = []
        for of, seconds in (("rollouts", "latency_s"), ("calls", "unnest(call_seconds)")):
            rows = self._ask(
                "SELECT step, count(*) AS n, quantile_disc(seconds, 0.5) AS p50, quantile_disc(seconds, 0.95) AS p95, "
                f"avg((seconds > ?)::INT) AS over FROM (SELECT step, {seconds} AS seconds FROM FILES WHERE phase = ? "
                "AND reward IS NOT NULL) GROUP BY GROUPING SETS ((step), ()) ORDER BY step",
                [over_s[of], phase],
            )
            found += [{"of": of, **row} for row in rows if row["n"]]
        return found

    def spans(self, phase: str) -> dict[str, tuple[Any, Any]]:
        """When rollouts and tool calls began, in seconds since the epoch, and how long they took: two arrays each."""
        found: dict[str, tuple[Any, Any]] = {}
        for of, start, seconds in (
            ("rollouts", "started_at", "latency_s"),
            ("tool calls", "started_at + unnest(call_starts)", "unnest(call_seconds)"),
        ):
            query = f"SELECT {start} AS start, {seconds} AS seconds FROM FILES WHERE phase = ? AND started_at > 0"
            if self._files:
                table = self._run(query, [phase], lambda *asked: _connection().execute(*asked).fetchnumpy())
                found[of] = table["start"], table["seconds"]
        return found

    def columns(self, phase: str) -> Any:
        """Of the rollouts with a reward what findings are made of, as an Arrow table."""
        query = (
            "SELECT trace_id, sample_id, step, reward, advantage, answer_words, sampled_tokens, reasoning_tokens, "
            "calls, holdout_scores, behaviours FROM FILES WHERE phase = ? AND reward IS NOT NULL"
        )
        return self._run(query, [phase], lambda asked, filled: _connection().sql(asked, params=filled).to_arrow_table())

    def find(self, trace_id: str) -> dict[str, Any] | None:
        """Where a rollout is; None if it is not there."""
        rows = self._ask(
            f"SELECT {ROW}, behaviours, sub_scores, holdout_scores FROM FILES WHERE trace_id = ?", [trace_id]
        )
        return rows[0] if rows else None

    def some(self, trace_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """These rollouts by their ids, as far as they are there."""
        if not trace_ids:
            return {}
        rows = self._ask(f"SELECT {ROW} FROM FILES WHERE list_contains(?, trace_id)", [list(trace_ids)])
        return {row["trace_id"]: row for row in rows}

    def _ask(self, query: str, values: list[Any]) -> list[dict[str, Any]]:
        def rows(asked: str, filled: list[Any]) -> list[dict[str, Any]]:
            cursor = _connection().execute(asked, filled)
            names = [one[0] for one in cursor.description or []]
            return [{name: _plain(value) for name, value in zip(names, row, strict=True)} for row in cursor.fetchall()]

        try:
            if self._files:
                return self._run(query, values, rows)
        except FileNotFoundError:
            pass  # the last of them was damaged
        return [{"total": 0}] if "count(*) AS total" in query else []

    def _run(self, query: str, values: list[Any], read: Callable[[str, list[Any]], T]) -> T:
        """What `read` makes of the answer. Files that cannot be read are removed, and the others answer."""
        try:
            with LOCK:
                return read(*self._query(query, values))
        except duckdb.Error as error:
            whole = [path for path in self._files if _is_whole(Path(path))]
            if len(whole) == len(self._files):
                raise
            self._files = whole
            if not whole:
                raise FileNotFoundError("no facts are left; they are being made again") from error
            return self._run(query, values, read)

    def _query(self, query: str, values: list[Any]) -> tuple[str, list[Any]]:
        """The query over the files, and all of its parameters in order."""
        before, _, after = query.partition("FILES")
        files = f"read_parquet([{', '.join('?' for _ in self._files)}])"
        at = before.count("?")
        return f"{before}{files}{after}", [*values[:at], *self._files, *values[at:]]


def _is_whole(path: Path) -> bool:
    try:
        pq.read_table(path, use_threads=False)
    except DAMAGED as error:
        discard(path, error)
        return False
    return True


@cache
def _connection() -> duckdb.DuckDBPyConnection:
    """One for the process; whoever uses it holds the lock."""
    return duckdb.connect(config={"memory_limit": MEMORY, "threads": THREADS, "temp_directory": ""})


def answers_of(source: Path, limit: int) -> tuple[list[dict[str, Any]], int]:
    """The first rollouts of a step in short, and how many it has: from the job's own file, whatever is known of it."""
    with pq.ParquetFile(source) as file:
        batch = next(file.iter_batches(limit, columns=SHORT, use_threads=False), None)
        return [] if batch is None else batch.to_pylist(), file.metadata.num_rows


def records_of(source: Path, sample_id: str) -> list[dict[str, Any]]:
    """The records of a group."""
    return sorted(read_records(source, "sample_id", sample_id), key=lambda record: record["index"])


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
