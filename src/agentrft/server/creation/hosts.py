"""Where tools, graders and judges of a server's jobs may be."""

import ipaddress
import socket
from contextlib import AbstractContextManager
from urllib.parse import urlsplit

from agentrft.server.errors import ApiError
from agentrft.server.settings import Settings
from agentrft.traffic.addresses import is_address, is_link_local, refusing_link_local

METADATA_HOSTS = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.tencentyun.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)


def check_host(url: str, settings: Settings) -> None:
    """Raise ApiError unless tools and graders may be at this host.

    A name that was allowed may not lead to a link-local or metadata address either; such an address itself may be
    allowed.
    """
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if settings.allowed_hosts:
        if host not in settings.allowed_hosts:
            allowed = ", ".join(settings.allowed_hosts)
            raise ApiError(
                400, f"The host '{host}' is not allowed here; these are: {allowed}.", code="host_not_allowed"
            )
        if is_address(host):
            return
    if host in METADATA_HOSTS or any(is_link_local(address) for address in _addresses(host)):
        raise ApiError(
            400,
            f"The host '{host}' is a link-local or metadata address, which jobs may not call.",
            code="host_not_allowed",
        )


def guarded() -> AbstractContextManager[None]:
    """What `check_host` says of addresses, again at each connection of what is made meanwhile."""
    return refusing_link_local()


def _addresses(host: str) -> list[str]:
    try:
        return [str(ipaddress.ip_address(host))]
    except ValueError:
        pass
    try:
        return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
    except (OSError, UnicodeError):
        return []  # the job will say that it cannot be reached
