"""The least that a server can do with a request: `GET /SIZE` is answered by as many bytes, and nothing is looked at.

    python -m benchmarks.bare_server

It prints its port. What it costs beside a training is what any server costs there, whatever it does.
"""

import asyncio
import functools
from typing import Any

import uvloop


@functools.cache
def answer(size: int) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (size, b" " * size)


class Bare(asyncio.Protocol):
    """Requests come in one piece, one after another."""

    def connection_made(self, transport: Any) -> None:  # uvloop's are no subclasses of asyncio's
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(answer(int(data.split(b" ", 2)[1][1:])))


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Bare, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
