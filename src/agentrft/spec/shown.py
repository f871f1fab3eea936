"""How a value that a user gave is called in an error: never by what may be a secret."""

import re
from collections.abc import Mapping
from typing import Any

from agentrft.wire import clean_text

MOST_KEYS = 12
LONGEST_TEXT = 60
LOOKS_SECRET = re.compile(
    r"bearer|basic|token|secret|passw|api.?key|cookie|\bsk-|://|[@?]|[A-Za-z0-9_\-+/=.]{24}", re.IGNORECASE
)
LIKE_A_VALUE = re.compile(r"bearer |basic |\bsk-", re.IGNORECASE)
PLAIN_NAME = re.compile(r"[\w. \-\[\]$]{1,64}")


def shown_value(value: Any) -> str:
    """A number or a short word as it is; of a mapping its keys, and of anything else its kind."""
    match value:
        case None:
            return "nothing"
        case bool() | float():
            return str(value).lower()
        case int():
            return str(value) if abs(value) < 10**20 else "a number of many digits"
        case str():
            is_shown = len(value) <= LONGEST_TEXT and not LOOKS_SECRET.search(value)
            return repr(clean_text(value)) if is_shown else f"a text of {len(value)} characters"
        case Mapping():
            keys = [shown_key(key) for key in list(value)[:MOST_KEYS]]
            more = ", …" if len(value) > MOST_KEYS else ""
            return f"a mapping with {', '.join(keys)}{more}" if keys else "an empty mapping"
        case list() | tuple():
            return f"a list of {len(value)}"
        case _:
            return f"a value of type {type(value).__name__}"


def shown_key(key: Any) -> str:
    """The name of a field that may be a mistyped one, or a value in its place."""
    name = plain_key(key)
    return f"'{name}'" if name is not None else f"a key of {len(str(key))} characters"


def plain_key(key: Any) -> str | None:
    """A key that can be the name of a field; None for what may be a value in the place of one."""
    text = str(key)
    return None if PLAIN_NAME.fullmatch(text) is None or LIKE_A_VALUE.search(text) else text
