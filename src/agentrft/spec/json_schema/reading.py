"""A JSON Schema that values are held against.

Validation is `jsonschema_rs`: decimal `multipleOf`, ECMA-262 expressions, all drafts, nothing fetched. Around it stands
what keeps a hostile or odd schema from stopping the process: `work.py` counts visits before there are any, and
expressions run on a budget (`patterns.py`).
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import jsonschema_rs
from jsonschema_rs import ReferencingError, ValidationError, ValidationErrorKind
from referencing.jsonschema import DRAFT4, DRAFT6, DRAFT7, DRAFT201909, DRAFT202012

from agentrft.spec.json_schema.patterns import (
    BUDGET,
    FANCY,
    MAX_TOTAL_SIZE,
    PATTERN,
    SIZES,
    Budget,
    expression,
    keyword,
)
from agentrft.spec.json_schema.work import (
    MAPS,
    MAX_WORK,
    Dangling,
    TooMuchWork,
    Visits,
    count_visits,
)
from agentrft.wire import WireError, check, clean, dump, parse

MAX_CHARACTERS = 300
# A reason names the parts of a value that do not fit, each in full: no more than this is written for it.
MAX_EXPLAINED = 5_000_000
MAX_ALTERNATIVES = 3

DRAFTS = {
    "json-schema.org/draft/2020-12/schema": DRAFT202012,
    "json-schema.org/draft/2019-09/schema": DRAFT201909,
    "json-schema.org/draft-07/schema": DRAFT7,
    "json-schema.org/draft-06/schema": DRAFT6,
    "json-schema.org/draft-04/schema": DRAFT4,
}
# What a schema without `$schema` is read as: the first that it is a schema in. Draft 7 has tuples as `items: [...]`,
# draft 4 has `exclusiveMinimum: true`.
ASSUMED = (DRAFT202012, DRAFT7, DRAFT4)
# What they stand for depends on how the validator came to them, and so does what that costs.
DYNAMIC = ("$dynamicRef", "$recursiveRef")


# Values, and no schemas, stand there.
DATA = ("const", "enum", "default", "example", "examples")


class SchemaFault(ValueError):
    """It is no schema, or none that can be checked.

    Attributes:
        problem: what is wrong with it, in words.
        place: where, as `properties.a.type`; empty for the whole.
    """

    def __init__(self, problem: str, place: str = "") -> None:
        super().__init__(_shortened(f"{place}: {problem}" if place else problem))
        self.problem = problem
        self.place = place


@dataclass(frozen=True)
class JsonSchema:
    """What `read_schema` makes. Safe to use from several threads.

    Attributes:
        unenforced: its parts that no value is held against, each with its place and the reason.
    """

    unenforced: tuple[str, ...]
    _validator: Any
    _visits: Visits
    _key_cost: int
    _budget: Budget = field(default_factory=Budget)

    def fits(self, value: Any) -> bool:
        """Whether a JSON value fits. One that would take too long to check does not."""
        return self._refused_unchecked(value) is None and self._is_valid(value)

    def fault(self, value: Any) -> str | None:
        """What is wrong with a JSON value, short enough for a model to learn from; None if it fits."""
        refused = self._refused_unchecked(value)
        if refused is not None:
            return refused
        if self._is_valid(value):
            return None
        if self._visits.most * len(json.dumps(value)) > MAX_EXPLAINED:
            return "it does not fit the schema"
        self._budget.renew()
        return _shortened(_reason(self._validator.evaluate(clean(value)).errors()))

    def _is_valid(self, value: Any) -> bool:
        self._budget.renew()
        try:
            return self._validator.is_valid(value)
        except ValueError:  # half of a surrogate pair, which has no UTF-8 form, is one character to a schema
            return self._validator.is_valid(clean(value))

    def _refused_unchecked(self, value: Any) -> str | None:
        if self._visits.of_value(value) > MAX_WORK:
            return "it is nested too deep, or has too many parts, to be checked against its schema"
        if self._key_cost and self._key_cost * _key_characters(value) > BUDGET:
            return "it has names that are too long to be checked against the schema's patternProperties"
        return None


def read_schema(schema: Mapping[str, Any]) -> JsonSchema:
    """The schema, ready to check values. Reading an equal one again costs nothing.

    Raises:
        SchemaFault: it is no schema, a `$ref` leads nowhere or in a circle, or checking it could take for ever.
    """
    try:
        check(schema)
        text = dump(schema)
    except WireError as error:
        raise SchemaFault(error.problem, error.place) from error
    return _read(text)


@lru_cache(maxsize=256)
def _read(text: str) -> JsonSchema:
    schema: dict[str, Any] = parse(text)
    left_out = _LeftOut()
    left_out.take_from(schema, "")
    specification = _as_draft(schema, left_out)
    try:
        visits = count_visits(schema, specification, left_out.places)
    except (TooMuchWork, Dangling) as error:
        raise SchemaFault(str(error)) from error
    key_cost = _rename_patterns(schema)
    budget = Budget()
    try:
        validator = _compiled(schema, keywords={PATTERN: keyword(budget)})
    except ValidationError as error:
        raise _as_fault(error) from error
    return JsonSchema(tuple(left_out.notes), validator, visits, key_cost, budget)


def _compiled(schema: dict[str, Any], **options: Any) -> Any:
    try:
        return jsonschema_rs.validator_for(
            schema, offline=True, validate_formats=False, pattern_options=FANCY, **options
        )
    except ReferencingError as error:
        raise SchemaFault(f"$ref: {error}") from error


class _LeftOut:
    """Takes out of a schema what cannot be enforced, and notes it.

    Attributes:
        notes: each with its place.
        places: the `id` of each object that was looked at.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.places: set[int] = set()
        self._size_left = MAX_TOTAL_SIZE

    def take_from(self, schema: dict[str, Any], place: str) -> None:
        """Args:
        place: of `schema` in the whole, with a dot behind it; empty for the whole."""
        self.places.add(id(schema))
        for key in DYNAMIC:
            if key in schema:
                del schema[key]
                self.notes.append(f"{place}{key}: references that depend on the way to them are not followed")
        if isinstance(schema.get("pattern"), str) and not self._takes(schema["pattern"], f"{place}pattern"):
            del schema["pattern"]
        named = schema.get("patternProperties")
        if isinstance(named, dict):
            unread = [pattern for pattern in named if not self._takes(pattern, f"{place}patternProperties")]
            for pattern in unread:
                del named[pattern]
            if unread:
                # What they would have named counts as additional now.
                schema.pop("additionalProperties", None)
                schema.pop("unevaluatedProperties", None)
        for inner_place, inner in list(_inner(schema, place)):
            self.take_from(inner, f"{inner_place}.")

    def _takes(self, pattern: str, place: str) -> bool:
        shown = f"{place}: {_shortened(pattern, 80)!r}"
        if self._size_left <= 0:
            self.notes.append(f"{shown} is one expression too many")
            return False
        try:
            self._size_left -= expression(pattern).compiled_size
        except ValueError:
            self._size_left -= SIZES[-1]
            self.notes.append(f"{shown} is no regular expression as ECMA-262 has them, or a very large one")
            return False
        return True


