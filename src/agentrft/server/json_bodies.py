"""JSON in and out of the API: requests are read through `wire`, and whatever an answer holds can be sent."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from agentrft import wire
from agentrft.wire import WireError

# A longer body is read beside the event loop, which answers others meanwhile.
QUICK_BYTES = 64 * 1024


class BodyError(HTTPException):
    """A body that is not let in: 400, with the place of what is wrong.

    Attributes:
        param: the field at fault; None for the whole body.
    """

    def __init__(self, error: WireError) -> None:
        super().__init__(400, f"The body: {error}")
        self.param = error.place or None


class _WireRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            try:
                body = await self.body()
                if len(body) < QUICK_BYTES:
                    self._json = wire.parse(body, unique_keys=True)
                else:
                    self._json = await asyncio.to_thread(wire.parse, body, unique_keys=True)
            except WireError as error:
                raise BodyError(error) from error
        return self._json


class WireRoute(APIRoute):
    """A route whose JSON bodies are finite, encodable, and at most `wire.MAX_DEPTH` deep; others are a 400."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_wire(request: Request) -> Response:
            return await handle(_WireRequest(request.scope, request.receive))

        return handle_wire


class WireResponse(JSONResponse):
    """JSON that can always be sent: what it cannot carry, such as a record of an older version may hold, is null."""

    def render(self, content: Any) -> bytes:
        return wire.dump_always(content).encode()
