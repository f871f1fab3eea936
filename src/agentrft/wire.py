"""The door for JSON and text from outside: rows, jobs, requests, answers of tools, judges and models, stored records.

Whoever reads such a text reads it here, and gets JSON that everything behind can encode, store and send again: at most
`MAX_DEPTH` deep, numbers finite and of at most `MAX_DIGITS` digits, text that has a UTF-8 form. Two rules:

- *strict*, for what a user wrote (rows, job files, API bodies): `parse`. What does not fit is refused, with its place.
- *lossy*, for what came from a judge or a model: `parse(..., lossy=True)`. Half surrogate pairs become U+FFFD, the rest
  is refused; for tools, and for records that were stored, `parse_leniently` and `clean` make null of the rest.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any, TypeGuard

MAX_DEPTH = 100
# A whole number of 300 digits still fits a float.
MAX_DIGITS = 300
# Of a value that did not come as JSON text, whose aliases can make it larger than what was written.
MAX_NODES = 2_000_000
REPLACEMENT = "\ufffd"
TOO_DEEP = f"nested more than {MAX_DEPTH} deep"
HALF_A_PAIR = "half of a surrogate pair, which has no UTF-8 form"

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# May also match a pair behind an escaped backslash: then a walk through the value decides.
_ESCAPED_SURROGATE = re.compile(
    r"\\u[dD](?:[89aAbB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2}(?<!\\u[dD][89abAB]..\\u....))"
)
_LONG_NUMBER = re.compile(rf"[0-9]{{{MAX_DIGITS + 1}}}")
_LARGE_NUMBER = re.compile(rf"[0-9][eE]|[0-9]{{{MAX_DIGITS + 1}}}")
_PLAIN_NUMBER = 2**63
_UNSTORABLE = re.compile("[\ud800-\udfff\x00]")
_BYTE_ORDER_MARKS = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_NAME = re.compile(r"[^\W\d]\w*")
MAX_PLACE_CHARACTERS = 200

Step = str | int


class WireError(ValueError):
    """A text or value that is not let in.

    Attributes:
        problem: what is wrong with it, in words.
        place: where, as `messages[0].content`; empty for the whole.
    """

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(f"{place}: {problem}" if place else problem)
        self.problem = problem
        self.place = place


class NotJSON(WireError):
    """A text that is no JSON at all."""


class _Refused:
    """Stands in a parsed value for what is wrong there, until its place is found."""

    def __init__(self, problem: str) -> None:
        self.problem = problem


def decode(data: bytes) -> str:
    """UTF-8, with or without a byte order mark.

    Raises:
        WireError: another encoding, which is named where it can be told.
    """
    for mark, name in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            raise WireError(f"the text is {name}; save it as UTF-8")
    if b"\x00" in data[:4]:
        raise WireError("the text is UTF-16 or UTF-32; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        where = f"in line {line}" if line > 1 else f"at position {error.start}"
        raise WireError(f"not UTF-8 (byte 0x{data[error.start]:02x} {where}); save it as UTF-8") from error


def parse(data: str | bytes, *, lossy: bool = False, unique_keys: bool = False) -> Any:
    """JSON text to a value that can be encoded again.

    Args:
        lossy: half surrogate pairs become U+FFFD; else they are refused.
        unique_keys: a key that an object has twice is refused; else the last one counts.

    Raises:
        WireError: it is no JSON, or is nested too deep, or has a number that is not finite or too long.
    """
    text = decode(data) if isinstance(data, bytes) else data
    is_refused = False

    def refuse(problem: str) -> _Refused:
        nonlocal is_refused
        is_refused = True
        return _Refused(problem)

    def whole_number(digits: str) -> Any:
        if len(digits) > MAX_DIGITS:
            return refuse(f"a number of {len(digits)} digits; at most {MAX_DIGITS}")
        return int(digits)

    def real_number(digits: str) -> Any:
        number = float(digits)
        return number if math.isfinite(number) else refuse(f"{_shortened(digits)} is too large for a number")

    def constant(name: str) -> _Refused:
        return refuse(f"{name} is not a finite number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    found[key] = refuse("the key is there twice")
                seen.add(key)
        return found

    try:
        value = json.loads(
            text,
            # Python's own are much quicker, and all that most texts need.
            parse_int=whole_number if _LONG_NUMBER.search(text) else None,
            parse_float=real_number if _LARGE_NUMBER.search(text) else None,
            parse_constant=constant,
            object_pairs_hook=unique if unique_keys else None,
        )
    except RecursionError as error:
        raise WireError(TOO_DEEP) from error
    except json.JSONDecodeError as error:
        raise NotJSON(f"not valid JSON: {error}") from error
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    if is_refused:
        raise _first_refused(value)
    if (_ESCAPED_SURROGATE.search(text) or not _is_encodable(text)) and _has_half_a_pair(value):
        if not lossy:
            check(value)
        return clean(value)
    return value


def check(value: Any) -> None:
    """Refuse what JSON cannot carry, in a value that did not come as JSON text.

    Raises:
        WireError: with the place of the first fault.
    """
    found = _Search().fault(value)
    if found is not None:
        problem, place = found
        raise WireError(problem, _shown(place[:3] if problem == TOO_DEEP else place))


def clean(value: Any) -> Any:
    """A copy that JSON can carry: half surrogate pairs become U+FFFD; numbers that are not finite or too long, values
    of other types and what is nested too deep become null.
    """
    return _clean(value, 0)


def clean_text(text: str) -> str:
    """The text with U+FFFD for each half of a surrogate pair: it can be encoded as UTF-8."""
    return _LONE_SURROGATE.sub(REPLACEMENT, text)


def storable_text(text: str) -> str:
    """As `clean_text`, also without NUL, which PostgreSQL cannot store."""
    return _UNSTORABLE.sub(REPLACEMENT, text)


def count_replaced(text: str) -> int:
    """How many characters `clean_text` replaces."""
    return len(_LONE_SURROGATE.findall(text))


def dump(value: Any) -> str:
    """A value as JSON text. What came by `parse`, `check` or `clean` always has one.

    Raises:
        WireError: a number in it is not finite or too long, or it is nested too deep.
        TypeError: it holds something that JSON has not.
    """
    try:
        return clean_text(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (ValueError, RecursionError) as error:
        check(value)
        raise WireError(f"no JSON: {error}") from error


def dump_always(value: Any) -> str:
    """As `dump`, for records that are worth keeping whatever is in them: what JSON cannot carry is cleaned away."""
    try:
        return dump(value)
    except WireError:
        return dump(clean(value))


def parse_leniently(text: str) -> Any:
    """JSON of others, read whatever is in it, so that no answer and no record stops its reader: as `clean` leaves it.

    Raises:
        NotJSON: it is no JSON.
        WireError: it is nested so deep that it cannot be read.
    """
    try:
        return parse(text, lossy=True)
    except NotJSON:
        raise
    except WireError:
        try:
            return clean(json.loads(text, parse_int=_short_integer))
        except RecursionError as error:
            raise WireError(TOO_DEEP) from error


def _short_integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= MAX_DIGITS else None


def _problem(value: Any) -> str | None:
    match value:
        case _Refused():
            return value.problem
        case str():
            if _is_encodable(value):
                return None
            return HALF_A_PAIR
        case None | bool() | Mapping() | list() | tuple():
            return None
        case int():
            # The decimal text of a longer one may not be made at all.
            return None if abs(value) < 10**MAX_DIGITS else f"a number of more than {MAX_DIGITS} digits"
        case float():
            return None if math.isfinite(value) else f"{value} is not a finite number"
        case date():
            return "a date; put it in quotation marks to make it text"
        case _:
            return f"a value of type {type(value).__name__}, which JSON has not"


class _Search:
    """Looks for the first fault in a value, and builds its place only where there is one: values may be large."""

    def __init__(self) -> None:
        self._left = MAX_NODES

    def fault(self, value: Any, depth: int = 0) -> tuple[str, tuple[Step, ...]] | None:
        """What is wrong, and where below `value`; None if nothing is.

        Raises:
            WireError: there are more values than anything that was written has.
        """
        if not _is_mapping(value) and not _is_sequence(value):
            problem = _problem(value)
            return None if problem is None else (problem, ())
        if depth >= MAX_DEPTH:
            return TOO_DEEP, ()
        self._left -= len(value)
        if self._left < 0:
            raise WireError(f"more than {MAX_NODES} values")
        if _is_mapping(value):
            return self._in_mapping(value, depth)
        for index, item in enumerate(value):
            if not _is_plain(item):
                found = self.fault(item, depth + 1)
                if found is not None:
                    return found[0], (index, *found[1])
        return None

    def _in_mapping(self, mapping: Mapping[Any, Any], depth: int) -> tuple[str, tuple[Step, ...]] | None:
        for key, item in mapping.items():
            if not isinstance(key, str):
                return f"the key {_shortened(repr(key))} is not text; put it in quotation marks", ()
            if not _is_encodable(key):
                return HALF_A_PAIR, (key,)
            if not _is_plain(item):
                found = self.fault(item, depth + 1)
                if found is not None:
                    return found[0], (key, *found[1])
        return None


def _is_plain(value: Any) -> bool:
    """Whether nothing can be wrong with it: said quickly, and of most values."""
    kind = value.__class__
    if kind is int:
        return -_PLAIN_NUMBER < value < _PLAIN_NUMBER
    return value.isascii() if kind is str else value is None or kind is bool


def is_object(value: object) -> TypeGuard[dict[Any, Any]]:
    """Whether a parsed value is an object. As `isinstance`, and type checkers know that its parts are of any type."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether a parsed value is a list; as `is_object`."""
    return isinstance(value, list)


