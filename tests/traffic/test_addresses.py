"""A name that leads to a link-local or metadata address is not connected to, whatever it led to before."""

import socket
from typing import Any

import pytest

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall, ToolFailure
from agentrft.tools.mcp_transport import CheckedTransport
from agentrft.traffic.addresses import is_link_local, refusing_link_local
from tests.traffic.chaos_server import ChaosServer

NAME = "rebound.test"


@pytest.fixture
def leads_to(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets `NAME` lead to an address."""
    real = socket.getaddrinfo
    address = "127.0.0.1"

    def look_up(host: Any, port: Any, *arguments: Any, **options: Any) -> Any:
        return real(address if host in (NAME, NAME.encode()) else host, port, *arguments, **options)

    def lead_to(new: str) -> None:
        nonlocal address
        address = new

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return lead_to


def tool(url: str) -> HttpTool:
    spec = {"name": "search", "server_url": url.replace("127.0.0.1", NAME), "retries": 0, "outage_deadline_s": 0.1}
    return HttpTool(HttpToolSpec.model_validate(spec))


async def call(one: HttpTool) -> str:
    answer = await one.call(ToolCall("call_1", "search", "{}"), trace_id="trace_1", attempt=1, item={})
    return answer.output


async def test_a_name_that_changes_its_address_after_the_check_reaches_nothing(leads_to: Any) -> None:
    async with ChaosServer() as server:
        with refusing_link_local():
            guarded, later = tool(server.url), tool(server.url)
        try:
            assert await call(guarded) == "fine"
            leads_to("169.254.169.254")
            with pytest.raises(ToolFailure, match="a link-local or metadata address, which jobs may not call"):
                await call(later)
        finally:
            await guarded.close()
            await later.close()
        assert len(server.received) == 1


async def test_an_mcp_server_is_connected_to_by_the_address_that_was_checked(leads_to: Any) -> None:
    import httpx2

    async with ChaosServer() as server, httpx2.AsyncClient(transport=CheckedTransport()) as client:
        url = server.url.replace("127.0.0.1", NAME)
        assert (await client.post(url, json={})).status_code == 200
        assert server.received[0].headers["Host"].startswith(f"{NAME}:")
        leads_to("::ffff:169.254.169.254")
        with pytest.raises(httpx2.ConnectError, match="a link-local or metadata address"):
            await client.post(url, json={})


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.0.23",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fe80::1%eth0",
        "fe80::a9fe:a9fe",
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd00:ec2::253%1",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
        "fd00:42::42",
        # An IPv4 address inside: mapped, compatible, translated, NAT64, 6to4, Teredo, ISATAP.
        "::ffff:169.254.0.1",
        "::ffff:100.100.100.200",
        "::169.254.169.254",
        "::a9fe:a9fe",
        "::ffff:0:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b::168.63.129.16",
        "64:ff9b:1::a9fe:a9fe",
        "64:ff9b:1:a9fe:a9:fe00::",
        "64:ff9b:1:dead:beef::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "2002:6464:64c8::",
        "2001:0:a9fe:a9fe::1",
        "2001:0:1234::5601:5601",
        "2001:db8::5efe:169.254.1.1",
        "fd12::200:5efe:a9fe:a9fe",
        "2001:db8:64::a9fe:a9fe",
    ],
)
def test_link_local_and_metadata_addresses_are_known_in_all_their_forms(address: str) -> None:
    assert is_link_local(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "100.100.100.201",
        "::1",
        "::",
        "93.184.216.34",
        "fd00:ec3::254",
        "fd12:3456::1",
        "2606:4700::1111",
        "64:ff9b::5db8:d822",
        "64:ff9b:1::10.0.0.1",
        "2002:5db8:d822::1",
        "2001:0:5db8:d822::1",
        "::ffff:10.0.0.1",
    ],
)
def test_loopback_private_and_public_addresses_are_not_refused(address: str) -> None:
    assert not is_link_local(address)
