"""What is known until the database changes: answers that hundreds of clients poll, and keys that were found valid."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentrft.store.changes import Changes

logger = logging.getLogger(__name__)

JSON = b"application/json"
# Of answers that are kept at once; each is a page of events at most.
MOST_ANSWERS = 512


@dataclass(frozen=True)
class Answer:
    """One that was given, as it was sent."""

    start: Message
    body: Message
    route: Any


class Known:
    """Facts of one state of the database."""

    def __init__(self, stamp: object) -> None:
        self.stamp = stamp
        self.keys: set[str] = set()
        self.answers: dict[tuple[str, bytes], Answer] = {}


class Memory:
    """Hands out what is known of the database as it is now. Used from one event loop."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._known = Known(None)
        self._asking = asyncio.Lock()

    async def now(self) -> Known:
        """What was learnt since the last change; nothing is kept where the database does not say."""
        try:
            stamp = self._changes.stamp() if self._changes.is_instant else await self._ask()
        except (SQLAlchemyError, sqlite3.Error) as error:
            logger.warning("the database does not say whether it changed: %s", error)
            return Known(None)
        if stamp != self._known.stamp:
            self._known = Known(stamp)
        return self._known

    async def _ask(self) -> object:
        async with self._asking:
            return await asyncio.to_thread(self._changes.stamp)


async def answer_again(app: ASGIApp, known: Known, scope: Scope, receive: Receive, send: Send) -> None:
    """The answer that was given to the same request, else `app`'s, which is kept if it is a whole JSON document."""
    asked = scope["path"], scope["query_string"]
    kept = known.answers.get(asked)
    if kept is None:
        await app(scope, receive, _keep(known, asked, scope, send))
        return
    scope["route"] = kept.route
    # A copy: who passes it on adds headers.
    await send({**kept.start})
    await send(kept.body)


def _keep(known: Known, asked: tuple[str, bytes], scope: Scope, send: Send) -> Callable[[Message], Any]:
    start: Message | None = None

    async def keep(message: Message) -> None:
        nonlocal start
        if message["type"] == "http.response.start":
            is_document = message["status"] == 200 and dict(message["headers"]).get(b"content-type") == JSON
            start = {**message, "headers": list(message["headers"])} if is_document else None
        elif start is not None and not message.get("more_body") and len(known.answers) < MOST_ANSWERS:
            known.answers[asked] = Answer(start, message, scope.get("route"))
        await send(message)

    return keep
