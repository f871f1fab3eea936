"""The tools of an MCP server, through the official SDK: over streamable HTTP, or a command's stdin and stdout.

Every attempt at a rollout that calls one of them has a session of its own, opened by its first call and closed with
it; over stdio that is a process of its own. A session that breaks is not opened again in the same attempt: what the
server remembered of it would be gone.
"""

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentrft.errors import AgentRFTError, EndpointError, UserError
from agentrft.spec import McpToolSpec
from agentrft.tools.base import ResultStatus, ToolCall, ToolFailure, ToolResult
from agentrft.tools.mcp_listing import ToolDefinition, listed_tools, usable_tools
from agentrft.tools.mcp_session import McpSession, last_words, reason_of, text_of, without_output_checks
from agentrft.traffic import (
    MAX_BODY_BYTES,
    AdaptiveLimiter,
    Breaker,
    Fault,
    Notify,
    OutageError,
    Redactor,
    RetryBudget,
    notify_nobody,
    public_url,
    shorten,
)
from agentrft.traffic.addresses import refuses_link_local
from agentrft.wire import clean_text, parse

if TYPE_CHECKING:
    from mcp import Client

logger = logging.getLogger(__name__)

RETRIES = 3
BACKOFF_S = 0.5
OPEN_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 30.0
QUEUE_DEADLINE_S = 900.0
OUTAGE_DEADLINE_S = 600.0
# Starting a process takes a core; more of them at once only start later.
PROCESSES_STARTING = 8
# An answer that is too large is the model's to know, so it is read up to here before it is refused.
MAX_EVENT_BYTES = 16 * MAX_BODY_BYTES
INVALID_PARAMS = -32602


