"""What the tables hold that is encrypted: specs of jobs, evals and their runs, and the URLs of webhooks."""

from collections.abc import Mapping
from typing import Any, Literal

from sqlalchemy import select, update

from agentrft.server.records.base import RecordsBase
from agentrft.store import tables as t

Kind = Literal["spec", "eval", "eval_run", "webhook"]
# What it is of, and its id: a job's, an eval's, a run's or an event's.
SealedKey = tuple[Kind, str]
PLACES: Mapping[Kind, tuple[Any, Any]] = {
    "spec": (t.served_jobs.c.sealed_spec, t.served_jobs.c.job_id),
    "eval": (t.evals.c.sealed_spec, t.evals.c.eval_id),
    "eval_run": (t.eval_runs.c.sealed_spec, t.eval_runs.c.run_id),
    "webhook": (t.deliveries.c.url, t.deliveries.c.event_id),
}
URL_STARTS = ("http:", "https:")


class SealedRecords(RecordsBase):
    def sealed(self) -> dict[SealedKey, str]:
        """All sealed texts: for a new key."""
        return {key: text for key, text in self._texts().items() if not _is_clear(key, text)}

    def clear_urls(self) -> dict[SealedKey, str]:
        """Of webhooks that an older version stored as they are."""
        return {key: text for key, text in self._texts().items() if _is_clear(key, text)}

    def reseal(self, sealed: Mapping[SealedKey, str]) -> None:
        """Replace these at once."""
        with self._database.write() as connection:
            for (kind, one), text in sealed.items():
                column, identity = PLACES[kind]
                statement = update(column.table).where(identity == one).values({column.name: text})
                connection.execute(statement)

    def _texts(self) -> dict[SealedKey, str]:
        found: dict[SealedKey, str] = {}
        with self._database.read() as connection:
            for kind, (column, identity) in PLACES.items():
                found |= {(kind, one): text for one, text in connection.execute(select(identity, column))}
        return found


def _is_clear(key: SealedKey, text: str) -> bool:
    return key[0] == "webhook" and text.lower().startswith(URL_STARTS)