def _has_half_a_pair(value: Any) -> bool:
    """Whether a parsed value has one: an escaped backslash before `ud83d` looks like it."""
    return not _is_encodable(json.dumps(value, ensure_ascii=False))


def _first_refused(value: Any) -> WireError:
    try:
        check(value)
    except WireError as error:
        return error
    # A later key of the same name took its place.
    return WireError("a number that is not finite or too long")


def _check_depth(value: Any) -> None:
    level: list[Any] = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = [item for container in level for item in _items(container) if isinstance(item, dict | list)]
        if not level:
            return
    raise WireError(TOO_DEEP)


def _items(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _clean(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if _is_mapping(value):
        if depth >= MAX_DEPTH:
            return None
        return {
            clean_text(key): item if _is_plain(item) else _clean(item, depth + 1)
            for key, item in value.items()
            if isinstance(key, str)
        }
    if _is_sequence(value):
        if depth >= MAX_DEPTH:
            return None
        return [item if _is_plain(item) else _clean(item, depth + 1) for item in value]
    return None if _problem(value) else value


def _is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(value, Mapping)


def _is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, list | tuple)


def _is_encodable(text: str) -> bool:
    return text.isascii() or _LONE_SURROGATE.search(text) is None


def _shown(place: Sequence[Step]) -> str:
    """A place as it would be written in code: `messages[0].content`."""
    shown = ""
    for step in place:
        if isinstance(step, int):
            shown += f"[{step}]"
        elif _NAME.fullmatch(step):
            shown += f".{step}" if shown else step
        else:
            shown += f"[{clean_text(json.dumps(step, ensure_ascii=False))}]"
    return _shortened(shown)


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_PLACE_CHARACTERS else f"{text[:MAX_PLACE_CHARACTERS]}…"