class McpServer:
    """One server and its sessions. Used from one event loop.

    Args:
        notify: told when the server goes down and when it answers again.

    Attributes:
        definitions: the tools that the job may use.

    Raises:
        UserError: the SDK is not installed, the server cannot be used, it lacks an allowed tool, or a tool of its
            cannot be called by a model.
    """

    def __init__(self, spec: McpToolSpec, *, notify: Notify = notify_nobody) -> None:
        self.label = f"MCP server '{spec.server_label}'"
        self.spec = spec
        self.redactor = Redactor({**spec.headers, **spec.env}, str(spec.server_url or ""))
        self.limiter = AdaptiveLimiter(spec.max_concurrency)
        self._breaker = Breaker(self.label, self._answers, notify)
        self._starting = asyncio.Semaphore(PROCESSES_STARTING)
        self._sessions: dict[tuple[str, int], McpSession] = {}
        # The handshake that makes sessions; servers that only know the protocol without them get that one.
        self._mode = "legacy"
        self._refuses_link_local = refuses_link_local()
        self.definitions = usable_tools(self._discovered(), spec.allowed_tools, self.label)

    async def begin(self, *, trace_id: str, attempt: int, item: dict[str, Any]) -> None:
        """Nothing yet: the first call opens the session."""

    async def end(self, *, trace_id: str, attempt: int, outcome: str) -> None:
        """Close the attempt's session, if it has one."""
        session = self._sessions.pop((trace_id, attempt), None)
        if session is not None:
            await session.close()

    async def call(self, name: str, arguments: dict[str, Any], *, trace_id: str, attempt: int) -> "_Called":
        """Call a tool in the attempt's session. Faults are repeated within the retry budget."""
        budget = RetryBudget(retries=RETRIES, idempotent=self.spec.idempotent, backoff_s=BACKOFF_S)
        faults: list[Fault] = []
        attempts = 0
        while True:
            answer = await self._attempt(name, arguments, trace_id, attempt)
            attempts += not isinstance(answer, Fault) or answer.may_have_arrived
            if not isinstance(answer, Fault):
                return _Called(answer, attempts, faults)
            faults.append(answer)
            wait_s = budget.wait_s(answer, endpoint_is_down=self._breaker.is_open)
            if wait_s is None:
                return _Called(answer, attempts, faults)
            await asyncio.sleep(wait_s)

    async def close(self) -> None:
        """Close all sessions."""
        await self._breaker.close()
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions))

    async def _attempt(
        self, name: str, arguments: dict[str, Any], trace_id: str, attempt: int
    ) -> "tuple[str, ResultStatus] | Fault":
        try:
            await self._breaker.admit(OUTAGE_DEADLINE_S)
        except OutageError as outage:
            return Fault("outage", str(outage))
        try:
            async with self.limiter.slot(queue_deadline_s=QUEUE_DEADLINE_S):
                client = await self._client(trace_id, attempt)
                return client if isinstance(client, Fault) else await self._exchange(client, name, arguments, trace_id)
        except TimeoutError:
            return Fault("timeout", f"no free slot within {QUEUE_DEADLINE_S:g} s")

    async def _client(self, trace_id: str, attempt: int) -> "Client | Fault":
        key = (trace_id, attempt)
        session = self._sessions.get(key)
        if session is None:
            session = self._sessions[key] = McpSession(self, {"X-Trace-Id": trace_id, "X-Attempt": str(attempt)})
        if session.ended:
            return Fault("connection", f"the session ended: {session.reason}")
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                client = await asyncio.shield(session.ready)
        except TimeoutError:
            fault = Fault("timeout", f"no session within {OPEN_TIMEOUT_S:g} s", transient=True, may_have_arrived=False)
        except Exception as error:  # the SDK raises groups of whatever its transports meet
            message = self.redactor.message(f"no session: {reason_of(error)}{session.last_words()}")
            fault = Fault("connection", message, transient=True, may_have_arrived=False)
        else:
            self._breaker.answered()
            return client
        self._sessions.pop(key, None)
        await session.close()
        self._breaker.failed(fault.kind)
        return fault

    async def _exchange(
        self, client: "Client", name: str, arguments: dict[str, Any], trace_id: str
    ) -> "tuple[str, ResultStatus] | Fault":
        from mcp import MCPError
        from pydantic import ValidationError

        started = time.monotonic()
        try:
            async with asyncio.timeout(self.spec.timeout_s):
                result = await client.call_tool(name, arguments, meta={"agentrft/trace_id": trace_id})
        except TimeoutError:
            return Fault("timeout", f"no answer within {self.spec.timeout_s:g} s", transient=True)
        except MCPError as error:
            if error.code == INVALID_PARAMS:
                return self.redactor.output(clean_text(error.message)), "client_error"
            return Fault("server_error", self.redactor.message(f"{error.code}: {error.message}"), transient=True)
        except ValidationError as error:
            return Fault("bad_answer", self.redactor.message(str(error)))
        except Exception as error:  # closed streams, broken pipes, HTTP errors of the SDK's own client
            return Fault("connection", self.redactor.message(reason_of(error)))
        self.limiter.succeeded(time.monotonic() - started)
        text = text_of(result.content, result.structured_content)
        if result.is_error and not text.strip():
            text = "the tool failed, and did not say why"
        if len(text.encode(errors="replace")) > MAX_BODY_BYTES:
            return f"413 Payload Too Large: the tool's answer is over {MAX_BODY_BYTES} bytes.", "too_large"
        return self.redactor.output(text), "client_error" if result.is_error else "ok"

    @asynccontextmanager
    async def connected(self, headers: Mapping[str, str], errors: Any) -> "AsyncIterator[Client]":
        """An open session; must be left in the task that entered it."""
        import httpx2
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        spec = self.spec
        if spec.command is None:
            timeout = httpx2.Timeout(CONNECT_TIMEOUT_S, read=spec.timeout_s)
            sent = {**spec.headers, **headers}
            async with httpx2.AsyncClient(headers=sent, timeout=timeout, transport=self._transport()) as http:
                url = str(spec.server_url)
                transport = streamable_http_client(url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES)
                async with Client(transport, mode=self._mode) as client:
                    yield without_output_checks(client)
        else:
            trace = {"AGENTRFT_TRACE_ID": headers["X-Trace-Id"]} if "X-Trace-Id" in headers else {}
            server = StdioServerParameters(
                command=spec.command, args=list(spec.args), env={**spec.env, **trace}, cwd=spec.folder
            )
            async with self._starting:
                opening = Client(stdio_client(server, errlog=errors), mode=self._mode)
                client = await opening.__aenter__()
            try:
                yield without_output_checks(client)
            finally:
                await opening.__aexit__(None, None, None)

    def _transport(self) -> Any:
        """None is the client's own, which goes wherever a name leads."""
        if not self._refuses_link_local:
            return None
        from agentrft.tools.mcp_transport import CheckedTransport

        return CheckedTransport()

    async def _answers(self) -> bool:
        session = McpSession(self, {})
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.shield(session.ready)
            return True
        except Exception:  # whatever it is, the server does not answer
            return False
        finally:
            await session.close()

    def _discovered(self) -> list[ToolDefinition]:
        """The server's tools, asked in an event loop of their own: jobs are put together inside a running one."""
        where = f"{self.label}: {public_url(str(self.spec.server_url)) if self.spec.server_url else self.spec.command}"
        try:
            import mcp  # noqa: F401
        except ModuleNotFoundError as error:
            raise UserError(f"{self.label} needs the package 'mcp'.", "Run `pip install 'agentrft[mcp]'`.") from error
        found: list[ToolDefinition] | BaseException = []

        def ask() -> None:
            nonlocal found
            try:
                found = asyncio.run(self._list_tools_by_any_protocol())
            except BaseException as error:  # handed over to the thread that waits
                found = error

        thread = threading.Thread(target=ask, name="agentrft-mcp-discovery")
        thread.start()
        thread.join()
        if isinstance(found, AgentRFTError):
            raise found
        if isinstance(found, BaseException):
            cause = shorten(self.redactor.message(reason_of(found)))
            raise EndpointError(
                f"{where} cannot be used: {cause}", "Start the server, or correct its `server_url` or `command`."
            )
        return found

    async def _list_tools_by_any_protocol(self) -> list[ToolDefinition]:
        try:
            return await self._list_tools()
        except ConnectionError as refused:
            self._mode = "auto"
            try:
                return await self._list_tools()
            except ConnectionError:
                raise refused from None

    async def _list_tools(self) -> list[ToolDefinition]:
        """Raises TimeoutError where there is no answer in time, which another protocol would not change, else
        ConnectionError."""
        with tempfile.TemporaryFile("w+", errors="replace") as errors:
            try:
                self._starting = asyncio.Semaphore(PROCESSES_STARTING)
                async with asyncio.timeout(OPEN_TIMEOUT_S), self.connected({}, errors) as client:
                    found = await listed_tools(client)
            except TimeoutError as error:
                raise TimeoutError(f"no answer within {OPEN_TIMEOUT_S:g} s{last_words(errors)}") from error
            except BaseException as error:  # the SDK's groups, and cancellations of its own that it lets out
                raise ConnectionError(f"{reason_of(error)}{last_words(errors)}") from error
            finally:
                self._starting = asyncio.Semaphore(PROCESSES_STARTING)
        if isinstance(found, str):
            raise EndpointError(f"{self.label}: {found}", "Mend the server: the last page has no `nextCursor`.")
        return found


