"""Whether there is a server at all: a connection that is opened and closed again, without a request."""

import asyncio
import socket
import ssl

import aiohttp
from yarl import URL

from agentrft.traffic.addresses import resolver


async def connect(url: URL, *, timeout_s: float, refuse_link_local: bool) -> str | None:
    """Connect to the host and port of a URL; over TLS, and with its certificate looked at, where it says so.

    Returns:
        What went wrong, else None.
    """
    host, port = url.host or "", url.port or 0
    names = resolver(refuse_link_local) or aiohttp.ThreadedResolver()
    problem = "its name has no address"
    try:
        async with asyncio.timeout(timeout_s):
            for found in await names.resolve(host, port, socket.AF_UNSPEC):
                problem = await _connect(found["host"], port, host, is_tls=url.scheme == "https")
                if problem is None:
                    return None
    except TimeoutError:
        return f"no connection within {timeout_s:g} s"
    except (OSError, UnicodeError) as error:
        return str(error)
    return problem


async def _connect(address: str, port: int, name: str, *, is_tls: bool) -> str | None:
    context = ssl.create_default_context() if is_tls else None
    try:
        _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=name if is_tls else None)
    except ssl.SSLCertVerificationError as error:
        return f"its certificate is not trusted: {error.verify_message}"
    except OSError as error:
        return str(error)
    writer.close()
    try:
        await writer.wait_closed()
    except OSError:
        pass
    return None
