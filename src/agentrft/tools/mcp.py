"""The tools of an MCP server, through the official SDK: over streamable HTTP, or a command's stdin and stdout.

Every attempt at a rollout that calls one of them has a session of its own, opened by its first call and closed with
it; over stdio that is a process of its own. A session that breaks is not opened again in the same attempt: what the
server remembered of it would be gone.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from yarl import URL

from agentrft.spec import McpToolSpec
from agentrft.tools.base import ResultStatus, ToolCall, ToolFailure, ToolResult, TrialCall
from agentrft.tools.mcp_connection import OPEN_TIMEOUT_S, McpConnector
from agentrft.tools.mcp_listing import ToolDefinition, usable_tools
from agentrft.tools.mcp_session import McpSession, reason_of, text_of
from agentrft.tracing import outgoing_headers
from agentrft.traffic import (
    CREDENTIAL_REFUSED,
    MAX_BODY_BYTES,
    AdaptiveLimiter,
    Breaker,
    Caller,
    Fault,
    Notify,
    OutageError,
    Redactor,
    RetryBudget,
    notify_nobody,
    shorten,
)
from agentrft.wire import clean_text, dump, parse

if TYPE_CHECKING:
    pass

logger = logging.getLogger(__name__)

RETRIES = 3
BACKOFF_S = 0.5
QUEUE_DEADLINE_S = 900.0
OUTAGE_DEADLINE_S = 600.0
INVALID_PARAMS = -32602
FORBIDDEN = 403


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
        where = "" if spec.server_url is None else f" at {URL(str(spec.server_url)).host_port_subcomponent}"
        self._breaker = Breaker(f"{self.label}{where}", notify, forbids_things=True)
        self._sessions: dict[tuple[str, int], McpSession] = {}
        self._connector = McpConnector(self.label, spec, self.redactor)
        self.definitions = usable_tools(self._connector.discovered(), spec.allowed_tools, self.label)

    async def begin(self, *, trace_id: str, attempt: int, item: dict[str, Any]) -> None:
        """Nothing yet: the first call opens the session."""

    async def end(self, *, trace_id: str, attempt: int, outcome: str) -> None:
        """Close the attempt's session, if it has one."""
        session = self._sessions.pop((trace_id, attempt), None)
        if session is not None:
            await session.close()

    async def call(self, name: str, arguments: dict[str, Any], *, trace_id: str, attempt: int) -> "_Called":
        """Call a tool in the attempt's session. Faults are repeated within the retry budget."""
        budget = RetryBudget(retries=RETRIES, idempotent=self.spec.may_repeat, backoff_s=BACKOFF_S)
        caller = Caller(lambda: dump([name, arguments]))
        faults: list[Fault] = []
        attempts = 0
        while True:
            answer = await self._attempt(name, arguments, trace_id, attempt, caller)
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
        self, name: str, arguments: dict[str, Any], trace_id: str, attempt: int, caller: Caller
    ) -> "tuple[str, ResultStatus] | Fault":
        try:
            is_trial = await self._breaker.admit(caller, OUTAGE_DEADLINE_S)
        except OutageError as outage:
            return Fault(outage.kind, str(outage), may_have_arrived=False)
        try:
            async with self.limiter.slot(first=is_trial, queue_deadline_s=QUEUE_DEADLINE_S):
                session = await self._session(trace_id, attempt, caller)
                if isinstance(session, Fault):
                    return session
                return await self._exchange(session, name, arguments, trace_id, caller)
        except TimeoutError:
            return Fault("timeout", f"no free slot within {QUEUE_DEADLINE_S:g} s")
        finally:
            if is_trial:
                self._breaker.end_trial(caller)

    async def _session(self, trace_id: str, attempt: int, caller: Caller) -> "McpSession | Fault":
        """The attempt's session, open."""
        key = (trace_id, attempt)
        session = self._sessions.get(key)
        if session is None:
            headers = {"X-Trace-Id": trace_id, "X-Attempt": str(attempt), **outgoing_headers()}
            session = self._sessions[key] = McpSession(self._connector, headers)
        if session.ended:
            return Fault("connection", f"the session ended: {session.reason}")
        if session.ready.done() and session.ready.exception() is None:
            return session
        asked = time.monotonic()
        try:
            async with asyncio.timeout(OPEN_TIMEOUT_S):
                await asyncio.shield(session.ready)
        except TimeoutError:
            said = f"no session within {OPEN_TIMEOUT_S:g} s"
            fault = Fault("timeout", said, transient=True, may_have_arrived=False, is_outage=True)
        except Exception as error:  # the SDK raises groups of whatever its transports meet
            message = self.redactor.message(f"no session: {reason_of(error)}{session.last_words()}")
            unreachable = Fault("connection", message, transient=True, may_have_arrived=False, is_outage=True)
            fault = _refusal(session, message, opens=True) or unreachable
        else:
            self._breaker.answered(asked)
            return session
        self._sessions.pop(key, None)
        await session.close()
        self._breaker.failed(fault, caller, asked)
        return fault

    async def _exchange(
        self, session: McpSession, name: str, arguments: dict[str, Any], trace_id: str, caller: Caller
    ) -> "tuple[str, ResultStatus] | Fault":
        started = time.monotonic()
        verdict = await self._called(session, name, arguments, trace_id)
        if not isinstance(verdict, Fault):
            self.limiter.succeeded(time.monotonic() - started)
            self._breaker.answered(started)
        elif verdict.kind == CREDENTIAL_REFUSED:
            self._breaker.failed(verdict, caller, started)
        return verdict

    async def _called(
        self, session: McpSession, name: str, arguments: dict[str, Any], trace_id: str
    ) -> "tuple[str, ResultStatus] | Fault":
        from mcp import MCPError
        from pydantic import ValidationError

        client = session.ready.result()
        session.refused = None
        try:
            async with asyncio.timeout(self.spec.timeout_s):
                result = await client.call_tool(name, arguments, meta={"agentrft/trace_id": trace_id})
        except TimeoutError:
            return Fault("timeout", f"no answer within {self.spec.timeout_s:g} s", transient=True)
        except MCPError as error:
            if error.code == INVALID_PARAMS:
                return self.redactor.output(clean_text(error.message)), "client_error"
            message = self.redactor.message(f"{error.code}: {error.message}")
            return _refusal(session, message) or Fault("server_error", message, transient=True)
        except ValidationError as error:
            return Fault("bad_answer", self.redactor.message(str(error)))
        except Exception as error:  # closed streams, broken pipes, HTTP errors of the SDK's own client
            message = self.redactor.message(reason_of(error))
            return _refusal(session, message) or Fault("connection", message)
        text = text_of(result.content, result.structured_content)
        if result.is_error and not text.strip():
            text = "the tool failed, and did not say why"
        if len(text.encode(errors="replace")) > MAX_BODY_BYTES:
            return f"413 Payload Too Large: the tool's answer is over {MAX_BODY_BYTES} bytes.", "too_large"
        return self.redactor.output(text), "client_error" if result.is_error else "ok"


def _refusal(session: McpSession, message: str, *, opens: bool = False) -> Fault | None:
    """What went wrong, where the server had refused the credential; `opens`: a session, which asks for nothing yet."""
    if session.refused is None:
        return None
    message = f"HTTP {session.refused}: {message}"
    is_forbidden = session.refused == FORBIDDEN and not opens
    return Fault(CREDENTIAL_REFUSED, message, transient=True, may_have_arrived=False, is_forbidden=is_forbidden)


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
        self.idempotent = server.spec.may_repeat
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

    async def probe(self, trial: TrialCall | None) -> None:
        """Nothing to ask: the server was asked for its tools."""

    async def close(self) -> None:
        """The server is closed as a whole."""
