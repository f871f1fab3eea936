"""What all records of the server are made with."""

import secrets
from dataclasses import fields
from typing import Any

from sqlalchemy import Connection, Select, Table, delete, insert, select, update

from agentrft.store import JobStore

CHARACTERS = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def new_id(prefix: str, length: int = 24) -> str:
    return prefix + "".join(secrets.choice(CHARACTERS) for _ in range(length))


class RecordsBase:
    """Single rows of a table, each in a transaction of its own."""

    def __init__(self, store: JobStore) -> None:
        self.store = store
        self._database = store.database

    def _insert(self, table: Table, values: dict[str, Any]) -> None:
        with self._database.write() as connection:
            connection.execute(insert(table).values(**values))

    def _change(self, table: Table, where: Any, **values: Any) -> int:
        with self._database.write() as connection:
            return connection.execute(update(table).where(where).values(**values)).rowcount

    def _delete(self, table: Table, where: Any) -> int:
        with self._database.write() as connection:
            return connection.execute(delete(table).where(where)).rowcount

    def _one(self, table: Table, kind: Any, where: Any) -> Any:
        with self._database.read() as connection:
            return next(iter(_rows(connection, _columns(table, kind).where(where), kind)), None)

    def _all(self, table: Table, kind: Any, where: Any = True) -> list[Any]:
        order = table.c.number.desc() if "number" in table.c else table.c.job_id
        query = _columns(table, kind) if where is True else _columns(table, kind).where(where)
        with self._database.read() as connection:
            return _rows(connection, query.order_by(order), kind)


def _columns(table: Table, kind: Any) -> Select[Any]:
    return select(*(table.c[field.name] for field in fields(kind)))


def _rows(connection: Connection, query: Select[Any], kind: Any) -> list[Any]:
    names = [field.name for field in fields(kind)]
    return [kind(**{name: row._mapping[name] for name in names}) for row in connection.execute(query)]
