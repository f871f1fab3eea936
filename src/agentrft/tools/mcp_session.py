"""One session with an MCP server, and what its answers and its failures say."""

import asyncio
import logging
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import ValidationError

from agentrft.traffic import Redactor
from agentrft.wire import clean, clean_text, dump

if TYPE_CHECKING:
    from mcp import Client

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 10.0
STDERR_CHARACTERS = 500


class Connecting(Protocol):
    """What opens sessions."""

    label: str
    redactor: Redactor

    def connected(
        self, headers: Mapping[str, str], errors: Any, refused: Callable[[int], None]
    ) -> "AbstractAsyncContextManager[Client]":
        """An open session; must be left in the task that entered it.

        Args:
            errors: gets what a process writes to stderr.
            refused: told the status of each answer that refuses the credential.
        """
        ...


class McpSession:
    """A session, kept open by a task of its own, because the SDK wants it left where it was entered.

    Args:
        server: what connects, such as `McpConnector`.
        headers: of this session, beside the server's own.

    Attributes:
        ready: the client, once the session is open.
        reason: why it ended.
        refused: the status of the last answer that refused the credential.
    """

    def __init__(self, server: Connecting, headers: Mapping[str, str]) -> None:
        self.refused: int | None = None
        self.ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting for it; asyncio would then complain that its exception was never looked at.
        self.ready.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.reason = ""
        self._closing = asyncio.Event()
        self._errors = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115  # lives as long as this
        self._task = asyncio.create_task(self._keep(server, headers), name=f"agentrft-{server.label}")

    @property
    def ended(self) -> bool:
        return self._task.done()

    def last_words(self) -> str:
        """The end of what the server's process wrote to stderr."""
        return last_words(self._errors)

    async def close(self) -> None:
        """Close it, within `CLOSE_TIMEOUT_S`."""
        self._closing.set()
        if not self.ready.done():
            self._task.cancel()
        _, late = await asyncio.wait([self._task], timeout=CLOSE_TIMEOUT_S)
        if late:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._errors.close()

    def _note_refusal(self, status: int) -> None:
        self.refused = status

    async def _keep(self, server: Connecting, headers: Mapping[str, str]) -> None:
        try:
            async with server.connected(headers, self._errors, self._note_refusal) as client:
                self.ready.set_result(client)
                await self._closing.wait()
        except BaseException as error:  # the SDK's groups; a cancellation is passed on
            self.reason = server.redactor.message(reason_of(error))
            if not self.ready.done():
                self.ready.set_exception(ConnectionError(self.reason))
            if isinstance(error, asyncio.CancelledError):
                raise
            if not self._closing.is_set():
                logger.warning("%s: a session ended: %s", server.label, self.reason)


def without_output_checks(client: "Client") -> "Client":
    """The client, made to accept results that do not fit a tool's own `outputSchema`, or lack what it promises.

    The model reads their text. It also spares each session the list of all tools.
    """

    async def accept(name: str, result: Any) -> None:
        pass

    client.session.validate_tool_result = accept
    return client


def text_of(content: list[Any], structured: Any) -> str:
    """What the model reads of a result: its texts, and of everything else what it is."""
    parts = []
    for block in content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource":
            parts.append(getattr(block.resource, "text", None) or f"[resource {block.resource.uri}]")
        elif block.type == "resource_link":
            parts.append(f"[resource {block.uri}]")
        else:
            parts.append(f"[{block.type}: {block.mime_type}]")
    return clean_text("\n".join(parts)) if parts or structured is None else dump(clean(structured))


def reason_of(error: BaseException) -> str:
    """The first cause inside the groups that the SDK raises."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"not as the protocol has it: {'.'.join(map(str, first['loc']))}: {first['msg']}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def last_words(errors: Any) -> str:
    """The end of what a server's process wrote, for a message; nothing where it wrote nothing."""
    errors.seek(0)
    said = errors.read()[-STDERR_CHARACTERS:].strip()
    return f"; it said: {said}" if said else ""
