"""How often a schema can have a validator look at the same place of a value.

`allOf`, `$ref` and the like send several subschemas to one place, each of which can do the same: a few hundred bytes
make 2**40 visits. They are counted here without making them, for each depth of a value, as the most there can be.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any

from referencing import Registry, Resource
from referencing.exceptions import CannotDetermineSpecification, Unresolvable

from agentrft.wire import MAX_DEPTH

IN_PLACE = ("not", "if", "then", "else")
IN_PLACE_LISTS = ("allOf", "anyOf", "oneOf")
IN_PLACE_MAPS = ("dependentSchemas", "dependencies")
# For what neither `properties` nor `prefixItems` name.
REST = ("additionalProperties", "unevaluatedProperties", "additionalItems", "unevaluatedItems")
DEFINITIONS = ("$defs", "definitions")
# What holds schemas by name.
MAPS = (*IN_PLACE_MAPS, *DEFINITIONS, "properties", "patternProperties")

MAX_SUBSCHEMAS = 10_000
# Subschemas in a row that look at one place.
MAX_CHAIN = 64
MAX_VISITS = 10_000
# A schema is refused where it makes more visits this far below the top; deeper, the value is.
SHALLOW = 4
# Visits of a whole value; about 50 to 100 ns each.
MAX_WORK = 5_000_000


class TooMuchWork(ValueError):
    """A schema that cannot be checked in bounded time."""


class Dangling(ValueError):
    """A reference that leads nowhere."""


@dataclass
class _Subschema:
    """What it sends where, as numbers of subschemas.

    Attributes:
        in_place: to the same place.
        named: to one property, or to one place of an array.
        rest: to properties and elements without a name here.
        always: to any property or element.
        watches: it asks which properties the others looked at.
        weight: of a visit by itself; 1 is one of `type`.
    """

    in_place: list[int] = field(default_factory=list)
    named: dict[Any, list[int]] = field(default_factory=dict)
    rest: list[int] = field(default_factory=list)
    always: list[int] = field(default_factory=list)
    watches: bool = False
    weight: int = 1


@dataclass(frozen=True)
class Visits:
    """`at_depth[k]` is the most visits of one place k levels below the top; the last holds for all deeper ones."""

    at_depth: tuple[int, ...]

    @property
    def most(self) -> int:
        return max(self.at_depth)

    def of_value(self, value: Any) -> int:
        """Visits that a whole value can take, at most; more than `MAX_WORK` once it is more, or nested too deep."""
        work, above, level = 0, 0, [value]
        depth = 0
        while level and work <= MAX_WORK:
            here = self.at_depth[min(depth, len(self.at_depth) - 1)]
            # A visit of an object looks through its properties.
            work += len(level) * (here + above)
            level = [item for one in level if isinstance(one, dict | list) for item in _items(one)]
            above, depth = here, depth + 1
            if depth > MAX_DEPTH + 1:
                return MAX_WORK + 1
        return work


def count_visits(schema: dict[str, Any], specification: Any, places: Set[int]) -> Visits:
    """Args:
        schema: one that its metaschema accepts.
        specification: of its draft, as `referencing` has it.
        places: the `id` of each object inside that is a schema; references lead to no other.

    Raises:
        TooMuchWork: there are too many at a place near the top, or a schema comes back to the place where it was.
        Dangling: a reference leads nowhere inside the schema.
    """
    subschemas = _Reader(specification, places).read(schema)
    order = _innermost_first(subschemas)
    levels: list[int] = []
    before: list[int] = []
    for depth in range(MAX_DEPTH + 1):
        here = _level(subschemas, order, before)
        levels.append(here[0])
        if depth <= SHALLOW and here[0] > MAX_VISITS:
            raise TooMuchWork(
                f"checking one place of a value takes more than {MAX_VISITS} steps: "
                "its allOf, anyOf, oneOf and $ref multiply; say the same with fewer"
            )
        if depth > 1 and here == before:
            break
        before = here
    return Visits(tuple(levels))


def _level(subschemas: list[_Subschema], order: list[int], above: list[int]) -> list[int]:
    """Visits at a depth, by where one starts; `above` are those of the depth before, empty at the top."""
    visits = [0] * len(subschemas)
    watching = [0] * len(subschemas)
    most = MAX_WORK + 1
    for number in order:
        one = subschemas[number]
        if above:
            named = max((sum(above[target] for target in targets) for targets in one.named.values()), default=0)
            own = max(named, sum(above[target] for target in one.rest)) + sum(above[target] for target in one.always)
        else:
            own = one.weight
        inside = sum(visits[target] for target in one.in_place)
        # Whether a subschema looked at a property is found by holding the value against it again, all the way down.
        again = inside + sum(watching[target] for target in one.in_place)
        watching[number] = min(again, most)
        visits[number] = min(own + inside + (again if one.watches else 0), most)
    return visits


class _Reader:
    """All subschemas that can be reached, the whole one first."""

    def __init__(self, specification: Any, places: Set[int]) -> None:
        self._specification = specification
        self._places = places
        self._numbers: dict[int, int] = {}
        self._waiting: list[tuple[dict[str, Any], Any]] = []
        self._found: list[_Subschema] = []

    def read(self, schema: dict[str, Any]) -> list[_Subschema]:
        resource: Resource[Any] = Resource.from_contents(schema, default_specification=self._specification)
        self._number(schema, Registry().resolver_with_root(resource))
        while self._waiting:
            if len(self._found) > MAX_SUBSCHEMAS:
                raise TooMuchWork(f"it has more than {MAX_SUBSCHEMAS} parts")
            self._read(*self._waiting.pop())
        return self._found

    def _number(self, schema: dict[str, Any], resolver: Any) -> int:
        if id(schema) not in self._numbers:
            self._numbers[id(schema)] = len(self._found)
            self._found.append(_Subschema())
            self._waiting.append((schema, resolver))
        return self._numbers[id(schema)]

    def _read(self, schema: dict[str, Any], resolver: Any) -> None:
        into = self._found[self._numbers[id(schema)]]

        def numbers(found: Iterable[Any]) -> list[int]:
            return [self._number(one, self._inside(one, resolver)) for one in found if isinstance(one, dict)]

        into.in_place += numbers(schema[key] for key in IN_PLACE if key in schema)
        for key in IN_PLACE_LISTS:
            into.in_place += numbers(_list(schema, key))
        for key in IN_PLACE_MAPS:
            into.in_place += numbers(_map(schema, key).values())
        if isinstance(schema.get("$ref"), str):
            target, there = _resolved(schema["$ref"], resolver)
            if isinstance(target, dict):
                if id(target) not in self._places:
                    raise Dangling(f"$ref: {schema['$ref']!r} leads to something that is no schema")
                into.in_place.append(self._number(target, there))
        for name, one in _map(schema, "properties").items():
            into.named[name] = numbers([one])
        # A name is a place of its own.
        into.named[("propertyNames",)] = numbers([schema.get("propertyNames")])
        elements = [*_list(schema, "prefixItems"), *_list(schema, "items")]
        for place, one in enumerate(elements):
            into.named[place] = numbers([one])
        into.rest += numbers(schema.get(key) for key in (*REST, "items"))
        into.always += numbers([*_map(schema, "patternProperties").values(), schema.get("contains")])
        into.weight += _comparisons(schema)
        into.watches = "unevaluatedProperties" in schema or "unevaluatedItems" in schema

    def _inside(self, schema: dict[str, Any], resolver: Any) -> Any:
        if "$id" not in schema and "id" not in schema:
            return resolver
        return resolver.in_subresource(self._specification.create_resource(schema))


def _resolved(reference: str, resolver: Any) -> tuple[Any, Any]:
    try:
        found = resolver.lookup(reference)
    except (Unresolvable, CannotDetermineSpecification, ValueError) as error:
        raise Dangling(f"$ref: {reference!r} leads nowhere; only references inside the schema are followed") from error
    return found.contents, found.resolver


def _innermost_first(subschemas: list[_Subschema]) -> list[int]:
    """Numbers in an order in which each comes after those that it sends to its own place."""
    heights: dict[int, int] = {}
    for start in range(len(subschemas)):
        open_ones: list[tuple[int, bool]] = [(start, False)]
        path: set[int] = set()
        while open_ones:
            number, is_left = open_ones.pop()
            targets = subschemas[number].in_place
            if is_left:
                path.discard(number)
                heights[number] = 1 + max((heights[target] for target in targets), default=0)
                if heights[number] > MAX_CHAIN:
                    raise TooMuchWork(f"more than {MAX_CHAIN} of its parts stand inside one another at one place")
                continue
            if number in heights:
                continue
            if number in path:
                raise TooMuchWork("a $ref comes back to the place where it started, so that no check of it ends")
            path.add(number)
            open_ones.append((number, True))
            open_ones += [(target, False) for target in targets if target not in heights]
    return sorted(heights, key=lambda number: heights[number])


def _comparisons(schema: Mapping[str, Any]) -> int:
    """What comparing a value with `enum` and `const` takes; texts alone are looked up, and names are quick to find."""
    values = [*_list(schema, "enum"), *([schema["const"]] if "const" in schema else [])]
    if all(isinstance(value, str) for value in values):
        values = []
    plain = sum(not isinstance(value, dict | list) for value in values)
    inside = sum(_size(value) for value in values if isinstance(value, dict | list))
    return plain // 4 + 5 * inside + len(_list(schema, "required")) // 8


def _size(value: Any) -> int:
    return 1 + sum(map(_size, _items(value))) if isinstance(value, dict | list) else 1


def _list(schema: Mapping[str, Any], key: str) -> list[Any]:
    found = schema.get(key)
    return found if isinstance(found, list) else []


def _map(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    found = schema.get(key)
    return found if isinstance(found, dict) else {}


def _items(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container
