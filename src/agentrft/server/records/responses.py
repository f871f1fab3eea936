"""Responses that clients asked to be stored, each with the whole conversation before it."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from agentrft import wire
from agentrft.server.records.base import RecordsBase
from agentrft.store import tables as t


@dataclass(frozen=True)
class StoredResponse:
    """A response, and the items of its input, those of earlier responses included."""

    response: dict[str, Any]
    items: list[Any]


class ResponseRecords(RecordsBase):
    def add_response(self, response: dict[str, Any], items: list[Any]) -> None:
        body = wire.dump_always({"response": response, "items": items})
        values = {"response_id": response["id"], "created_at": time.time(), "bytes": len(body.encode()), "body": body}
        self._insert(t.stored_responses, values)

    def response(self, response_id: str) -> StoredResponse | None:
        query = select(t.stored_responses.c.body).where(t.stored_responses.c.response_id == response_id)
        with self._database.read() as connection:
            body = connection.execute(query).scalar_one_or_none()
        return None if body is None else StoredResponse(**wire.parse(body))

    def delete_response(self, response_id: str) -> bool:
        """Whether there was one."""
        return self._delete(t.stored_responses, t.stored_responses.c.response_id == response_id) > 0

    def trim_responses(self, before: float, *, most_bytes: int) -> int:
        """Delete those of before a time, and the oldest of more than so many bytes in all. Returns how many."""
        table = t.stored_responses.c
        newer_bytes = func.sum(table.bytes).over(order_by=table.number.desc())
        sums = select(table.number, table.created_at, newer_bytes.label("newer_bytes")).subquery().c
        with self._database.read() as connection:
            surplus = select(func.max(sums.number)).where((sums.created_at < before) | (sums.newer_bytes > most_bytes))
            last = connection.execute(surplus).scalar_one()
        return 0 if last is None else self._delete(t.stored_responses, table.number <= last)
