"""Templates: `{{ item.answer }}` and `{{ sample.output_tools[0].function.name }}` inside a grader's text.

A reference starts at `item` or `sample` and goes on with `.key`, `["any key"]` or `[index]` (negative indexes
count from the end). It reads mappings and lists only: nothing is called and no attribute of an object is read.
`{{ "{{" }}` writes two literal braces.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agentrft.errors import UserError
from agentrft.wire import is_list, is_object

ROOTS = ("item", "sample")
MAX_KEYS_SHOWN = 20
NAME = re.compile(r"[^\W\d]\w*")
INDEX = re.compile(r"-?\d{1,9}")
QUOTED = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'((?:[^'\\]|\\.)*)'", re.DOTALL)
UNSAFE = re.compile(r"([\\\"])")
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


class TemplateError(UserError):
    """A template is malformed, or refers to something that is not there."""


class MissingSampleValue(TemplateError):
    """A template refers to something that this rollout does not have: the agent's doing, where `item` is the data's.

    Attributes:
        reference: as the template has it, such as "sample.output_json.k".
    """

    def __init__(self, reference: str, cause: str, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.reference = reference


@dataclass(frozen=True)
class Reference:
    """A parsed reference: the root's name, then keys (str) and list indexes (int)."""

    root: str
    steps: tuple[str | int, ...]

    def text(self, n_steps: int | None = None) -> str:
        """The reference as it is written in a template, up to its first `n_steps` steps."""
        parts = [self.root]
        for step in self.steps[:n_steps]:
            if isinstance(step, int):
                parts.append(f"[{step}]")
            else:
                parts.append(f".{step}" if NAME.fullmatch(step) else '["' + UNSAFE.sub(r"\\\1", step) + '"]')
        return "".join(parts)


def render_template(template: str, *, item: dict[str, Any], sample: dict[str, Any] | None) -> str:
    """Replace every reference by its value: strings as they are, all else as JSON.

    Args:
        template: text with `{{ ... }}` references.
        item: the dataset row.
        sample: `GraderSample.as_template_value()`, or None where no rollout exists yet.

    Raises:
        MissingSampleValue: a reference to `sample` leads nowhere, and all those to `item` lead somewhere.
        TemplateError: the template is malformed (with the position), or a reference leads nowhere (with the
            missing key, the path up to it, and the keys that exist there).
    """
    roots = {"item": item, "sample": sample}
    texts: list[str] = []
    missing: MissingSampleValue | None = None
    for part in _parse(template):
        try:
            texts.append(part if isinstance(part, str) else _as_text(_resolve(part, roots)))
        except MissingSampleValue as error:
            missing = missing or error
    if missing is not None:
        raise missing
    return "".join(texts)


def template_fields(template: str) -> list[str]:
    """The references of a template, each once, in order of appearance: `["item.answer", "sample.output_text"]`.

    Raises:
        TemplateError: the template is malformed.
    """
    return [reference.text() for reference in template_references(template)]


def template_references(template: str) -> list[Reference]:
    """As `template_fields`, parsed. Raises TemplateError."""
    return list(dict.fromkeys(part for part in _parse(template) if isinstance(part, Reference)))


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _resolve(reference: Reference, roots: dict[str, Any]) -> Any:
    value = roots[reference.root]
    if value is None:
        raise TemplateError(
            f"{reference.text()}: there is no '{reference.root}' here.", "Use `item.*` only: no rollout exists yet."
        )
    for n_steps, step in enumerate(reference.steps):
        path = reference.text(n_steps)
        if isinstance(step, str) and is_object(value):
            if step not in value:
                raise _leads_nowhere(
                    reference,
                    f"'{path}' has no key '{step}'; it has {_keys(value)}.",
                    "Correct the reference or add the key to the data.",
                )
            value = value[step]
        elif isinstance(step, int) and is_list(value):
            if not -len(value) <= step < len(value):
                raise _leads_nowhere(
                    reference,
                    f"'{path}' has no index {step}; it is a list of {len(value)}.",
                    "Correct the index; the first entry is [0].",
                )
            value = value[step]
        else:
            wanted = "key" if isinstance(step, str) else "index"
            raise _leads_nowhere(
                reference,
                f"'{path}' has no {wanted} {step!r}: it is {_kind(value)}.",
                "Keys are read from objects and indexes from lists.",
            )
    return value


