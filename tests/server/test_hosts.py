"""Where tools and graders of a server's jobs may be, however an address is written and wherever a name leads."""

import socket
from pathlib import Path
from typing import Any

import pytest

from agentrft.server.creation.hosts import check_host
from agentrft.server.errors import ApiError
from agentrft.server.settings import Settings


def settings(*allowed: str) -> Settings:
    return Settings(Path("/nowhere"), allowed_hosts=allowed)


@pytest.mark.parametrize(
    "host",
    [
        "[fd00:ec2::23]",
        "[fd20:ce::254]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[::169.254.169.254]",
        "[::FFFF:A9FE:A9FE]",
        "[64:FF9B:1::A9FE:A9FE]",
        "169.254.169.254.",
        "2852039166",
        "0xa9fea9fe",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "100.100.100.200",
        "168.63.129.16",
        "Metadata.Google.Internal.",
        "instance-data.ec2.internal",
    ],
)
def test_metadata_services_are_refused_in_all_their_forms(host: str) -> None:
    with pytest.raises(ApiError, match="a link-local or metadata address") as refused:
        check_host(f"http://user@{host}:80/latest/meta-data?x=y", settings())
    assert refused.value.code == "host_not_allowed"


def test_a_name_that_was_allowed_may_not_lead_to_a_metadata_service(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo

    def look_up(host: Any, *arguments: Any, **options: Any) -> Any:
        return real("169.254.169.254" if host == "tools.example" else host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ApiError, match="a link-local or metadata address"):
        check_host("http://tools.example/search", settings("tools.example"))
    check_host("http://127.0.0.1:9/search", settings("127.0.0.1"))
    with pytest.raises(ApiError, match="is not allowed here"):
        check_host("http://127.0.0.2:9/search", settings("127.0.0.1"))


def test_an_address_that_was_allowed_itself_may_be_called() -> None:
    check_host("http://169.254.1.5/search", settings("169.254.1.5"))
