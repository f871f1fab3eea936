"""A response cache that is emptied when the database changes.

The server uses it for `GET` requests that many clients poll, and for API keys that were found valid: between two
changes each is looked up once. A change is noticed by the database's stamp (`store/changes.py`).
"""

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrft.store.changes import Changes

logger = logging.getLogger(__name__)

JSON = b"application/json"
# A path and its query.
RequestKey = tuple[str, bytes]
# Of answers that are kept at once; each is a page of events at most.
MOST_ANSWERS = 512


@dataclass(frozen=True)
class CachedResponse:
    """A response as it was sent: its ASGI start and body messages, and the route that made it."""

    start: Message
    body: Message
    route: Any


class CachedState:
    """What was read from one state of the database: responses, valid keys, and whether any key was ever made."""

    def __init__(self, stamp: object) -> None:
        self.stamp = stamp
        self.keys: set[str] = set()
        # Whether any key was ever made; None until somebody looks it up, for all who ask meanwhile.
        self.had_keys: asyncio.Future[bool] | None = None
        self.answers: dict[RequestKey, CachedResponse] = {}
        # What is being worked on; becomes None where the answer is for one client alone.
        self.coming: dict[RequestKey, asyncio.Future[CachedResponse | None]] = {}


class ResponseCache:
    """Gives out the `CachedState` of the database as it is now. It is used from one event loop.

    Args:
        threads: for asking a database that takes time to answer; those of the event loop without them.
    """

    def __init__(self, changes: Changes, threads: ThreadPoolExecutor | None = None) -> None:
        self._changes = changes
        self._threads = threads
        self._known = CachedState(None)
        self._asking = asyncio.Lock()

    async def now(self) -> CachedState:
        """The state since the last change; a new, empty one after a change.

        Where the database cannot be asked, it is an empty state that is not kept.
        """
        try:
            stamp = self._changes.stamp() if self._changes.is_instant else await self._ask()
        except (SQLAlchemyError, sqlite3.Error) as error:
            logger.warning("the database does not say whether it changed: %s", error)
            return CachedState(None)
        if stamp != self._known.stamp:
            self._known = CachedState(stamp)
        return self._known

    async def _ask(self) -> object:
        async with self._asking:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._changes.stamp)


async def answer_from_cache(app: ASGIApp, known: CachedState, scope: Scope, receive: Receive, send: Send) -> None:
    """Send the kept response to the same request; without one, let `app` answer, and keep what is one JSON document.

    When several clients ask at the same time, `app` answers the first and the others wait for that response. Otherwise
    a change of a job that hundreds poll would be looked up by each of them.
    """
    asked = scope["path"], scope["query_string"]
    kept = known.answers.get(asked)
    if kept is None and asked in known.coming:
        kept = await asyncio.shield(known.coming[asked])
    if kept is not None:
        scope["route"] = kept.route
        # A copy: who passes it on adds headers.
        await send({**kept.start})
        await send(kept.body)
    elif asked in known.coming:
        await app(scope, receive, send)
    else:
        await _make(app, known, asked, scope, receive, send)


async def _make(
    app: ASGIApp, known: CachedState, asked: RequestKey, scope: Scope, receive: Receive, send: Send
) -> None:
    coming = known.coming[asked] = asyncio.get_running_loop().create_future()
    start: Message | None = None

    def told(answer: CachedResponse | None) -> None:
        # Before anything is sent: nobody waits for a client that is slow to read.
        if known.coming.get(asked) is coming:
            del known.coming[asked]
            coming.set_result(answer)

    async def keep(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            is_document = message["status"] == 200 and dict(message["headers"]).get(b"content-type") == JSON
            start = {**message, "headers": list(message["headers"])} if is_document else None
            if not is_document:
                told(None)
        elif start is not None and not message.get("more_body"):
            answer = CachedResponse(start, message, scope.get("route"))
            if len(known.answers) < MOST_ANSWERS:
                known.answers[asked] = answer
            told(answer)
        await send(message)

    try:
        await app(scope, receive, keep)
    finally:
        told(None)
