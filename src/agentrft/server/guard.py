"""What every request passes first: who may ask, how much, and what is known of the answer already."""

import asyncio
import base64
import hmac
import logging
import random
import re
from collections import Counter

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrft.graders.own_server import TOKEN_HEADER, OwnServer
from agentrft.server.azure_paths import use_plain_path
from agentrft.server.browser_checks import is_from_own_page, refusal
from agentrft.server.cache.responses import CachedState, ResponseCache, answer_from_cache
from agentrft.server.context import Context
from agentrft.server.errors import REQUEST_ID, broken_response, error_response
from agentrft.server.offload.admission import HungUp
from agentrft.server.request_limits import BodyTooLarge, check_length, limited, text_problem

logger = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/readyz"})
# How a browser is told to ask for a key.
ASK_FOR_KEY = {"WWW-Authenticate": 'Basic realm="agentrft: any name, and an API key as the password", charset="UTF-8"'}
# As others count it; nobody gets it.
CLIENT_CLOSED_REQUEST = 499
# What clients ask for again and again, and what only the database says.
POLLED = re.compile(r"/v1/fine_tuning/jobs/[^/]+(/events)?")
# What people open in a browser, by a link from anywhere: to look at, and nothing else.
PAGES = re.compile(r"/evals/[^/]+/runs/[^/]+|/dashboard(/.*)?", re.DOTALL)
NO_WEBSOCKETS = {"type": "websocket.close", "code": 1008, "reason": "There are no WebSockets here."}


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
        self._cache = ResponseCache(context.store.database.changes, context.quick)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send(NO_WEBSOCKETS)
            return
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

        try:
            await self._answer(scope, receive, send_with_id)
        except HungUp:
            status = CLIENT_CLOSED_REQUEST
        except BodyTooLarge as error:
            if not status:
                await _too_large(error)(scope, receive, send_with_id)
        except Exception:  # the boundary: whatever it was, the client gets an answer and the log the cause
            logger.exception("%s: %s %r", request_id, scope["method"], scope["path"])
            if not status:
                await broken_response(scope)(scope, receive, send_with_id)
        self._answered[getattr(scope.get("route"), "path", "unknown"), status] += 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer of the application, or the reason why there is none."""
        problem = text_problem(scope)
        if problem is not None:
            await error_response(400, problem, code="invalid_value")(scope, receive, send)
            return
        use_plain_path(scope)
        is_polled = scope["method"] == "GET" and POLLED.fullmatch(scope["path"]) is not None
        if scope["path"] not in OPEN:
            known = await self._cache.now()
            refused = await self._refused(scope, known)
            if refused is not None:
                await refused(scope, receive, send)
                return
            if is_polled:
                await answer_from_cache(self._app, known, scope, receive, send)
                return
        check_length(scope)
        await self._app(scope, limited(scope, receive), send)

    async def _refused(self, scope: Scope, known: CachedState) -> Response | None:
        """The answer to who may not ask; None to who may."""
        if _is_own_judge(scope, self._context.own_server):
            return None
        settings = self._context.settings
        if settings.needs_key or (settings.key_on_loopback and await self._had_keys(known)):
            if await _has_key(scope, self._context, known):
                return None
            headers = ASK_FOR_KEY if _may_give_password(scope) else {}
            return error_response(
                401,
                "Give an API key of this server as `Authorization: Bearer …` or `api-key: …`; `agentrft keys create` "
                "makes one.",
                code="invalid_api_key",
                headers=headers,
            )
        refused = refusal(Headers(scope=scope), settings.trusted_hosts, opens_from_anywhere=_is_page(scope))
        return None if refused is None else error_response(403, refused.message, code=refused.code)

    async def _had_keys(self, known: CachedState) -> bool:
        if known.had_keys is None:
            known.had_keys = asyncio.ensure_future(self._context.quickly(self._context.records.had_keys))
        try:
            return await asyncio.shield(known.had_keys)
        except Exception:  # whatever it was, it is raised again, and the next request looks anew
            known.had_keys = None
            raise


def _is_own_judge(scope: Scope, own: OwnServer | None) -> bool:
    """Whether a grader of this server's own asks a model, and nothing else."""
    given = Headers(scope=scope).get(TOKEN_HEADER)
    if own is None or given is None or (scope["method"], scope["path"]) != ("POST", "/v1/chat/completions"):
        return False
    return hmac.compare_digest(given.encode(), own.token.encode())


def _too_large(error: BodyTooLarge) -> Response:
    return error_response(413, f"{error.detail}.", code="too_large")


async def _has_key(scope: Scope, context: Context, known: CachedState) -> bool:
    for key in _given_keys(scope):
        if key in known.keys:
            return True
        if await context.quickly(context.records.is_valid_key, key):
            known.keys.add(key)
            return True
    return False


def _is_page(scope: Scope) -> bool:
    return scope["method"] == "GET" and PAGES.fullmatch(scope["path"]) is not None


def _may_give_password(scope: Scope) -> bool:
    """Whether a browser may send the key as the password that it asked a person for."""
    return _is_page(scope) or is_from_own_page(Headers(scope=scope))


def _given_keys(scope: Scope) -> list[str]:
    """The key of `Authorization: Bearer`, and that of `api-key`, which Azure's clients send.

    Of a page, and of what a script of our own pages asks for, it may be the password that a browser asked for. Browsers
    send that along with whatever a page of another site makes them ask, so it counts nowhere else.
    """
    headers = Headers(scope=scope)
    scheme, _, value = headers.get("authorization", "").partition(" ")
    given = [value if scheme.lower() == "bearer" else "", headers.get("api-key", "")]
    if scheme.lower() == "basic" and _may_give_password(scope):
        given.append(_password(value))
    return [key.strip() for key in given if key.strip()]


def _password(credentials: str) -> str:
    try:
        return base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""
