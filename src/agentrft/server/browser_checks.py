"""What keeps web pages away from a server that takes no key.

A browser lets every page send requests to every address, this machine's included, and lets a page read the answers of
the host that it came from, whatever address that host's name leads to by now (DNS rebinding). So a request without a
key must name this machine as its host, and must not come from a page of another origin.
"""

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers

DEFAULT_PORTS = {"http": 80, "https": 443}
FROM_OTHER_SITES = frozenset({"cross-site", "same-site"})
# What the scripts of this server's own pages send along. A page of another origin cannot: a browser would first ask the
# server whether it may send a header of that name, and gets no answer that says so.
PAGE_HEADER = "X-AgentRFT-Page"
REMEDY = "Make an API key with `agentrft keys create NAME` and send it, or name the host with --trusted-host."


@dataclass(frozen=True)
class Refusal:
    """Why a request is not answered: a short code for programs, and a message."""

    code: str
    message: str


def refusal(headers: Headers, trusted_hosts: Collection[str], *, opens_from_anywhere: bool = False) -> Refusal | None:
    """Why a request without a key is refused; None where it is not.

    Args:
        trusted_hosts: names beside those of loopback that the server may be asked by.
        opens_from_anywhere: whether a link of any site may lead people to it. They see the answer; the site does not.
    """
    hosts = headers.getlist("host")
    host = _split(hosts[0]) if len(hosts) == 1 else None
    if host is None or not (is_loopback_name(host[0]) or host[0] in trusted_hosts):
        shown = f"'{hosts[0][:100]}'" if hosts else "no host"
        return Refusal("host_not_trusted", f"{shown} is no name of this machine's loopback address. {REMEDY}")
    origins = headers.getlist("origin")
    is_own = len(origins) == 1 and _is_origin_of(origins[0], host)
    if origins and not is_own:
        return Refusal("cross_origin", f"Pages of other origins may not use a server that takes no key. {REMEDY}")
    sites = {value.strip().lower() for value in headers.getlist("sec-fetch-site")}
    is_followed = opens_from_anywhere and _is_opened(headers)
    if sites & FROM_OTHER_SITES and not (is_own or is_followed):
        return Refusal("cross_origin", f"Pages of other sites may not use a server that takes no key. {REMEDY}")
    return None


def is_from_own_page(headers: Headers) -> bool:
    """Whether a script of this server's own pages sent it, so that what the browser adds by itself is meant."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    host = _split(hosts[0]) if len(hosts) == 1 else None
    sites = {value.strip().lower() for value in headers.getlist("sec-fetch-site")}
    is_own = all(host is not None and _is_origin_of(origin, host) for origin in origins)
    return PAGE_HEADER in headers and is_own and not sites & FROM_OTHER_SITES


def is_loopback_name(host: str) -> bool:
    """Whether it can only mean this machine: `localhost`, or a loopback address."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def _is_opened(headers: Headers) -> bool:
    """Whether a browser asks for it to show it in a window of its own, and in no frame."""
    return headers.getlist("sec-fetch-mode") == ["navigate"] and headers.getlist("sec-fetch-dest") == ["document"]


def _is_origin_of(origin: str, host: tuple[str, int | None]) -> bool:
    scheme, separator, rest = origin.partition("://")
    own = _split(rest) if separator else None
    default = DEFAULT_PORTS.get(scheme.lower())
    # The server cannot tell which scheme its proxy was asked by, so a missing port is the origin's default.
    return own is not None and own[0] == host[0] and (own[1] or default) == (host[1] or default)


def _split(authority: str) -> tuple[str, int | None] | None:
    """Host in lower case, without brackets, and port; None where it is neither."""
    if not authority.isascii() or any(character in authority for character in "/\\@?# \t"):
        return None
    try:
        parsed = urlsplit(f"//{authority}")
        return (parsed.hostname, parsed.port) if parsed.hostname else None
    except ValueError:
        return None
