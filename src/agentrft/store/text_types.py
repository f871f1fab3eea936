"""Columns of text that every database can store: PostgreSQL takes no NUL, and UTF-8 has no half surrogate pairs."""

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from agentrft import wire


class _Storable(TypeDecorator[str]):
    """Text in which U+FFFD stands for what cannot be stored, also where a query asks for it."""

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        return None if value is None else wire.storable_text(value)


class Text(_Storable):
    """As SQLAlchemy's `Text`."""

    impl = sa.Text
    cache_ok = True


class String(_Storable):
    """As SQLAlchemy's `String`."""

    impl = sa.String
    cache_ok = True
