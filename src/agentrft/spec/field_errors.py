"""What pydantic found wrong with what a user wrote, in words: the field, what is accepted there, and no secrets."""

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from agentrft.spec.shown import shown_key, shown_value

SECRET_MAPPINGS = ("headers", "env")
# As pydantic calls the alternatives of a plain field.
ALTERNATIVE = re.compile(r"(constrained-)?(int|float|str|bool)|literal\[.*\]")


def describe_errors(
    error: ValidationError, root: Any, *, accepted_too: Mapping[type[BaseModel], Sequence[str]] | None = None
) -> str:
    """All that is wrong, each with its field and without secrets.

    Args:
        root: the model, or the type of several, that was to be read.
        accepted_too: fields that are taken off before a model is read, to be named among the accepted ones.
    """
    lines: list[str] = []
    wrong: dict[str, list[Any]] = {}
    for problem in error.errors():
        *parents, last = problem["loc"] or ("job",)
        if problem["type"] == "extra_forbidden":
            known = _accepted(root, parents, accepted_too or {})
            prefix = ".".join(str(part) for part in parents)
            lines.append(f"{prefix + ': ' if prefix else ''}{unknown_field(str(last), known)}")
        else:
            # A field that may be a number or "auto" is wrong in two ways at once.
            named = parents if parents and ALTERNATIVE.fullmatch(str(last)) else problem["loc"]
            wrong.setdefault(".".join(str(part) for part in named), []).append(problem)
    for where, problems in wrong.items():
        shown = problems[0].get("input")
        # A URL may have a password or a key in its query.
        secret = any(name in where for name in SECRET_MAPPINGS) or (
            where.endswith(("url", "uri")) and any(mark in str(shown) for mark in "@?")
        )
        showable = isinstance(shown, str | int | float | bool) and not secret
        found = f" (found {shown_value(shown)})" if showable else ""
        reasons = "; or: ".join(dict.fromkeys(_reason(problem, root) for problem in problems))
        lines.append(f"{where}: {reasons}{found}" if where else f"{reasons}{found}")
    return lines[0] if len(lines) == 1 else "\n" + "\n".join(f"  - {line}" for line in dict.fromkeys(lines))


def unknown_field(field: str, known: Sequence[str]) -> str:
    """That there is no such field, with the likeliest that was meant, and all that are accepted."""
    close = difflib.get_close_matches(str(field), known, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else "."
    return f"unknown field {shown_key(field)}{hint} Accepted here: {', '.join(known)}."


def _reason(problem: Any, root: Any) -> str:
    """What pydantic says, without the value where it quotes one."""
    if problem["type"] == "union_tag_invalid":
        given = problem["ctx"]
        return f"type: expected one of {given['expected_tags']}, found {shown_value(given['tag'])}"
    if problem["type"] == "union_tag_not_found":
        tags = ", ".join(f"'{tag}'" for tag in map(_tag, _models_at(root, problem["loc"])) if tag is not None)
        return f"type: missing; expected one of {tags}"
    return problem["msg"]


def _accepted(
    root: Any, location: Sequence[Any], accepted_too: Mapping[type[BaseModel], Sequence[str]]
) -> Sequence[str]:
    """The fields of the model at a place; of several that may stand there, those of all."""
    models = _models_at(root, location)
    return sorted({name for model in models for name in (*model.model_fields, *accepted_too.get(model, ()))})


def _models_at(root: Any, location: Sequence[Any]) -> list[type[BaseModel]]:
    """The models that may stand at a place, as pydantic names it: by fields, keys, indexes and tags of unions."""
    here: list[Any] = [root]
    for part in location:
        here = [found for annotation in here for found in _inside(annotation, part)]
    return [member for annotation in here for member in _members(annotation) if _is_model(member)]


def _inside(annotation: Any, part: Any) -> Iterable[Any]:
    """What stands at one part of a place: the member of a union that is named so, or what a field or key holds."""
    members = _members(annotation)
    named = [member for member in members if _is_model(member) and part in (_tag(member), member.__name__)]
    if named and len(members) > 1:
        return named
    found: list[Any] = []
    for member in members:
        arguments: list[Any] = list(get_args(member))
        if _is_model(member):
            field = _field(member, part)
            found += [] if field is None else [field.annotation]
        elif arguments:
            # Of a mapping the values, of a list or tuple the entries.
            found += arguments[1:2] if isinstance(part, str) and len(arguments) > 1 else arguments[:1]
    return found


def _members(annotation: Any) -> list[Any]:
    """Of a union its members, also where unions are nested; of anything else itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (dict, list, tuple, None):
        return [annotation]
    return [member for one in get_args(annotation) if one is not NoneType for member in _members(one)]


def _field(model: type[BaseModel], name: Any) -> FieldInfo | None:
    by_alias = (field for field in model.model_fields.values() if name in (field.alias, field.validation_alias))
    return model.model_fields.get(str(name)) or next(by_alias, None)


def _is_model(member: Any) -> bool:
    return isinstance(member, type) and issubclass(member, BaseModel)


def _tag(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("type")
    return next(iter(get_args(field.annotation)), None) if field is not None else None
