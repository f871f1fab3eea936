"""The process that has the models, from the API's side: started when it is first needed, and again if it dies."""

import asyncio
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp

from agentrft.program import command

START_S = 60.0
TOKEN_VARIABLE = "AGENTRFT_INFERENCE_TOKEN"


class Inference:
    """One process for all models. Used from one event loop.

    Args:
        vllm: base models that vLLM servers answer with, as MODEL=URL.
        vllm_seeds: whether these are asked with the seeds of requests.
    """

    def __init__(
        self, data_dir: Path, *, max_models: int, max_adapters: int, vllm: Sequence[str] = (), vllm_seeds: bool = False
    ) -> None:
        self._data_dir = data_dir
        self._limits = ["--max-models", str(max_models), "--max-adapters", str(max_adapters)]
        self._limits += [word for place in vllm for word in ("--vllm", place)]
        self._limits += ["--vllm-seeds"] if vllm_seeds else []
        self._token = secrets.token_urlsafe(32)
        self._process: asyncio.subprocess.Process | None = None
        self._base = ""
        self._session: aiohttp.ClientSession | None = None
        self._starting = asyncio.Lock()

    async def post(self, path: str, body: dict[str, Any], headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """The answer, its body unread.

        Raises:
            aiohttp.ClientError: the process cannot be started, or died.
        """
        session = await self._ready()
        return await session.post(self._base + path, json=body, headers={**headers, "X-AgentRFT-Token": self._token})

    async def close(self) -> None:
        """End the process: it ends with its standard input."""
        if self._session is not None:
            await self._session.close()
        process = self._process
        if process is not None and process.returncode is None:
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                process.kill()

    async def _ready(self) -> aiohttp.ClientSession:
        async with self._starting:
            if self._process is None or self._process.returncode is not None:
                await self._start()
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
            return self._session

    async def _start(self) -> None:
        with (self._data_dir / "inference.log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command("agentrft.server.inference", "--port", "0", *self._limits),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, TOKEN_VARIABLE: self._token},
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                line = await self._process.stdout.readline()
            port = json.loads(line)["port"]
        except (TimeoutError, ValueError, KeyError) as error:
            self._process.kill()
            await self._process.wait()
            raise aiohttp.ClientConnectionError("the process that serves models did not start") from error
        self._base = f"http://127.0.0.1:{port}"
