"""A route's answer in the description of the API, without a check of each answer at run time."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel

from agentrft.server.schemas.base import ErrorBody

EVENT_STREAM = "text/event-stream"
# Of one event of a stream.
SERVER_SENT_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "event": {"type": "string"},
        "data": {"type": "string", "description": "JSON, or `[DONE]` at the end"},
    },
    "required": ["data"],
    "additionalProperties": False,
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 404, 405, 409, 413, 424, 503)
}


def answers(model: type[BaseModel], *, streams: bool = False) -> dict[str, Any]:
    """Arguments of a route whose 200 is this object, or, where the request wants it, server-sent events."""
    described: dict[str, Any] = {"model": model}
    if streams:
        described["content"] = {EVENT_STREAM: {"schema": SERVER_SENT_EVENT}}
    return {"response_model": None, "responses": {200: described}}


def answers_bytes(*media_types: str) -> dict[str, Any]:
    """Arguments of a route whose 200 is a file."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in media_types}
    return {"response_class": Response, "response_model": None, "responses": {200: {"content": content}}}


def describe(app: FastAPI) -> None:
    """Take FastAPI's own 422 out of the description: what does not fit is a 400 here, in the API's shape."""
    whole = app.openapi

    def openapi() -> dict[str, Any]:
        described = whole()
        for operations in described["paths"].values():
            for operation in operations.values():
                operation["responses"].pop("422", None)
        for name in ("HTTPValidationError", "ValidationError"):
            described["components"]["schemas"].pop(name, None)
        return described

    app.openapi = openapi
