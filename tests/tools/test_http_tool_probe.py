"""What happens before a job: a connection, and a real call where one may be made."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentrft.data import Sample
from agentrft.errors import EndpointError
from agentrft.graders import create_grader
from agentrft.spec import HookSpec, HttpToolSpec
from agentrft.spec.graders import EndpointGraderSpec
from agentrft.tools import ToolFailure, create_toolbox
from tests.traffic.chaos_server import Behaviour, ChaosServer, bad_json, hang, ok, raw, reset, status
from tests.traffic.test_breaker import Listener, assert_only_real_calls, call_one, tool_at

PARAMETERS = {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]}
EXAMPLE = {"example": {"word": "pear"}}
ROW = {"messages": [{"role": "user", "content": "Which?"}], "answer": 7}


def sample(*tools: dict[str, Any]) -> Sample:
    return Sample("00001-0", ROW["messages"], list(tools), ROW)


async def probe(url: str, *, with_sample: Sample | None = None, hook: str | None = None, **fields: Any) -> Listener:
    """Returns what was said of it."""
    listener = Listener()
    headers = {"Authorization": "Bearer abc"}
    spec = {"name": "search", "url": url, "headers": headers, "timeout_s": 5.0, "parameters": PARAMETERS, **fields}
    start = None if hook is None else HookSpec.model_validate(hook)
    toolbox = create_toolbox([HttpToolSpec.model_validate(spec)], on_rollout_start=start, notify=listener)
    try:
        await toolbox.probe(with_sample or sample())
    finally:
        await toolbox.close()
    return listener


@pytest.mark.parametrize("fields", [{}, {"idempotent": False}, {"idempotent": False, **EXAMPLE}])
async def test_a_tool_that_may_not_be_called_gets_a_connection_and_no_request(fields: dict[str, Any]) -> None:
    async with ChaosServer(default=status(500)) as server:
        listener = await probe(server.url, **fields)
    assert (server.received, listener.heard) == ([], [])


@pytest.mark.parametrize(
    ("fields", "arguments"), [(EXAMPLE, '{"word": "pear"}'), ({"idempotent": True}, '{"word": "example"}')]
)
async def test_an_example_and_a_declaration_allow_one_call_as_a_rollout_makes_it(
    fields: dict[str, Any], arguments: str
) -> None:
    async with ChaosServer() as server:
        listener = await probe(server.url, **fields)
    (received,) = server.received
    assert_only_real_calls(server)
    assert (received.body["arguments"], received.body["item"]) == (arguments, ROW)
    assert received.headers["Authorization"] == "Bearer abc"
    assert received.headers["X-Trace-Id"] == received.body["trace_id"]
    assert listener.heard == []


async def test_arguments_are_made_up_from_the_schema_that_the_model_sees() -> None:
    own = {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}
    rows = sample({"type": "function", "function": {"name": "search", "parameters": own}})
    others = sample({"type": "function", "function": {"name": "other"}})
    async with ChaosServer() as server:
        await probe(server.url, with_sample=rows, idempotent=True)
        await probe(server.url, with_sample=others, idempotent=True)
    assert [received.body["arguments"] for received in server.received] == ['{"id": 1}']


async def test_a_tool_beside_hooks_is_not_called_before_there_is_a_rollout_and_neither_are_they() -> None:
    async with ChaosServer() as server, ChaosServer() as hooks:
        await probe(server.url, hook=hooks.url, **EXAMPLE)
    assert (server.received, hooks.received) == ([], [])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (status(400), "HTTP 400"),
        (status(422), "HTTP 422"),
        (status(204), None),
        (status(429), "HTTP 429"),
        (status(500, "a bug"), "HTTP 500: a bug"),
        (status(503), "HTTP 503"),
        (bad_json(), "not valid JSON"),
        (raw(b"\xff"), "not text"),
        (hang(), "no answer within 0.2 s"),
        (reset(), "reset by peer"),
    ],
)
@pytest.mark.parametrize("fields", [EXAMPLE, {"idempotent": True}])
async def test_what_may_pass_or_be_one_calls_own_is_a_warning_at_most(
    answer: Behaviour, said: str | None, fields: dict[str, Any]
) -> None:
    async with ChaosServer(default=answer) as server:
        listener = await probe(server.url, **fields, timeout_s=0.2 if answer.kind == "hang" else 5.0)
    assert len(server.received) == 1
    if said in ("HTTP 400", "HTTP 422") and fields != EXAMPLE:
        said = None  # what is made up may be wrong
    assert [level for level, _ in listener.heard] == ["warning"] * (said is not None)
    assert said is None or said in listener.heard[0][1]


@pytest.mark.parametrize(
    ("answer", "cause", "remedy", "of_made_up_arguments"),
    [
        (status(401), "the headers are wrong", "headers", True),
        (status(403), "the headers are wrong", "headers", False),
        (status(407), "the headers are wrong", "headers", True),
        (status(404), "404", "path", False),
        (status(405), "405", "path", True),
        (status(301, Location="/elsewhere"), "redirects to /elsewhere", "server_url", True),
    ],
)
async def test_what_no_waiting_mends_is_refused_with_cause_and_remedy(
    answer: Behaviour, cause: str, remedy: str, of_made_up_arguments: bool
) -> None:
    async with ChaosServer(default=answer) as server:
        with pytest.raises(EndpointError) as refused:
            await probe(server.url, **EXAMPLE)
        assert cause in refused.value.cause and "tool 'search'" in refused.value.cause
        assert remedy in refused.value.remedy
        if of_made_up_arguments:
            with pytest.raises(EndpointError):
                await probe(server.url, idempotent=True)
        else:
            # It may be about what nobody asked for.
            await probe(server.url, idempotent=True)
    assert len(server.received) == 2


async def test_nothing_listening_and_an_unknown_host_are_refused() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/tool", "http://no-such-host.invalid/tool", f"http://[::1]:{port}/"):
        with pytest.raises(EndpointError, match="cannot be reached") as refused:
            await probe(url)
        assert "Start the server" in refused.value.remedy


@asynccontextmanager
async def tls_server(folder: Path) -> AsyncIterator[int]:
    """A server with a certificate that nobody trusts, at a port."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-days", "1"]
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, *subject]
    subprocess.run(made, check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_certificate_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    async with tls_server(tmp_path) as port:
        with pytest.raises(EndpointError, match="its certificate is not trusted: self-signed"):
            await probe(f"https://localhost:{port}/tool")


async def test_an_endpoint_grader_gets_a_connection_and_nothing_to_grade() -> None:
    async with ChaosServer(default=status(500)) as server:
        grader = create_grader(EndpointGraderSpec.model_validate({"type": "endpoint", "url": server.url}))
        await grader.probe()
        await grader.close()
        assert server.received == []
    grader = create_grader(EndpointGraderSpec.model_validate({"type": "endpoint", "url": server.url}))
    with pytest.raises(EndpointError, match="grader 'endpoint'.*cannot be reached"):
        await grader.probe()
    await grader.close()


@pytest.mark.parametrize("code", [404, 405])
async def test_a_wrong_path_that_nobody_could_try_is_told_at_the_first_call(code: int) -> None:
    listener = Listener()
    async with ChaosServer(script=[status(code), status(code), ok(), status(code)]) as server:
        tool = tool_at(server.url, listener)
        assert [(await call_one(tool, n)).status for n in range(4)][2] == "ok"
        await tool.close()
    ((level, text),) = listener.heard
    assert level == "warning" and f"first call with HTTP {code}" in text and "correct the path" in text


async def test_a_wrong_key_that_nobody_could_try_fails_the_first_call_at_once() -> None:
    async with ChaosServer(default=status(401, "who are you")) as server:
        tool = tool_at(server.url, Listener())
        with pytest.raises(ToolFailure, match="its key or token was never taken: HTTP 401: who are you"):
            await call_one(tool, 1)
        await tool.close()
    assert len(server.received) == 1