def _leads_nowhere(reference: Reference, problem: str, remedy: str) -> TemplateError:
    cause = f"{reference.text()}: {problem}"
    if reference.root == "sample":
        return MissingSampleValue(reference.text(), cause, remedy)
    return TemplateError(cause, remedy)


def _keys(value: dict[str, Any]) -> str:
    names = [f"'{key}'" for key in list(value)[:MAX_KEYS_SHOWN]]
    rest = f" and {len(value) - MAX_KEYS_SHOWN} more" if len(value) > MAX_KEYS_SHOWN else ""
    return (", ".join(names) or "no keys") + rest


def _kind(value: object) -> str:
    if value is None:
        return "null"
    names: dict[type[Any], str] = {
        dict: "an object",
        list: "a list",
        str: "a string",
        bool: "a boolean",
        int: "a number",
        float: "a number",
    }
    return names.get(type(value), type(value).__name__)


@lru_cache(maxsize=1024)
def _parse(template: str) -> tuple[str | Reference, ...]:
    parts: list[str | Reference] = []
    position = 0
    while (start := template.find("{{", position)) >= 0:
        parts.append(template[position:start])
        part, position = _parse_braces(template, start)
        parts.append(part)
    parts.append(template[position:])
    return tuple(part for part in parts if part != "")


def _parse_braces(template: str, start: int) -> tuple[str | Reference, int]:
    """Parse from the `{{` at `start`; returns the part and the position after its `}}`."""
    position = _skip_spaces(template, start + 2)
    part: str | Reference
    if quoted := QUOTED.match(template, position):
        part, position = _unquoted(quoted), quoted.end()
    else:
        root = NAME.match(template, position)
        if root is None or root.group() not in ROOTS:
            found = f"'{root.group()}'" if root else _found(template, position)
            raise _malformed(template, position, f"expected 'item' or 'sample', found {found}")
        steps, position = _parse_steps(template, root.end())
        part = Reference(root.group(), steps)
    position = _skip_spaces(template, position)
    if not template.startswith("}}", position):
        raise _malformed(
            template, position, f"expected '.key', '[index]' or '}}}}', found {_found(template, position)}"
        )
    return part, position + 2


def _parse_steps(template: str, position: int) -> tuple[tuple[str | int, ...], int]:
    steps: list[str | int] = []
    while template[position : position + 1] in (".", "["):
        if template[position] == ".":
            name = NAME.match(template, position + 1)
            if name is None:
                raise _malformed(template, position + 1, f"expected a key, found {_found(template, position + 1)}")
            steps.append(name.group())
            position = name.end()
            continue
        position = _skip_spaces(template, position + 1)
        if quoted := QUOTED.match(template, position):
            steps.append(_unquoted(quoted))
            position = quoted.end()
        elif index := INDEX.match(template, position):
            steps.append(int(index.group()))
            position = index.end()
        else:
            found = _found(template, position)
            raise _malformed(template, position, f"expected an index or a quoted key, found {found}")
        position = _skip_spaces(template, position)
        if template[position : position + 1] != "]":
            raise _malformed(template, position, f"expected ']', found {_found(template, position)}")
        position += 1
    return tuple(steps), position


def _unquoted(match: re.Match[str]) -> str:
    return ESCAPED.sub(r"\1", match.group(1) if match.group(1) is not None else match.group(2))


def _skip_spaces(template: str, position: int) -> int:
    while position < len(template) and template[position].isspace():
        position += 1
    return position


def _found(template: str, position: int) -> str:
    return repr(template[position]) if position < len(template) else "the end of the text"


def _malformed(template: str, position: int, problem: str) -> TemplateError:
    line = template.count("\n", 0, position) + 1
    column = position - (template.rfind("\n", 0, position) + 1) + 1
    return TemplateError(
        f"template, line {line} column {column}: {problem}.",
        'Write references as `{{ item.key }}` or `{{ item["any key"] }}`.',
    )
