"""YAML files that a user wrote: read as the JSON that a job could also have been given as."""

from pathlib import Path
from typing import Any

import yaml
from yaml.scanner import ScannerError

from agentrft import wire
from agentrft.errors import UserError
from agentrft.spec.shown import shown_key
from agentrft.wire import WireError

# PyYAML lets Python's own errors through: `!!bool maybe` is a KeyError, a date in month 13 a ValueError.
_PYTHONS_OWN = (ValueError, LookupError, ArithmeticError, AttributeError, TypeError)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, whose every error has its place.

    It refuses a key that a mapping has twice: there the last one would win in silence.
    """

    def fetch_more_tokens(self) -> None:
        try:
            super().fetch_more_tokens()
        except _PYTHONS_OWN as error:
            problem = "a character that there is not"
            raise ScannerError(None, None, problem, self.get_mark()) from error

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except _PYTHONS_OWN as error:
            problem = f"a value that its tag does not allow ({type(error).__name__})"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = f"the key {shown_key(key.value)} is there twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return node


def read_yaml(path: Path) -> Any:
    """The content of a file in UTF-8, with or without a byte order mark.

    Raises:
        UserError: it cannot be read, is in another encoding, is no YAML, has a key twice, is nested too deep, or holds
            what JSON cannot: numbers that are not finite, dates, sets.
    """
    try:
        text = wire.decode(path.read_bytes())
    except WireError as error:
        raise UserError(f"{path}: {error}.", "Save the file as UTF-8.") from error
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}.", "Give a file that can be read.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """As `read_yaml`, for a text; `source` is what messages call it."""
    try:
        value = yaml.load(text, _Loader)
    except RecursionError as error:
        problem = f"{source}: nested more than {wire.MAX_DEPTH} deep."
        raise UserError(problem, "Write it with fewer levels.") from error
    except (yaml.YAMLError, *_PYTHONS_OWN) as error:
        raise UserError(f"{source}: not valid YAML: {_reason(error)}.", "Mend it there.") from error
    try:
        wire.check(value)
    except WireError as error:
        raise UserError(f"{source}: {error}.", "Correct this value.") from error
    return value


def _reason(error: Exception) -> str:
    """What is wrong and where; not PyYAML's own text, which quotes the line: it may hold a header's value."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {error.problem or error.context}"
    if isinstance(error, yaml.reader.ReaderError):
        return f"position {error.position}: a character that YAML does not allow"
    return f"a value that its tag does not allow ({type(error).__name__})"
