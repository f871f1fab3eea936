"""What a Python function returned, as the text that the model reads."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence, Set, ValuesView
from itertools import islice
from os import PathLike, fspath
from typing import Any

from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentrft.wire import clean_text

# A function that yields without end would fill the memory before its time is over.
MAX_YIELDED = 10_000


class NoResult(ValueError):
    """What was returned has no text."""


def as_text(value: Any) -> str:
    """Text as it is, and what JSON writes as text (dates, decimals, UUIDs, UTF-8 bytes) without the quotation marks;
    all else as JSON, with null for numbers that are not finite. Pydantic models, dataclasses, numpy's arrays and
    numbers and pandas' tables are what they hold; a generator is all that it yields.

    Raises:
        NoResult: JSON has no form for it.
        BaseException: what the value's own code raises.
    """
    if isinstance(value, Iterator):
        value = _all_of(list(islice(value, MAX_YIELDED + 1)))
    try:
        plain = to_jsonable_python(value, fallback=_plain, inf_nan_mode="constants")
        text = plain if isinstance(plain, str) else json.dumps(_finite(plain), ensure_ascii=False)
    except (PydanticSerializationError, ValueError, TypeError, RecursionError) as error:
        raise NoResult(f"returned a {type(value).__name__}, which JSON has no form for: {error}") from error
    return clean_text(text)


async def collected(values: AsyncIterator[Any]) -> list[Any]:
    """What an async generator yields.

    Raises:
        NoResult: it is more than a model could read.
    """
    found: list[Any] = []
    async for value in values:
        found.append(value)
        if len(found) > MAX_YIELDED:
            break
    return _all_of(found)


def _all_of(found: list[Any]) -> list[Any]:
    if len(found) > MAX_YIELDED:
        raise NoResult(f"yielded more than {MAX_YIELDED} values")
    return found


def _plain(value: Any) -> Any:
    """What pydantic does not know. Arrays, tensors, series and their scalars say themselves what they hold; tables as a
    list of rows."""
    if callable(getattr(value, "tolist", None)):
        return value.tolist()
    if hasattr(value, "columns") and callable(getattr(value, "to_dict", None)):
        return value.to_dict(orient="records")
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Sequence | Set | ValuesView):
        return list(value)
    if isinstance(value, PathLike):
        return fspath(value)
    raise TypeError(f"{type(value).__name__} is no type that JSON has")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
