"""The table of docs/server.md: what becomes of the fields of chat requests that are not simply honoured."""

import typing
from collections.abc import Iterator
from typing import Any

from agentrft.server.inference.chat_request import ChatRequest
from agentrft.server.inference.field_rules import Ignored, Refused, RequestModel, rule_of
from agentrft.server.inference.responses_request import ResponsesRequest

Rule = Ignored | Refused | None
HEAD = "| field | Chat Completions | Responses | because |\n|---|---|---|---|\n"


def rules(model: type[RequestModel], prefix: str = "") -> dict[str, Rule]:
    """What each field of a request, at any depth, says of itself, by its path."""
    found: dict[str, Rule] = {}
    for name, field in model.model_fields.items():
        path = prefix + (field.alias or name)
        found[path] = rule_of(field)
        for inner in parts(field.annotation):
            is_list = typing.get_origin(field.annotation) is list or "list[" in str(field.annotation)
            found |= rules(inner, f"{path}[]." if is_list else f"{path}.")
    return found


def parts(annotation: Any) -> Iterator[type[RequestModel]]:
    """The request's own types in an annotation."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        if issubclass(annotation, RequestModel):
            yield annotation
        return
    for inner in typing.get_args(annotation):
        yield from parts(inner)


def table() -> str:
    """The table in Markdown: a row for each field that is ignored or refused by one of the two."""
    chat, responses = rules(ChatRequest), rules(ResponsesRequest)
    rows = []
    for path in sorted({*chat, *responses}, key=lambda path: ("[]" in path, path)):
        both = [given[path] for given in (chat, responses) if given.get(path) is not None]
        if both:
            states = (state(path, chat), state(path, responses))
            because = "; ".join(dict.fromkeys(reason(rule) for rule in both))
            rows.append(f"| `{path}` | {states[0]} | {states[1]} | {because} |\n")
    return HEAD + "".join(rows)


def state(path: str, given: dict[str, Rule]) -> str:
    if path not in given:
        return ""
    match given[path]:
        case Ignored():
            return "ignored"
        case Refused():
            return "400"
        case _:
            return "honoured"


def reason(rule: Any) -> str:
    if not rule.neutral:
        return rule.why
    shown = ", ".join(f"`{value}`" if value != "" else "none" for value in map(written, rule.neutral))
    return f"{rule.why} ({shown}: {'no warning' if isinstance(rule, Ignored) else 'taken'})"


def written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')
