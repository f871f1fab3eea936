"""What webhooks are told: each a row before it is sent."""

import time
from typing import Any

from sqlalchemy import func, insert, select

from agentrft.server.records.base import RecordsBase
from agentrft.store import tables as t


class DeliveryRecords(RecordsBase):
    def add_delivery(self, event_id: str, sealed_url: str, body: str) -> bool:
        """Whether it is new; an event is delivered once, however often it is added. Its URL may have a password."""
        with self._database.write() as connection:
            known = connection.execute(
                select(func.count()).select_from(t.deliveries).where(t.deliveries.c.event_id == event_id)
            ).scalar_one()
            if known:
                return False
            connection.execute(
                insert(t.deliveries).values(
                    event_id=event_id, url=sealed_url, body=body, attempts=0, due_at=time.time()
                )
            )
            return True

    def due_deliveries(self) -> list[dict[str, Any]]:
        table = t.deliveries.c
        query = select(t.deliveries).where(table.delivered_at.is_(None), table.due_at <= time.time())
        with self._database.read() as connection:
            return [dict(row._mapping) for row in connection.execute(query.order_by(table.number))]

    def note_delivery(self, event_id: str, *, error: str | None, due_at: float | None) -> None:
        """An attempt: done where `due_at` is None."""
        table = t.deliveries.c
        values: dict[str, Any] = {"attempts": table.attempts + 1, "error": error}
        values |= {"delivered_at": time.time()} if due_at is None else {"due_at": due_at}
        self._change(t.deliveries, table.event_id == event_id, **values)