def _as_draft(schema: dict[str, Any], left_out: _LeftOut) -> Any:
    """Sets `$schema` to the draft that the schema is read as, and returns it.

    Raises:
        SchemaFault: it is no schema in that draft.
    """
    said = schema.get("$schema")
    known = DRAFTS.get(said.rstrip("#").partition("://")[2]) if isinstance(said, str) else None
    if said is not None and known is None:
        left_out.notes.append(f"$schema: {said!r} is not known, and read as the newest draft that fits")
    fault: SchemaFault | None = None
    for draft in (known,) if known is not None else ASSUMED:
        schema["$schema"] = next(f"https://{uri}" for uri, one in DRAFTS.items() if one is draft)
        if draft in (DRAFT7, DRAFT6, DRAFT4):
            schema["$schema"] = schema["$schema"].replace("https", "http") + "#"
        try:
            jsonschema_rs.meta.validate(schema)
        except ValidationError as error:
            fault = fault or _as_fault(error)
        else:
            return draft
    raise fault or SchemaFault("it is no JSON Schema")


def _rename_patterns(schema: dict[str, Any]) -> int:
    """Puts `PATTERN` in place of each `pattern`; returns what one character of a property's name costs."""
    schema.pop(PATTERN, None)  # the user's own of that name is no keyword
    key_cost = sum(expression(pattern).cost(1) for pattern in _names(schema, "patternProperties"))
    if isinstance(schema.get("pattern"), str):
        schema[PATTERN] = schema.pop("pattern")
    return key_cost + sum(_rename_patterns(inner) for _, inner in list(_inner(schema, "")))


def _names(schema: dict[str, Any], key: str) -> list[str]:
    found = schema.get(key)
    return list(found) if isinstance(found, dict) else []


def _inner(schema: dict[str, Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The schemas inside a schema, with their places; keywords that nobody knows hold some, too, for references."""
    for key, value in schema.items():
        if key in DATA:
            continue
        if isinstance(value, list):
            yield from ((f"{place}{key}[{n}]", one) for n, one in enumerate(value) if isinstance(one, dict))
        elif isinstance(value, dict) and key in MAPS:
            yield from ((f"{place}{key}.{name}", one) for name, one in value.items() if isinstance(one, dict))
        elif isinstance(value, dict):
            yield f"{place}{key}", value


def _as_fault(error: ValidationError) -> SchemaFault:
    if isinstance(error.kind, ValidationErrorKind.Referencing):
        return SchemaFault(f"$ref: {error.message}; only references inside the schema are followed")
    return SchemaFault(error.message, _shown(error.instance_path))


def _reason(errors: list[Any]) -> str:
    """The error that says most: one at the top, else the deepest of the alternatives of `anyOf` and `oneOf`."""
    plain = [error for error in errors if not {"anyOf", "oneOf"} & set(error["schemaLocation"].split("/"))]
    if plain:
        return _said(min(plain, key=_depth))
    deepest = max((_depth(error) for error in errors), default=0)
    said = dict.fromkeys(_said(error) for error in errors if _depth(error) == deepest)
    return " or ".join(list(said)[:MAX_ALTERNATIVES]) or "it does not fit the schema"


def _depth(error: Any) -> int:
    return error["instanceLocation"].count("/")


def _said(error: Any) -> str:
    steps = error["instanceLocation"].split("/")[1:]
    place = _shown([step.replace("~1", "/").replace("~0", "~") for step in steps])
    return f"{place}: {error['error']}" if place else error["error"]


def _shown(steps: list[str | int]) -> str:
    return "".join(f"[{step}]" if str(step).isdigit() else f".{step}" for step in steps).removeprefix(".")


def _key_characters(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(len, value)) + sum(_key_characters(item) for item in value.values())
    return sum(map(_key_characters, value)) if isinstance(value, list) else 0


def _shortened(text: str, most: int = MAX_CHARACTERS) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
