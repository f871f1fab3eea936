"""What every request passes first: who may ask, and what is known of the answer already."""

import asyncio
import hmac
import logging
import random
import re
from collections import Counter

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrft.server.cache.responses import CachedState, ResponseCache, answer_from_cache
from agentrft.server.context import Context
from agentrft.server.errors import REQUEST_ID, broken_response, error_response

logger = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
# What clients ask for again and again, and what only the database says.
POLLED = re.compile(r"/v1/fine_tuning/jobs/[^/]+(/events)?")


class Guard:
    """Checks the key, gives every answer an id, counts it, and turns what broke into an answer.

    Args:
        app: what answers.
        answered: counts answers by route and status.
    """

    def __init__(self, app: ASGIApp, context: Context, answered: Counter[tuple[str, int]]) -> None:
        self._app = app
        self._context = context
        self._answered = answered
        self._cache = ResponseCache(context.store.database.changes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, status = f"req_{random.getrandbits(128):032x}", 0
        scope[REQUEST_ID] = request_id

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        needs_key = self._context.settings.needs_key and scope["path"] not in OPEN
        is_polled = scope["method"] == "GET" and POLLED.fullmatch(scope["path"]) is not None
        try:
            known = await self._cache.now() if needs_key or is_polled else None
            if known is not None and needs_key and not await _has_key(scope, self._context, known):
                response = error_response(
                    401,
                    "Give an API key of this server as `Authorization: Bearer …`; `agentrft keys create` makes one.",
                    code="invalid_api_key",
                )
                await response(scope, receive, send_with_id)
            elif known is not None and is_polled:
                await answer_from_cache(self._app, known, scope, receive, send_with_id)
            else:
                await self._app(scope, receive, send_with_id)
        except Exception:  # the boundary: whatever it was, the client gets an answer and the log the cause
            logger.exception("%s: %s %s", request_id, scope["method"], scope["path"])
            if not status:
                await broken_response(scope)(scope, receive, send_with_id)
        self._answered[getattr(scope.get("route"), "path", "unknown"), status] += 1


async def _has_key(scope: Scope, context: Context, known: CachedState) -> bool:
    scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
    if not hmac.compare_digest(scheme.lower(), "bearer") or not key:
        return False
    key = key.strip()
    if key not in known.keys:
        if not await asyncio.to_thread(context.records.is_valid_key, key):
            return False
        known.keys.add(key)
    return True
