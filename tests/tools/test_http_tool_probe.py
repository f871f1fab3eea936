"""The check at job start: is the endpoint there, and does it take the headers?"""

import socket

import pytest

from agentrft.errors import EndpointError
from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool
from tests.traffic.chaos_server import Behaviour, ChaosServer, hang, ok, raw, reset, status


async def probe(url: str, timeout_s: float = 5.0) -> None:
    headers = {"Authorization": "Bearer abc"}
    spec = HttpToolSpec.model_validate({"name": "search", "url": url, "headers": headers, "timeout_s": timeout_s})
    tool = HttpTool(spec)
    try:
        await tool.probe()
    finally:
        await tool.close()


@pytest.mark.parametrize("answer", [ok(), status(400), status(422), status(429), raw(b"\xff"), status(204)])
async def test_an_endpoint_that_takes_requests_passes_with_one_empty_marked_request(answer: Behaviour) -> None:
    async with ChaosServer(default=answer) as server:
        await probe(server.url)
    (received,) = server.received
    assert (received.method, received.body) == ("POST", {})
    assert received.headers["X-AgentRFT-Probe"] == "1"
    assert received.headers["Authorization"] == "Bearer abc"


@pytest.mark.parametrize(
    ("answer", "cause", "remedy"),
    [
        (status(401), "the headers are wrong", "headers"),
        (status(403), "the headers are wrong", "headers"),
        (status(407), "the headers are wrong", "headers"),
        (status(404), "404", "path"),
        (status(405), "405", "path"),
        (status(301, Location="/elsewhere"), "redirects to /elsewhere", "server_url"),
        (status(500), "500", "log"),
        (hang(), "no answer within 0.2 s", "Start the server"),
        (reset(), "cannot be used", "Start the server"),
    ],
)
async def test_an_endpoint_that_cannot_be_used_is_refused_with_cause_and_remedy(
    answer: Behaviour, cause: str, remedy: str
) -> None:
    async with ChaosServer(default=answer) as server:
        with pytest.raises(EndpointError) as refused:
            await probe(server.url, timeout_s=0.2 if answer.kind == "hang" else 5.0)
    assert cause in refused.value.cause and "tool 'search'" in refused.value.cause
    assert remedy in refused.value.remedy
    assert len(server.received) == 1


async def test_nothing_listening_and_an_unknown_host_are_refused() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/tool", "http://no-such-host.invalid/tool"):
        with pytest.raises(EndpointError, match="cannot be used"):
            await probe(url)
