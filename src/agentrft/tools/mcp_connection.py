"""How an MCP server is reached: over streamable HTTP, or a command's stdin and stdout; and the tools that it lists."""

import asyncio
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentrft.errors import AgentRFTError, EndpointError, missing_package
from agentrft.spec import McpToolSpec
from agentrft.tools.mcp_listing import ToolDefinition, listed_tools
from agentrft.tools.mcp_session import last_words, reason_of, without_output_checks
from agentrft.traffic import CREDENTIAL_STATUSES, MAX_BODY_BYTES, Redactor, public_url, shorten
from agentrft.traffic.addresses import refuses_link_local

if TYPE_CHECKING:
    from mcp import Client

OPEN_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 30.0
# Starting a process takes a core; more of them at once only start later.
PROCESSES_STARTING = 8
# An answer that is too large is the model's to know, so it is read up to here before it is refused.
MAX_EVENT_BYTES = 16 * MAX_BODY_BYTES


def _ignore_status(status: int) -> None:
    pass


class McpConnector:
    """Opens connections to one server. Used from one event loop, but for `discovered`."""

    def __init__(self, label: str, spec: McpToolSpec, redactor: Redactor) -> None:
        self.label = label
        self.redactor = redactor
        self._spec = spec
        self._starting = asyncio.Semaphore(PROCESSES_STARTING)
        # The handshake that makes sessions; servers that only know the protocol without them get that one.
        self._mode = "legacy"
        self._refuses_link_local = refuses_link_local()

    @asynccontextmanager
    async def connected(
        self, headers: Mapping[str, str], errors: Any, refused: Callable[[int], None] = _ignore_status
    ) -> "AsyncIterator[Client]":
        """An open session; must be left in the task that entered it.

        Args:
            headers: of this session, beside the server's own.
            errors: gets what a process writes to stderr.
            refused: told the status of each answer that refuses the credential.
        """
        import httpx2
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        spec = self._spec
        if spec.command is None:
            timeout = httpx2.Timeout(CONNECT_TIMEOUT_S, read=spec.timeout_s)
            sent = {**spec.headers, **headers}

            async def look(response: httpx2.Response) -> None:
                if response.status_code in CREDENTIAL_STATUSES:
                    refused(response.status_code)

            async with httpx2.AsyncClient(
                headers=sent, timeout=timeout, transport=self._transport(), event_hooks={"response": [look]}
            ) as http:
                url = str(spec.server_url)
                transport = streamable_http_client(url, http_client=http, max_sse_event_size=MAX_EVENT_BYTES)
                async with Client(transport, mode=self._mode) as client:
                    yield without_output_checks(client)
        else:
            names = {"X-Trace-Id": "AGENTRFT_TRACE_ID", "traceparent": "TRACEPARENT"}
            trace = {name: headers[header] for header, name in names.items() if header in headers}
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

    def discovered(self) -> list[ToolDefinition]:
        """The server's tools, asked in an event loop of their own: jobs are put together inside a running one."""
        where = (
            f"{self.label}: {public_url(str(self._spec.server_url)) if self._spec.server_url else self._spec.command}"
        )
        try:
            import mcp  # noqa: F401
        except ModuleNotFoundError as error:
            raise missing_package(self.label, "mcp", extra="mcp") from error
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

    def _transport(self) -> Any:
        """None is the client's own, which goes wherever a name leads."""
        if not self._refuses_link_local:
            return None
        from agentrft.tools.mcp_transport import CheckedTransport

        return CheckedTransport()

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
