"""Processes for heavy work, from the server's side: started, told what to do by one line of JSON, and killed.

What is started here ends with its standard input (`follow_parent`), so it does not outlive the server.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

# A line of JSON in either direction is at most as long.
MOST_LINE_BYTES = 64 * 1024 * 1024
LAST_WORDS_BYTES = 4096


class ProcessDied(Exception):
    """It ended before it had answered; the message is the last line that it printed on standard error."""


class WorkProcess:
    """A `python -m MODULE` that answers each line of JSON with one."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._process: asyncio.subprocess.Process | None = None
        # One that was killed still counts as running until it is collected.
        self._is_killed = False
        self._last_words = b""
        self._listening: asyncio.Task[None] | None = None

    @property
    def lives(self) -> bool:
        return self._process is not None and self._process.returncode is None and not self._is_killed

    async def ask(self, told: Mapping[str, Any], *, timeout_s: float) -> Any:
        """Its answer. Whoever stops waiting, or waits too long, kills it.

        Raises:
            ProcessDied: it ended instead.
            TimeoutError: it took too long.
        """
        try:
            async with asyncio.timeout(timeout_s):
                process = await self._start()
                assert process.stdin is not None and process.stdout is not None
                line = b""
                with suppress(BrokenPipeError, ConnectionResetError):
                    process.stdin.write(json.dumps(told).encode() + b"\n")
                    await process.stdin.drain()
                    line = await process.stdout.readline()
                if not line.endswith(b"\n"):
                    await process.wait()
                    raise ProcessDied(await self._why())
                return json.loads(line)
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """At once; also what is cancelled in the middle of its work leaves nothing behind."""
        self._is_killed = True
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.kill()

    async def close(self) -> None:
        """Kill it and wait for its end."""
        self.kill()
        if self._process is not None:
            await self._process.wait()

    async def _start(self) -> asyncio.subprocess.Process:
        if self._process is None or not self.lives:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                self._module,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                limit=MOST_LINE_BYTES,
            )
            self._is_killed = False
            self._last_words = b""
            self._listening = asyncio.create_task(self._listen(self._process))
        return self._process

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        while part := await process.stderr.read(LAST_WORDS_BYTES):
            self._last_words = (self._last_words + part)[-LAST_WORDS_BYTES:]

    async def _why(self) -> str:
        if self._listening is not None:
            await self._listening
        lines = self._last_words.decode(errors="replace").strip().splitlines()
        assert self._process is not None
        return lines[-1] if lines else f"no reason given (exit status {self._process.returncode})"
