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

# Of clouds whose metadata service is not at a link-local address.
METADATA_ADDRESSES = frozenset({"fd00:ec2::254", "100.100.100.200", "168.63.129.16", "192.0.0.192"})

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
    """Whether an IP address is link-local or of a cloud's metadata service."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    parsed = getattr(parsed, "ipv4_mapped", None) or parsed
    return parsed.is_link_local or str(parsed) in METADATA_ADDRESSES


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

    Raises:
        OSError: it has none, or one that may not be reached.
    """
    loop = asyncio.get_running_loop()
    found: list[Any] = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [str(one[4][0]) for one in found]
    check_address(host, addresses)
    return addresses[0]
