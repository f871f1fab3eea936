"""Processes for heavy work, from the server's side: started, told what to do by one line of JSON, and killed.

What is started here ends when its socket is closed (`child.py`), so it does not outlive the server.
"""

import asyncio
import itertools
import json
import os
import socket
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Any

from agentrft.program import command

# A line of JSON in either direction is at most as long.
MOST_LINE_BYTES = 64 * 1024 * 1024
LAST_WORDS_BYTES = 4096
# How long the end of one that was killed, and its last words, are waited for.
END_S = 5.0


class ProcessDied(Exception):
    """It ended before it had answered; the message is the last line that it printed on standard error."""


class Launcher:
    """Starts and kills processes by way of one that does nothing else. Used from one event loop."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count()
        self._starting = asyncio.Lock()

    async def start(self, module: str, told: socket.socket, errors: socket.socket) -> int:
        """Start `python -m module`; its number. It reads and writes `told`, and its errors go to `errors`."""
        number = next(self._numbers)
        message = json.dumps({"start": number, "module": module}).encode()
        async with self._starting:
            if self._process is None or self._process.poll() is not None:
                self._socket, self._process = await asyncio.to_thread(_launch)
            assert self._socket is not None
            await asyncio.to_thread(socket.send_fds, self._socket, [message], [told.fileno(), errors.fileno()])
        return number

    def kill(self, number: int) -> None:
        """At once; nothing where it has ended."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(json.dumps({"kill": number}).encode())

    def close(self) -> None:
        """End it, and all that it has started."""
        if self._socket is not None:
            self._socket.close()


class WorkProcess:
    """A `python -m MODULE` that answers each line of JSON with one."""

    def __init__(self, launcher: Launcher, module: str) -> None:
        self._launcher = launcher
        self._module = module
        self._number: int | None = None
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._last_words = b""
        self._listening: asyncio.Task[None] | None = None

    @property
    def lives(self) -> bool:
        """Whether it can be asked, as far as is known."""
        return self._streams is not None

    async def ask(self, told: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Its answer. Whoever stops waiting, or waits too long, kills it.

        Raises:
            ProcessDied: it ended instead.
            TimeoutError: it took too long.
        """
        with ExitStack() as undo:
            undo.callback(self.kill)
            async with asyncio.timeout(timeout_s):
                reader, writer = self._streams or await self._start()
                line = b""
                with suppress(BrokenPipeError, ConnectionResetError):
                    writer.write(json.dumps(told).encode() + b"\n")
                    await writer.drain()
                    line = await reader.readline()
                if not line.endswith(b"\n"):
                    raise ProcessDied(await self._why())
                answer = json.loads(line)
            undo.pop_all()
            return answer

    def kill(self) -> None:
        """At once; also what is cancelled in the middle of its work leaves nothing behind."""
        if self._number is not None:
            self._launcher.kill(self._number)
        if self._streams is not None:
            self._streams[1].close()
        self._number = self._streams = None

    async def close(self) -> None:
        """Kill it and wait for its end."""
        self.kill()
        await self._heard_all()

    async def _start(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        told, its_end = socket.socketpair()
        errors, its_errors = socket.socketpair()
        with its_end, its_errors:
            self._number = await self._launcher.start(self._module, its_end, its_errors)
        self._last_words = b""
        self._streams = await asyncio.open_unix_connection(sock=told, limit=MOST_LINE_BYTES)
        self._listening = asyncio.create_task(self._listen(*await asyncio.open_unix_connection(sock=errors)))
        return self._streams

    async def _listen(self, errors: asyncio.StreamReader, its_end: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while part := await errors.read(LAST_WORDS_BYTES):
                self._last_words = (self._last_words + part)[-LAST_WORDS_BYTES:]
        # Held until here: who writes where nobody reads dies of it.
        its_end.close()

    async def _heard_all(self) -> None:
        """Until it has ended, or what it has started holds its standard error open for longer than is waited."""
        if self._listening is not None:
            await asyncio.wait((self._listening,), timeout=END_S)

    async def _why(self) -> str:
        await self._heard_all()
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "no reason given"


def _launch() -> tuple[socket.socket, subprocess.Popen[bytes]]:
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        process = subprocess.Popen(
            command("agentrft.server.offload.launcher", str(its.fileno())),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(its.fileno(),),
            env=dict(os.environ),
        )
    return ours, process
