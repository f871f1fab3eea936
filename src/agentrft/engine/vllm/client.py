"""HTTP to one vLLM server."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import aiohttp

from agentrft.errors import EndpointError
from agentrft.traffic.http import shorten
from agentrft.traffic.redaction import Redactor, public_url

# Loading weights, or asking what the server is.
ASKING_TIMEOUT_S = 120.0
# Between two attempts at the same thing, in seconds: at first, and at most.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0


class Files(Protocol):
    """How a server comes to see what this machine has written."""

    async def seen_at(self, folder: Path) -> str | None:
        """The path under which it finds the folder; None while it is not there to be given it."""
        ...


class Client:
    """What asks a server, and tells what it answers without what is secret.

    Args:
        url: of the server, without a path; empty where `move_to` will say it.
        headers: sent with every request.
        files: how it comes to see folders; without them under their own paths.

    Attributes:
        shown_url: as messages may name it.
    """

    def __init__(self, url: str, headers: Mapping[str, str], files: Files | None = None) -> None:
        self._headers = dict(headers)
        self._files = files
        self._http: aiohttp.ClientSession | None = None
        self.move_to(url)

    def move_to(self, url: str) -> None:
        """The server is there from now on."""
        self._url = url.rstrip("/")
        self._redactor = Redactor(self._headers, url)
        self.shown_url = public_url(url)

    async def seen_at(self, folder: Path) -> str | None:
        """See `Files.seen_at`."""
        return str(folder) if self._files is None else await self._files.seen_at(folder)

    async def request(self, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> tuple[int, Any]:
        """Status and answer; status 0 and why where there was none. With a body it is a POST."""
        if self._http is None:
            connector = aiohttp.TCPConnector(limit=0)
            self._http = aiohttp.ClientSession(headers=self._headers, connector=connector, trust_env=False)
        method = "GET" if body is None else "POST"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._http.request(
                method, self._url + path, json=body, timeout=timeout, allow_redirects=False
            ) as answer:
                text = await answer.text()
                is_json = "json" in answer.headers.get("Content-Type", "")
                return answer.status, await answer.json() if is_json and text else text
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return 0, f"{type(error).__name__}: {error}"

    async def ask(self, path: str, body: Mapping[str, Any] | None) -> Any:
        """An answer.

        Raises:
            EndpointError: there is none.
        """
        status, answer = await self.request(path, body, ASKING_TIMEOUT_S)
        if status != 200:
            raise self.no_server(f"{status or ''} {self.said(answer)}".strip())
        return answer

    def said(self, answer: object) -> str:
        """An answer as messages may quote it."""
        return shorten(self._redactor.message(str(answer)))

    def no_server(self, why: str) -> EndpointError:
        """That this is no server to train with, and why."""
        return EndpointError(
            f"engine: no vLLM server answers at {self.shown_url}: {why}",
            "Start one: vllm serve MODEL --enable-lora --max-lora-rank 16, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 "
            "in its environment; or mend engine.url; or let the job start it: engine.command.",
        )

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


class Attempts:
    """Growing pauses between attempts at the same thing, until a deadline.

    Args:
        deadline: in the clock of `time.perf_counter`.
    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._pause = FIRST_PAUSE_S

    @property
    def left_s(self) -> float:
        """Until the deadline; 0 when it has passed."""
        return max(0.0, self._deadline - time.perf_counter())

    def next_pause_s(self) -> float:
        """How long to wait before the next attempt."""
        pause, self._pause = self._pause, min(LONGEST_PAUSE_S, 2 * self._pause)
        return min(pause, self.left_s)
