"""Evals that users made, their runs and output items.

A run is `queued` until a worker takes its lease, `in_progress` until it has ended. What a run has graded is kept row by
row, so that a run whose worker died goes on with the rows that are left.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import and_, delete, func, insert, or_, select, union_all

from agentrft.server.records.base import RecordsBase, new_id
from agentrft.store import tables as t
from agentrft.store.rows import REINFORCEMENT

RunStatus = Literal["queued", "in_progress", "completed", "failed", "canceled"]
ItemStatus = Literal["pass", "fail", "error"]
GOING_ON: tuple[RunStatus, ...] = ("queued", "in_progress")
EVAL, RUN, ITEM = t.evals.c, t.eval_runs.c, t.eval_items.c
# Numbers of rows stay far below.
ITEM_DIGITS = 8


@dataclass(frozen=True)
class EvalRow:
    """An eval, without its secrets; `shown` has what the API shows of it beside the rest."""

    eval_id: str
    name: str
    shown: dict[str, Any]
    user_metadata: dict[str, str]
    created_at: float


@dataclass(frozen=True)
class RunRow:
    """A run, without its secrets and its rows.

    Attributes:
        shown: what the API shows of its request.
        error: `code` and `message`; None where nothing failed.
        results: what it has found, once it has ended.
    """

    run_id: str
    eval_id: str
    name: str
    status: RunStatus
    model: str
    shown: dict[str, Any]
    file_id: str | None
    user_metadata: dict[str, str]
    created_at: float
    finished_at: float | None
    error: dict[str, str] | None
    results: dict[str, Any] | None


@dataclass(frozen=True)
class ItemRow:
    """An output item; `line` is that of its row, from 1."""

    line: int
    status: ItemStatus
    payload: dict[str, Any]


def item_id(run_id: str, line: int) -> str:
    return f"outputitem_{run_id.removeprefix('evalrun_')}_{line:0{ITEM_DIGITS}d}"


def item_line(run_id: str, an_item_id: str) -> int | None:
    """The line in an output item's id; None where it is none of this run's."""
    digits = an_item_id.removeprefix(f"outputitem_{run_id.removeprefix('evalrun_')}_")
    return int(digits) if len(digits) == ITEM_DIGITS and digits.isascii() and digits.isdecimal() else None


class EvalRecords(RecordsBase):
    # --- evals

    def add_eval(
        self, eval_id: str, name: str, shown: Mapping[str, Any], sealed_spec: str, metadata: Mapping[str, str]
    ) -> EvalRow:
        row = EvalRow(eval_id, name, dict(shown), dict(metadata), time.time())
        self._insert(t.evals, {**vars(row), "sealed_spec": sealed_spec})
        return row

    def made_eval(self, eval_id: str) -> EvalRow | None:
        return self._one(t.evals, EvalRow, EVAL.eval_id == eval_id)

    def sealed_eval(self, eval_id: str) -> str:
        with self._database.read() as connection:
            return connection.execute(select(EVAL.sealed_spec).where(EVAL.eval_id == eval_id)).scalar_one()

    def change_eval(self, eval_id: str, changes: Mapping[str, Any]) -> None:
        if changes:
            self._change(t.evals, EVAL.eval_id == eval_id, **changes)

    def delete_eval(self, eval_id: str) -> bool:
        """With its runs and their output items. Whether it was there."""
        with self._database.write() as connection:
            runs = select(RUN.run_id).where(RUN.eval_id == eval_id)
            connection.execute(delete(t.eval_items).where(ITEM.run_id.in_(runs)))
            connection.execute(delete(t.eval_runs).where(RUN.eval_id == eval_id))
            return connection.execute(delete(t.evals).where(EVAL.eval_id == eval_id)).rowcount == 1

    def page_of_evals(self, *, after: str | None, limit: int, oldest_first: bool) -> tuple[list[str], bool]:
        """Ids of jobs with rollouts and of evals that users made, by the time of their making; whether there are more.

        Args:
            after: an id of either; where there is none of that id there is nothing behind it.
        """
        method = t.jobs.c.spec[("job", "method")].as_string()
        jobs = (
            select(t.jobs.c.job_id.label("id"), t.jobs.c.created_at.label("at"))
            .join(t.served_jobs, t.served_jobs.c.job_id == t.jobs.c.job_id)
            # Older jobs do not say it.
            .where(or_(method.is_(None), method == REINFORCEMENT))
        )
        both = union_all(jobs, select(EVAL.eval_id.label("id"), EVAL.created_at.label("at"))).subquery()
        query = select(both.c.id)
        with self._database.read() as connection:
            if after is not None:
                start = connection.execute(select(both.c.at).where(both.c.id == after)).scalar()
                if start is None:
                    return [], False
                behind = both.c.at > start if oldest_first else both.c.at < start
                later = both.c.id > after if oldest_first else both.c.id < after
                query = query.where(or_(behind, and_(both.c.at == start, later)))
            order = (both.c.at, both.c.id) if oldest_first else (both.c.at.desc(), both.c.id.desc())
            found = list(connection.execute(query.order_by(*order).limit(limit + 1)).scalars())
        return found[:limit], len(found) > limit

    # --- runs

    def add_run(
        self,
        eval_id: str,
        name: str,
        model: str,
        shown: Mapping[str, Any],
        sealed_spec: str,
        metadata: Mapping[str, str],
        *,
        content: str | None = None,
        file_id: str | None = None,
    ) -> RunRow | None:
        """A new run, queued; None where the eval is gone."""
        run_id = new_id("evalrun_", 32)
        row = RunRow(
            run_id, eval_id, name, "queued", model, dict(shown), file_id, dict(metadata), time.time(), None, None, None
        )
        with self._database.write() as connection:
            if connection.execute(select(EVAL.number).where(EVAL.eval_id == eval_id)).first() is None:
                return None
            values = {**vars(row), "sealed_spec": sealed_spec, "content": content}
            connection.execute(insert(t.eval_runs).values(**values))
        return row

    def run(self, run_id: str) -> RunRow | None:
        return self._one(t.eval_runs, RunRow, RUN.run_id == run_id)

    def runs_of(
        self, eval_id: str, *, after: str | None, limit: int, oldest_first: bool, status: str | None
    ) -> tuple[list[RunRow], bool]:
        """A page of an eval's runs, and whether there are more."""
        where = [RUN.eval_id == eval_id] + ([] if status is None else [RUN.status == status])
        return self._page(t.eval_runs, RunRow, where, RUN.run_id == after, after is None, limit, oldest_first)

    def run_content(self, run_id: str) -> str | None:
        """The rows that came with the request, as lines of JSON."""
        with self._database.read() as connection:
            return connection.execute(select(RUN.content).where(RUN.run_id == run_id)).scalar()

    def sealed_run(self, run_id: str) -> str:
        with self._database.read() as connection:
            return connection.execute(select(RUN.sealed_spec).where(RUN.run_id == run_id)).scalar_one()

    def end_run(
        self,
        run_id: str,
        status: RunStatus,
        *,
        owner: str | None = None,
        error: Mapping[str, str] | None = None,
        results: Mapping[str, Any] | None = None,
    ) -> bool:
        """End a run that goes on; whether it did.

        Args:
            owner: only where it has the lease.
        """
        where = and_(RUN.run_id == run_id, RUN.status.in_(GOING_ON))
        if owner is not None:
            where = and_(where, RUN.lease_owner == owner)
        values = {"status": status, "error": error, "results": results, "finished_at": time.time()}
        return self._change(t.eval_runs, where, **values) == 1

    def delete_run(self, run_id: str) -> None:
        """With its output items."""
        with self._database.write() as connection:
            connection.execute(delete(t.eval_items).where(ITEM.run_id == run_id))
            connection.execute(delete(t.eval_runs).where(RUN.run_id == run_id))

    # --- output items

    def put_items(self, run_id: str, owner: str, items: Sequence[ItemRow]) -> bool:
        """Keep output items, in the place of earlier ones of the same lines.

        Returns:
            Whether the run still goes on and the lease is the owner's; nothing is kept otherwise.
        """
        with self._database.write() as connection:
            mine = and_(RUN.run_id == run_id, RUN.lease_owner == owner, RUN.status == "in_progress")
            if connection.execute(select(RUN.number).where(mine)).first() is None:
                return False
            lines = [item.line for item in items]
            connection.execute(delete(t.eval_items).where(ITEM.run_id == run_id, ITEM.line.in_(lines)))
            if items:
                connection.execute(insert(t.eval_items), [{"run_id": run_id, **vars(item)} for item in items])
            return True

    def items_of(
        self,
        run_id: str,
        *,
        after: int | None = None,
        skip: int = 0,
        limit: int,
        oldest_first: bool,
        status: str | None = None,
    ) -> tuple[list[ItemRow], bool]:
        """A page of a run's output items by line, and whether there are more.

        Args:
            after: the line that the page begins behind.
            skip: how many items are left out before the page.
        """
        query = select(ITEM.line, ITEM.status, ITEM.payload).where(ITEM.run_id == run_id)
        if status is not None:
            query = query.where(ITEM.status == status)
        if after is not None:
            query = query.where(ITEM.line > after if oldest_first else ITEM.line < after)
        query = query.order_by(ITEM.line if oldest_first else ITEM.line.desc()).offset(skip).limit(limit + 1)
        with self._database.read() as connection:
            found = [ItemRow(*row) for row in connection.execute(query)]
        return found[:limit], len(found) > limit

    def item(self, run_id: str, line: int) -> ItemRow | None:
        return self._one(t.eval_items, ItemRow, and_(ITEM.run_id == run_id, ITEM.line == line))

    def counts_of(self, run_ids: Collection[str]) -> dict[str, dict[str, int]]:
        """How many output items each run has, by status."""
        query = select(ITEM.run_id, ITEM.status, func.count()).where(ITEM.run_id.in_(run_ids))
        counts: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
        with self._database.read() as connection:
            for run_id, status, count in connection.execute(query.group_by(ITEM.run_id, ITEM.status)):
                counts[run_id][status] = count
        return counts

    # --- inside

    def _page(
        self, table: Any, kind: Any, where: list[Any], is_start: Any, from_start: bool, limit: int, oldest_first: bool
    ) -> tuple[list[Any], bool]:
        number = table.c.number
        with self._database.read() as connection:
            if not from_start:
                start = connection.execute(select(number).where(*where[:1], is_start)).scalar()
                if start is None:
                    return [], False
                where = [*where, number > start if oldest_first else number < start]
            columns = [table.c[name] for name in kind.__dataclass_fields__]
            query = select(*columns).where(*where).order_by(number if oldest_first else number.desc())
            found = [kind(*row) for row in connection.execute(query.limit(limit + 1))]
        return found[:limit], len(found) > limit
