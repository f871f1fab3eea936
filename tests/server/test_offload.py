"""Heavy work: in processes that end when nobody waits for them, a few at a time, and nobody else notices."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from agentrft.server import context as context_module
from agentrft.server.context import Context
from agentrft.server.errors import ApiError
from agentrft.server.models import downloads
from agentrft.server.offload.admission import Admission
from agentrft.server.offload.processes import Launcher, ProcessDied, WorkProcess
from tests.server.live import Live, live, lives, until

ECHO = "tests.server.offload_echo"
LONG = {
    "type": "python",
    "name": "long",
    "trusted": True,
    "source": "import time\ndef grade(sample, item):\n    time.sleep(60)\n    return 1",
}


def below(server: Live, module: str) -> list[psutil.Process]:
    """Processes of a server that run a module."""
    assert server.process is not None
    found = []
    for child in psutil.Process(server.process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            found += [child] if any(module in part for part in child.cmdline()) else []
    return found


@pytest.fixture
async def launcher() -> AsyncIterator[Launcher]:
    one = Launcher()
    yield one
    one.close()


async def test_a_process_answers_line_by_line(launcher: Launcher) -> None:
    process = WorkProcess(launcher, ECHO)
    try:
        assert await process.ask({"say": "ü\n"}, timeout_s=60) == "ü\n"
        assert await process.ask({"say": 2}, timeout_s=60) == 2 and process.lives
    finally:
        await process.close()
    assert not process.lives


async def test_what_it_died_of_is_told_and_the_next_one_is_another(launcher: Launcher) -> None:
    process = WorkProcess(launcher, ECHO)
    with pytest.raises(ProcessDied, match="I die"):
        await process.ask({"die": "I die"}, timeout_s=60)
    try:
        assert await process.ask({"say": 1}, timeout_s=60) == 1
    finally:
        await process.close()


@pytest.mark.parametrize("ends", ["timeout", "cancel"])
async def test_who_stops_waiting_kills_it(launcher: Launcher, ends: str) -> None:
    process = WorkProcess(launcher, ECHO)
    pid = await process.ask({"pid": True}, timeout_s=60)
    asking = asyncio.create_task(process.ask({"sleep": 600}, timeout_s=0.2 if ends == "timeout" else 600))
    await asyncio.sleep(0.1)
    if ends == "cancel":
        asking.cancel()
    with pytest.raises((TimeoutError, asyncio.CancelledError)):
        await asking
    # At once, before anybody has collected it.
    assert not process.lives
    assert await process.ask({"say": 1}, timeout_s=60) == 1
    await process.close()
    until(lambda: not psutil.pid_exists(pid) or not lives(psutil.Process(pid)), "it has ended", timeout_s=30)


async def test_who_comes_when_the_queue_is_full_is_told_when_to_come_again() -> None:
    admission = Admission("merges", max_running=1, max_waiting=1, retry_after_s=7)
    running: list[int] = []
    may_end = asyncio.Event()

    async def work(number: int) -> None:
        async with admission.slot():
            running.append(number)
            await may_end.wait()

    tasks = [asyncio.create_task(work(number)) for number in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(ApiError) as refused:
        await work(2)
    assert refused.value.status == 503 and refused.value.headers == {"Retry-After": "7"}
    # Who hangs up in the queue makes room in it.
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    tasks.append(asyncio.create_task(work(3)))
    await asyncio.sleep(0)
    may_end.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert running == [0, 3] and admission.admitted == 0


def similarity(metric: str, text: str) -> dict[str, Any]:
    grader = {"type": "text_similarity", "name": "s", "input": "{{ sample.output_text }}", "evaluation_metric": metric}
    return {"grader": {**grader, "reference": "{{ item.text }}"}, "model_sample": text, "item": {"text": text}}


@pytest.mark.parametrize(
    ("metric", "text", "is_cut"),
    [("rouge_l", "word other " * 2500, False), ("fuzzy_match", "a" * 400_000, True), ("bleu", "a b " * 99_999, True)],
)
def test_long_texts_are_compared_as_far_as_is_said(server: Live, metric: str, text: str, is_cut: bool) -> None:
    answer = httpx.post(f"{server.url}/fine_tuning/alpha/graders/run", json=similarity(metric, text), timeout=120)
    assert answer.status_code == 200, answer.text
    run = answer.json()
    assert run["reward"] == pytest.approx(1.0)
    assert run["metadata"]["errors"]["truncated_observation_error"] is is_cut


def test_a_sample_that_is_too_long_is_refused(server: Live) -> None:
    run = similarity("rouge_l", "a" * (1024 * 1024 + 1))
    run["item"] = {"text": "a"}
    answer = httpx.post(f"{server.url}/fine_tuning/alpha/graders/run", json=run, timeout=60)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "model_sample"


@pytest.mark.parametrize(
    "source",
    [
        "def grade(s, i): return 1" + "+1" * 60_000,
        "def grade(s, i): return " + "(" * 5_000 + ")" * 5_000,
        "def grade(s, i): return " + "[" * 150 + "]" * 150,
        "import os\nos._exit(3)\ndef grade(s, i): return 1",
    ],
    ids=["sum", "brackets", "lists", "exit"],
)
def test_a_grader_that_nobody_can_compile_is_answered(server: Live, source: str) -> None:
    grader = {"type": "python", "name": "big", "source": source, "trusted": True}
    for path, more in (("validate", {}), ("run", {"model_sample": "x", "item": {}})):
        url = f"{server.url}/fine_tuning/alpha/graders/{path}"
        answer = httpx.post(url, json={"grader": grader, **more}, timeout=120)
        assert answer.status_code in (200, 400), answer.text
    assert httpx.get(f"{server.url.removesuffix('/v1')}/healthz").text == "ok"


async def hang_up_after(url: str, body: dict[str, Any], is_started: Callable[[], Any]) -> None:
    async with httpx.AsyncClient(timeout=120) as client:
        asking = asyncio.create_task(client.post(url, json=body))
        await asyncio.to_thread(until, is_started, "the grader runs")
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking


async def test_hanging_up_ends_the_grader(server: Live) -> None:
    module = "offload.launcher"
    url = f"{server.url}/fine_tuning/alpha/graders/run"
    warm = await asyncio.to_thread(httpx.post, url, json=similarity("cosine", "a"), timeout=120)
    assert warm.status_code == 200
    before = below(server, module)
    assert before
    await hang_up_after(url, {"grader": LONG, "model_sample": "x", "item": {}}, lambda: below(server, "python_worker"))
    await asyncio.to_thread(until, lambda: not below(server, "python_worker"), "the grader has ended", timeout_s=30)
    again = await asyncio.to_thread(httpx.post, url, json=similarity("cosine", "a"), timeout=120)
    assert again.status_code == 200


async def test_a_server_that_is_asked_to_end_does_so_whatever_is_being_graded(tmp_path: Path, tiny_model: Path) -> None:
    with live(tmp_path / "data", tiny_model) as server:
        url = f"{server.url}/fine_tuning/alpha/graders/run"
        async with httpx.AsyncClient(timeout=120) as client:
            body = {"grader": LONG, "model_sample": "x", "item": {}}
            asking = [asyncio.create_task(client.post(url, json=body)) for _ in range(8)]
            await asyncio.to_thread(until, lambda: below(server, "python_worker"), "a grader runs")
            children = below(server, "")
            started = time.monotonic()
            await asyncio.to_thread(server.stop)
            # `stop` waits for 30 s and no longer.
            assert time.monotonic() - started < 31
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        await asyncio.to_thread(until, lambda: not any(map(lives, children)), "its processes have ended", timeout_s=30)


class Request:
    """What downloads use of one: a client that hangs up when it is told to."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}


