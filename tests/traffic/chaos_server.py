"""A real HTTP server that misbehaves on purpose, and keeps a log of every request that reached it.

Behaviours come from a script (one per request, in order), then from a seeded mix, then from the default:

    async with ChaosServer(script=[status(500), reset()]) as server:
        spec = HttpToolSpec(name="search", server_url=server.url)

In a mix, what a request gets depends on the seed, its Idempotency-Key and how often that key was seen, so a
run is the same again however its calls interleave.
"""

import asyncio
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

Kind = Literal["answer", "hang", "drip", "reset", "truncated"]


@dataclass(frozen=True)
class Behaviour:
    """What to do with one request. `delay_s` comes before it, in seconds."""

    kind: Kind = "answer"
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True)
class Received:
    """One request as it came. `body` is the parsed JSON."""

    method: str
    headers: dict[str, str]
    body: Any
    peer_port: int


def ok(output: Any = "fine", *, delay_s: float = 0.0) -> Behaviour:
    return json_body({"type": "function_call_output", "output": output}, delay_s=delay_s)


def json_body(value: Any, *, status: int = 200, delay_s: float = 0.0) -> Behaviour:
    headers = {"Content-Type": "application/json"}
    return Behaviour(status=status, body=json.dumps(value).encode(), headers=headers, delay_s=delay_s)


def raw(body: bytes, *, status: int = 200, content_type: str = "text/plain") -> Behaviour:
    return Behaviour(status=status, body=body, headers={"Content-Type": content_type})


def status(code: int, body: str = "", **headers: str) -> Behaviour:
    """An error; `headers` are written with underscores: `status(429, Retry_After="1")`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Behaviour(status=code, body=body.encode(), headers=named)


def bad_json() -> Behaviour:
    return raw(b'{"output": "cut of', content_type="application/json")


def big_body(size: int) -> Behaviour:
    return raw(b"x" * size)


def hang() -> Behaviour:
    return Behaviour(kind="hang")


def drip() -> Behaviour:
    """An answer that keeps coming, a byte at a time, and never ends."""
    return Behaviour(kind="drip")


def reset() -> Behaviour:
    return Behaviour(kind="reset")


def truncated() -> Behaviour:
    return Behaviour(kind="truncated")


class ChaosServer:
    """Args:
        script: behaviours of the first requests, in the order they arrive.
        mix: (fraction, behaviour) pairs for the requests after the script; the rest gets `default`.
        default: what a request gets otherwise.
        seed: of the mix.
        limit_in_flight: above so many requests at once the answer is 429 with `Retry-After: 0`.
        port: 0 takes a free one.

    Attributes:
        received: every request, in the order of arrival; `executed` counts, by Idempotency-Key, those that
            were answered 200 in full.
        max_in_flight: the most requests that were under way at once.
    """

    def __init__(
        self,
        *,
        script: Iterable[Behaviour] = (),
        mix: Iterable[tuple[float, Behaviour]] = (),
        default: Behaviour | None = None,
        seed: int = 0,
        limit_in_flight: int | None = None,
        port: int = 0,
    ) -> None:
        self.script = list(script)
        self.mix = list(mix)
        self.default = default or ok()
        self.seed = seed
        self.limit_in_flight = limit_in_flight
        self.received: list[Received] = []
        self._port = port
        self.executed: Counter[str] = Counter()
        self.refused = 0
        self.max_in_flight = 0
        self.url = ""
        self._in_flight = 0
        self._seen: Counter[str] = Counter()
        self._closing = asyncio.Event()

    async def __aenter__(self) -> "ChaosServer":
        application = web.Application(client_max_size=4 * 1024 * 1024)
        application.router.add_route("*", "/tool", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, backlog=2048)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/tool"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight)
        try:
            return await self._serve(request)
        finally:
            self._in_flight -= 1

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        overloaded = self.limit_in_flight is not None and self._in_flight > self.limit_in_flight
        text = await request.text()
        peer_port = request.transport.get_extra_info("peername")[1] if request.transport else 0
        self.received.append(
            Received(request.method, dict(request.headers), json.loads(text) if text else None, peer_port)
        )
        if overloaded:
            self.refused += 1
            return web.Response(status=429, headers={"Retry-After": "0"})
        behaviour = self._behaviour(request.headers.get("Idempotency-Key", ""))
        if behaviour.delay_s:
            await asyncio.sleep(behaviour.delay_s)
        if behaviour.kind == "hang":
            await self._closing.wait()
            return web.Response(status=503)
        if behaviour.kind == "drip":
            return await self._drip(request)
        if behaviour.kind == "reset":
            return _reset(request)
        if behaviour.kind == "truncated":
            return await _cut_off(request)
        if behaviour.status == 200:
            self.executed[request.headers.get("Idempotency-Key", "")] += 1
        return web.Response(status=behaviour.status, body=behaviour.body, headers=behaviour.headers)

    async def _drip(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        while not self._closing.is_set() and request.transport is not None:
            await response.write(b"x")
            await asyncio.sleep(0.02)
        return response

    def _behaviour(self, key: str) -> Behaviour:
        if self.script:
            return self.script.pop(0)
        self._seen[key] += 1
        draw = random.Random(f"{self.seed}:{key}:{self._seen[key]}").random()
        for fraction, behaviour in self.mix:
            draw -= fraction
            if draw < 0:
                return behaviour
        return self.default


def _reset(request: web.Request) -> web.Response:
    """Send a TCP reset: closing with a linger of zero seconds does."""
    assert request.transport is not None
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()
    return web.Response(status=503)


async def _cut_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"output": "the first half')
    assert request.transport is not None
    request.transport.close()
    return response
