"""A real browser: a page of another origin, on whatever host and port, cannot use a server that takes no key."""

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.server.live import Live, live

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PAGE = Path(__file__).with_name("evil_page.html")
QUIET = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"]
PLANTED = "only-for-the-owner.jsonl"
SENT_TO_READ = ("read", "read_with_credentials", "run_grader_as_json", "read_as_json", "upload")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium; scripts/system.sh installs it")


@dataclass
class Attacker:
    """Serves the page; asked for `/rebind` it becomes the server itself, as a name does whose address was changed.

    Attributes:
        behind: the port that it leads to from then on.
        reported: what the page found.
        taken: what arrived here of requests that the page made.
    """

    behind: int
    target: str = ""
    port: int = 0
    reported: asyncio.Event = field(default_factory=asyncio.Event)
    found: dict[str, Any] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    is_rebound: bool = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            first = head.partition(b"\r\n")[0].decode()
            self.taken.append(first)
            length = int((re.search(rb"content-length: (\d+)", head, re.IGNORECASE) or [b"", b"0"])[1])
            body = await reader.readexactly(length)
            if "/report" in first:
                self.found = json.loads(body)
                self.reported.set()
            if self.is_rebound and "/report" not in first:
                await self._lead_on(head + body, writer)
            else:
                self.is_rebound = self.is_rebound or "/rebind" in first
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n" + self._page())
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def _page(self) -> bytes:
        text = PAGE.read_text().replace("TARGET", self.target)
        return text.replace("REPORT", f"http://127.0.0.1:{self.port}/report").encode()

    async def _lead_on(self, request: bytes, writer: asyncio.StreamWriter) -> None:
        above, below = await asyncio.open_connection("127.0.0.1", self.behind)
        lines = [line for line in request.split(b"\r\n") if not line.lower().startswith(b"connection:")]
        below.write(b"\r\n".join([lines[0], b"Connection: close", *lines[1:]]))
        while part := await above.read(65536):
            writer.write(part)
        below.close()


@asynccontextmanager
async def attacker(behind: int, target: str) -> AsyncIterator[Attacker]:
    one = Attacker(behind)
    listening = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = listening.sockets[0].getsockname()[1]
    one.target = target or f"http://127.0.0.1:{one.port}"
    try:
        yield one
    finally:
        listening.close()


async def visit(url: str, one: Attacker, profile: Path) -> dict[str, Any]:
    """What the page at this address found."""
    browser = subprocess.Popen(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            *QUIET,
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            f"--user-data-dir={profile}",
            url,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(120):
            await one.reported.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()
    return one.found


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    with live(tmp_path_factory.mktemp("browser") / "data", tiny_model) as server:
        server.client().files.create(file=(PLANTED, b"{}\n"), purpose="user_data")
        yield server


def assert_nothing_happened(victim: Live, found: dict[str, Any]) -> None:
    assert found["read"] and all(PLANTED not in str(one) and "tiny" not in str(one) for one in found.values()), found
    assert "sub_rewards" not in json.dumps(found)
    client = victim.client()
    assert [one.filename for one in client.files.list()] == [PLANTED]
    assert client.fine_tuning.jobs.list().data == []
    counted = httpx.get(f"{victim.url.removesuffix('/v1')}/metrics").text
    assert "graders/run" not in counted
    assert float((re.search(r'route="unknown",status="403"} (\S+)', counted) or [0, 0])[1]) > 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "evil.example"])
async def test_a_page_of_another_origin_reads_and_stores_nothing(victim: Live, tmp_path: Path, host: str) -> None:
    async with attacker(victim.port, f"http://127.0.0.1:{victim.port}") as one:
        found = await visit(f"http://{host}:{one.port}/", one, tmp_path / "profile")
    assert found["read"] == found["run_grader_as_json"] == {"type": "error", "status": 0, "text": ""}
    assert found["image"]["text"] == found["script"]["text"] == "error" and found["socket"]["text"] == "refused"
    await asyncio.to_thread(assert_nothing_happened, victim, found)


async def test_a_page_whose_name_leads_to_the_server_reads_and_stores_nothing(victim: Live, tmp_path: Path) -> None:
    async with attacker(victim.port, "") as one:
        one.target = f"http://rebound.example:{one.port}"
        found = await visit(f"http://rebound.example:{one.port}/?rebind", one, tmp_path / "profile")
    # The browser takes all of it for the page's own, and lets it read the answers.
    for name in SENT_TO_READ:
        assert found[name]["status"] == 403 and "host_not_trusted" in found[name]["text"], (name, found[name])
    await asyncio.to_thread(assert_nothing_happened, victim, found)


async def test_the_browser_does_send_what_is_refused(tmp_path: Path) -> None:
    """Else the tests above would prove nothing."""
    async with attacker(0, "") as other, attacker(0, f"http://127.0.0.1:{other.port}") as one:
        await visit(f"http://evil.example:{one.port}/", one, tmp_path / "profile")
    assert other.taken.count("POST /v1/files HTTP/1.1") >= 3
    assert "GET /v1/models HTTP/1.1" in other.taken
    assert "POST /v1/fine_tuning/alpha/graders/run HTTP/1.1" in other.taken
