"""Addresses that jobs of a server may not reach, whatever name leads there.

They are looked at when a name becomes the address of a connection: a name that another address stands behind by then
than when the job was checked gains nothing.
"""

import asyncio
import errno
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

# Of clouds whose metadata service is not at a link-local address: Alibaba, Azure, Oracle; and the networks that Amazon,
# Google, Oracle and Scaleway keep for such services.
METADATA_NETWORKS = tuple(
    ipaddress.ip_network(network)
    for network in (
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "fd00:ec2::/32",
        "fd20:ce::/32",
        "fd00:c1::/32",
        "fd00:42::42/128",
    )
)
# What clouds answer at; an IPv6 address that ends in one is taken for its translation, whoever's prefix it has.
METADATA_IPV4 = frozenset({"169.254.169.254", "169.254.170.2", "169.254.170.23", "100.100.100.200", "168.63.129.16"})
# IPv6 networks whose addresses carry an IPv4 address, and how many bits lie behind it: translated by NAT64 (RFC 6052,
# RFC 8215) or SIIT, compatible, 6to4, Teredo's server.
LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")
CARRIERS = (
    (ipaddress.IPv6Network("::/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0/96"), 0),
    (ipaddress.IPv6Network("::ffff:0:0:0/96"), 0),
    (ipaddress.IPv6Network("64:ff9b::/96"), 0),
    (LOCAL_NAT64, 0),
    (ipaddress.IPv6Network("2002::/16"), 80),
    (ipaddress.IPv6Network("2001::/32"), 64),
)
ISATAP = (0x00005EFE, 0x02005EFE)

_refusing: ContextVar[bool] = ContextVar("agentrft-refusing-link-local", default=False)


@contextmanager
def refusing_link_local(refuse: bool = True) -> Iterator[None]:
    """Tools and graders that are made meanwhile cannot reach link-local and metadata addresses."""
    token = _refusing.set(refuse)
    try:
        yield
    finally:
        _refusing.reset(token)


def refuses_link_local() -> bool:
    """Whether what is made now may not reach them."""
    return _refusing.get()


def is_link_local(address: str) -> bool:
    """Whether an IP address is link-local or of a cloud's metadata service, or an IPv6 form of one that is."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if _is_refused(parsed):
        return True
    if isinstance(parsed, ipaddress.IPv4Address):
        return False
    last = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
    return str(last) in METADATA_IPV4 or any(_is_refused(carried) for carried in _carried(parsed))


def _is_refused(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_link_local or any(address in network for network in METADATA_NETWORKS)


def _carried(address: ipaddress.IPv6Address) -> Iterator[ipaddress.IPv4Address]:
    """IPv4 addresses that may be meant by one of IPv6."""
    bits = int(address)
    for network, behind in CARRIERS:
        if address in network:
            yield ipaddress.IPv4Address(bits >> behind & 0xFFFFFFFF)
    if address.teredo is not None:
        # The client, whose bits are inverted.
        yield address.teredo[1]
    if address in LOCAL_NAT64:
        # RFC 6052: 16 bits, eight that are zero, and 16 more.
        yield ipaddress.IPv4Address((bits >> 64 & 0xFFFF) << 16 | bits >> 40 & 0xFFFF)
    if bits >> 32 & 0xFFFFFFFF in ISATAP:
        yield ipaddress.IPv4Address(bits & 0xFFFFFFFF)


def is_address(host: str) -> bool:
    """Whether it is an IP address as it is usually written, and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def check_address(host: str, addresses: list[str]) -> None:
    """Raise OSError if one of a host's addresses may not be reached."""
    refused = [address for address in addresses if is_link_local(address)]
    if refused:
        what = f"{host} is at {refused[0]}, a link-local or metadata address, which jobs may not call"
        raise OSError(errno.EACCES, what)


class CheckedResolver(aiohttp.ThreadedResolver):
    """Looks names up for aiohttp."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises OSError also where an address may not be reached."""
        found = await super().resolve(host, port, family)
        check_address(host, [one["host"] for one in found])
        return found


def resolver(refuse: bool) -> AbstractResolver | None:
    """For a connector; None is aiohttp's own."""
    return CheckedResolver() if refuse else None


async def checked_address(host: str, port: int | None) -> str:
    """An address of a host, for clients that look names up by themselves: they are given this instead.

    What is an address already was looked at when the job was made.

    Raises:
        OSError: it has none, or one that may not be reached.
    """
    if is_address(host):
        return host
    loop = asyncio.get_running_loop()
    found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    check_address(host, addresses)
    return addresses[0]