@dataclass(frozen=True)
class _Called:
    """How a call ended: text and status, or the last fault."""

    verdict: tuple[str, ResultStatus] | Fault
    attempts: int
    faults: list[Fault]


class McpTool:
    """One tool of a server."""

    def __init__(self, server: McpServer, definition: ToolDefinition) -> None:
        self.name = definition.name
        self.description = definition.description
        self.parameters = definition.parameters
        self.idempotent = server.spec.idempotent
        self.reads_item = False
        self._server = server

    async def call(self, call: ToolCall, *, trace_id: str, attempt: int, item: dict[str, Any]) -> ToolResult:
        """Run the call in the attempt's session.

        Raises:
            ToolFailure: the session broke or could not be opened, or the server failed.
        """
        started = time.monotonic()
        arguments = parse(call.arguments, lossy=True)
        called = await self._server.call(self.name, arguments, trace_id=trace_id, attempt=attempt)
        faults: dict[str, int] = {}
        for fault in called.faults:
            faults[fault.kind] = faults.get(fault.kind, 0) + 1
        verdict = called.verdict
        if isinstance(verdict, Fault):
            repeatable = self.idempotent or not verdict.may_have_arrived
            message = f"{self._server.label}: {shorten(verdict.message)}"
            raise ToolFailure(self.name, verdict.kind, message, called.attempts, faults=faults, repeatable=repeatable)
        output, status = verdict
        return ToolResult(output, status, time.monotonic() - started, called.attempts, faults)

    async def probe(self) -> None:
        """Nothing to ask: the server was asked for its tools."""

    async def close(self) -> None:
        """The server is closed as a whole."""
