"""A route's answer in the description of the API, without a check of each answer at run time."""

from typing import Any

from fastapi import FastAPI
from fastapi.responses import Response
from pydantic import BaseModel

from agentrft.server.schemas.base import ErrorBody

EVENT_STREAM = "text/event-stream"
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorBody} for status in (400, 401, 404, 405, 409, 413, 424, 503)
}


def answers(model: type[BaseModel], *, streams: bool = False) -> dict[str, Any]:
    """Arguments of a route whose 200 is this object, or, where the request wants it, server-sent events."""
    described: dict[str, Any] = {"model": model}
    if streams:
        described["content"] = {EVENT_STREAM: {"schema": {"type": "string"}}}
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
