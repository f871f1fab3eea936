"""The ids that templates show of calls, in the form in which each wants them."""

import hashlib
import re

_NINE = re.compile(r"[A-Za-z0-9]{9}")
_NAMED = re.compile(r"functions\..+:\d+", re.DOTALL)


def any_id(call_id: str, name: str, number: int) -> str:
    """Most templates show none."""
    return call_id


def nine(call_id: str, name: str, number: int) -> str:
    """Mistral's ids: nine letters and digits."""
    return call_id if _NINE.fullmatch(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:9]


def named(call_id: str, name: str, number: int) -> str:
    """Kimi's ids, which are all that its template shows of a function's name."""
    return call_id if _NAMED.fullmatch(call_id) else f"functions.{name}:{number}"