def context_at(folder: Path) -> Context:
    from agentrft.server.app import create_app
    from agentrft.server.settings import Settings

    return create_app(Settings(folder, max_running_jobs=0)).state.context


async def test_forty_downloads_that_hang_up_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ARCHIVE", ECHO)
    context = context_at(tmp_path)
    requests: list[Any] = [Request() for _ in range(42)]
    working = [asyncio.create_task(downloads.zipped(one, "ft:a", tmp_path / "weights", context)) for one in requests]
    await asyncio.sleep(1)
    refused = [task.exception() for task in working if task.done()]
    assert len(refused) == 42 - 36 and all(isinstance(error, ApiError) for error in refused)
    for one in requests:
        one.gone.set()
    await asyncio.gather(*working, return_exceptions=True)
    assert context.zipping.admitted == 0
    assert list(context.settings.files_dir.glob(".partial-*")) == []
    launcher = context.launcher._process
    assert launcher is not None
    below = psutil.Process(launcher.pid)
    until(lambda: not any(map(lives, below.children())), "all have ended", timeout_s=30)
    context.launcher.close()
    launcher.wait(30)


async def test_a_download_is_packed_sent_and_deleted(tmp_path: Path) -> None:
    context = context_at(tmp_path / "data")
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "adapter.bin").write_bytes(b"weights")
    request: Any = Request()
    response = await downloads.zipped(request, "ft:a", folder, context)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "headers": [], "path": "/"}
    await response(scope, request.receive, send)
    assert sent[0]["status"] == 200 and b"adapter.bin" in b"".join(part.get("body", b"") for part in sent[1:])
    assert list(context.settings.files_dir.glob(".partial-*")) == []


async def test_weights_that_are_being_sent_have_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(context_module.SENDS, "max_running", 1)
    context = context_at(tmp_path / "data")
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "adapter.bin").write_bytes(b"weights")
    requests: list[Any] = [Request() for _ in range(3)]
    unread = await downloads.zipped(requests[0], "ft:a", folder, context)
    with pytest.raises(ApiError) as refused:
        await downloads.zipped(requests[1], "ft:a", folder, context)
    assert refused.value.status == 503
    await unread._held.aclose()
    again = await downloads.zipped(requests[2], "ft:a", folder, context)
    await again._held.aclose()
    assert context.sending.admitted == context.zipping.admitted == 0
    context.launcher.close()
