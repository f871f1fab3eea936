"""Clients in a process of their own: each asks for some paths, one after another, then waits, as long as it is let.

They speak as little HTTP as will do: what a client costs is no property of the server that it polls.
"""

import asyncio
import json
import multiprocessing
import os
import re
import time
from functools import partial
from typing import Any

import uvloop

LONGEST_TARGET = 2000
TAG = re.compile(rb"^etag: *(\S+)\r?$", re.I | re.M)


class Clients:
    """A process of `count` clients, which begin one after another and wait `interval_s` between their rounds."""

    def __init__(self, count: int, interval_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._target: Any = context.Array("c", LONGEST_TARGET)
        self._ends = context.Event()
        self._told: Any = context.Queue()
        arguments = (count, interval_s, self._target, self._ends, self._told)
        self.process = context.Process(target=_run, args=arguments, daemon=True)
        self.process.start()

    def poll(self, name: str | None = None, port: int = 0, paths: tuple[str, ...] = ()) -> None:
        """From now on ask for these paths, and keep the latencies under this name; without one ask for nothing."""
        self._target.value = json.dumps([name, port, paths]).encode()

    def end(self) -> dict[str, dict[str, Any]]:
        """By name: `latencies` in seconds, and how many requests `failed`."""
        self._ends.set()
        told = self._told.get(timeout=60)
        self.process.join()
        return told


class _Connection(asyncio.Protocol):
    def __init__(self, port: int) -> None:
        self.port = port
        self._received = b""
        self._answer: asyncio.Future[int] | None = None
        self._path = ""
        self._tags: dict[str, bytes] = {}

    def connection_made(self, transport: Any) -> None:  # uvloop's are no subclasses of asyncio's
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found or self._answer is None:
            return
        _, _, rest = head.lower().partition(b"content-length:")
        # An answer that says "as before" (304) has no body and no length.
        if len(body) >= int(rest.split(b"\r\n", 1)[0] or 0):
            self._received = b""
            tag = TAG.search(head)
            if tag is not None:
                self._tags[self._path] = tag[1]
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionResetError())

    async def status(self, path: str) -> int:
        self._answer, self._path = asyncio.get_running_loop().create_future(), path
        # What a client has seen before it asks for with its tag, as a page of ours does.
        known = self._tags.get(path)
        condition = b"If-None-Match: %b\r\n" % known if known else b""
        self.transport.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode() + condition + b"\r\n")
        return await self._answer


def _run(count: int, interval_s: float, target: Any, ends: Any, told: Any) -> None:
    found: dict[str, dict[str, Any]] = {}
    parent = os.getppid()

    async def client(number: int) -> None:
        # As clients come: not all at once.
        await asyncio.sleep(interval_s * number / count)
        connection: _Connection | None = None
        while not ends.is_set() and os.getppid() == parent:
            name, port, paths = json.loads(target.value or b"[null, 0, []]")
            if connection is not None and (connection.port != port or connection.transport.is_closing()):
                connection.transport.close()
                connection = None
            for path in paths:
                if connection is None:
                    loop = asyncio.get_running_loop()
                    _, connection = await loop.create_connection(partial(_Connection, port), "127.0.0.1", port)
                own = found.setdefault(name, {"latencies": [], "failed": 0})
                started = time.perf_counter()
                try:
                    own["failed"] += await connection.status(path) not in (200, 304)
                except OSError:
                    own["failed"] += 1
                own["latencies"].append(time.perf_counter() - started)
            await asyncio.sleep(interval_s)

    async def run() -> None:
        await asyncio.gather(*(client(number) for number in range(count)))

    uvloop.run(run())
    told.put(found)
