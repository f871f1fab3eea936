"""A vLLM server that is ours to run: started with what the job knows, watched over, started anew, and ended."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agentrft.engine.base import EngineFailure
from agentrft.engine.vllm import Client, LocalHost, Server, ServerProcess, VllmEngine, keeper
from agentrft.engine.vllm.process import server_command, server_environment
from agentrft.errors import EndpointError
from tests.engine.sessions import sampling
from tests.engine.vllm_process import TOKENS

PROGRAM = [sys.executable, str(Path(__file__).with_name("vllm_process.py"))]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "INTERVAL_S", 0.1)


class Running:
    """An engine of one server that it runs itself, and what that recorded."""

    def __init__(self, folder: Path, *options: str, hang_s: float = 60.0) -> None:
        self.record = folder / "record"
        self.told: list[tuple[str, str]] = []
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = server_command(
            [*PROGRAM, "serve", "--record", str(self.record), *options],
            model="/models/tiny",
            served_as="tiny",
            port=port,
            context_tokens=512,
            lora_rank=16,
            dtype="float32",
            sleeps=False,
        )
        self.process = ServerProcess(words, server_environment(lora=True, sleeps=False), folder / "vllm.log")
        url = f"http://127.0.0.1:{port}"
        self.client = Client(url, {})
        server = Server(
            self.client,
            "tiny",
            host=LocalHost(self.process, url),
            hang_s=hang_s,
            notify=lambda *told: self.told.append(told),
        )
        self.engine = VllmEngine([server], "tiny", max_sequences=8)

    @property
    def starts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.record.read_text(encoding="utf-8").splitlines()]

    async def turns(self, count: int, tokens: int) -> list[list[int]]:
        sessions = [await self.engine.open() for _ in range(count)]
        try:
            done = await asyncio.gather(*(one.generate([5], sampling(max_tokens=tokens)) for one in sessions))
        finally:
            for session in sessions:
                session.close()
        return [turn.token_ids for turn in done]


@asynccontextmanager
async def running(folder: Path, *options: str, hang_s: float = 60.0) -> AsyncIterator[Running]:
    made = Running(folder, *options, hang_s=hang_s)
    try:
        await made.engine.prove(temperature=1.0, top_p=1.0, context_tokens=512)
        await made.engine.use_adapter(folder, 1)
        yield made
    finally:
        await made.engine.close()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def until(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_it_is_started_with_what_the_job_knows_and_ends_with_the_engine(tmp_path: Path) -> None:
    async with running(tmp_path, "--max-model-len", "2048", "--max-lora-rank=64") as made:
        assert await made.turns(3, 4) == [(TOKENS * 2)[:4]] * 3
    (start,) = made.starts
    words = start["arguments"]
    assert words[:2] == ["serve", "/models/tiny"]
    for name, value in {"--served-model-name": "tiny", "--dtype": "float32", "--max-model-len": "2048"}.items():
        assert words[words.index(name) + 1] == value and words.count(name) == 1
    assert "--enable-lora" in words and "--max-lora-rank" not in words, "what the command says itself stays"
    assert start["environment"]["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    await until(lambda: not is_alive(start["pid"]))
    assert made.told == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_one_that_ends_in_mid_turn_is_started_anew_and_costs_time_alone(
    tmp_path: Path, number: signal.Signals
) -> None:
    async with running(tmp_path) as made:
        turns = asyncio.create_task(made.turns(4, 40))
        await asyncio.sleep(0.3)
        os.kill(made.starts[0]["pid"], number)
        done = await asyncio.wait_for(turns, 60)
        assert done == [(TOKENS * 14)[:40]] * 4
        # One that was asked to end answers what it is at first.
        await until(lambda: len(made.told) == 2)
        assert len(made.starts) == 2
    (level, text), (_, then) = made.told
    assert level == "warning" and "ended with status" in text and "1 of at most 5 in a row" in text
    assert "answers again after" in then
    await until(lambda: not is_alive(made.starts[1]["pid"]))


@pytest.mark.parametrize("busy", [True, False])
async def test_one_that_hangs_is_started_anew(tmp_path: Path, busy: bool) -> None:
    async with running(tmp_path, hang_s=1.0) as made:
        if not busy:
            os.kill(made.starts[0]["pid"], signal.SIGSTOP)
            await until(lambda: len(made.starts) == 2)
        turns = asyncio.create_task(made.turns(2, 40))
        if busy:
            await asyncio.sleep(0.3)
            os.kill(made.starts[0]["pid"], signal.SIGSTOP)
        assert await asyncio.wait_for(turns, 60) == [(TOKENS * 14)[:40]] * 2
    await until(lambda: not is_alive(made.starts[0]["pid"]))
    assert len(made.starts) == 2
    assert "has not answered for" in made.told[0][1]


async def test_one_that_answers_and_does_not_get_on_is_started_anew(tmp_path: Path) -> None:
    async with running(tmp_path, hang_s=1.0) as made:
        stuck = Path(f"{made.record}.stuck")
        turns = asyncio.create_task(made.turns(2, 40))
        await asyncio.sleep(0.3)
        stuck.touch()
        await until(lambda: bool(made.told))
        stuck.unlink()
        assert await asyncio.wait_for(turns, 60) == [(TOKENS * 14)[:40]] * 2
    assert "has not got on with its work for" in made.told[0][1] and len(made.starts) == 2


async def test_one_that_is_slow_and_gets_on_stays(tmp_path: Path) -> None:
    async with running(tmp_path, hang_s=1.0) as made:
        assert len(await made.turns(2, 120)) == 2
        await asyncio.sleep(1.5)
        assert len(await made.turns(1, 4)) == 1
    assert len(made.starts) == 1 and made.told == []


async def test_a_start_that_fails_is_tried_again_and_not_without_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MOST_RESTARTS", 2)
    async with running(tmp_path, "--dies-at-start", "9") as made:
        os.kill(made.starts[0]["pid"], signal.SIGKILL)
        turns = asyncio.create_task(made.turns(1, 4))
        with pytest.raises(EngineFailure, match="out of memory while it loads") as failure:
            await asyncio.wait_for(turns, 60)
        assert failure.value.kind == "dead" and len(made.starts) == 3
        with pytest.raises(EngineFailure, match="after 2 starts in a row"):
            await made.engine.use_adapter(tmp_path, 2)
    assert [level for level, _ in made.told] == ["warning", "warning", "error"]


async def test_what_went_wrong_before_a_turn_was_answered_counts_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "MOST_RESTARTS", 1)
    async with running(tmp_path) as made:
        for start in range(3):
            os.kill(made.starts[start]["pid"], signal.SIGKILL)
            await until(lambda: len(made.starts) == start + 2)  # noqa: B023  # awaited before the next round
            assert await made.turns(1, 2) == [TOKENS[:2]]


@pytest.mark.parametrize(
    ("command", "said"),
    [(["/nowhere/vllm", "serve"], "/nowhere/vllm cannot be run"), ([*PROGRAM, "serve"], "--record")],
)
async def test_a_command_that_does_not_start_is_told_with_what_it_wrote(
    tmp_path: Path, command: list[str], said: str
) -> None:
    process = ServerProcess([*command, "model"], {}, tmp_path / "vllm.log")
    client = Client("http://127.0.0.1:9", {})
    engine = VllmEngine(
        [Server(client, "tiny", host=LocalHost(process, "http://127.0.0.1:9"))], "tiny", max_sequences=1
    )
    with pytest.raises(EndpointError, match="before it answered") as told:
        await engine.prove(temperature=1.0, top_p=1.0, context_tokens=64)
    assert said in str(told.value) and "engine.command" in told.value.remedy
    await engine.close()


async def test_another_ones_server_is_watched_and_left_alone(tmp_path: Path) -> None:
    record = tmp_path / "record"
    made = Running(tmp_path)
    made.process.begin()
    await until(record.exists)
    other = Server(made.client, "tiny", hang_s=0.5, notify=lambda *told: made.told.append(told))
    engine = VllmEngine([other], "tiny", max_sequences=1)
    await asyncio.sleep(0.5)
    await engine.prove(temperature=1.0, top_p=1.0, context_tokens=64)
    pid = made.starts[0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: len(made.told) == 1)
    os.kill(pid, signal.SIGCONT)
    await until(lambda: len(made.told) == 2)
    assert "has not answered" in made.told[0][1] and "answers again" in made.told[1][1]
    await engine.close()
    assert is_alive(pid) and len(made.starts) == 1
    made.process.kill()
    await until(lambda: not is_alive(pid))


def test_it_ends_with_the_process_that_started_it_however_that_ends(tmp_path: Path) -> None:
    options = ["--record", str(tmp_path / "record"), "--port", "0", "--host", "127.0.0.1"]
    starter = tmp_path / "starter.py"
    starter.write_text(
        textwrap.dedent(
            f"""
            import time
            from pathlib import Path
            from agentrft.engine.vllm.process import ServerProcess
            ServerProcess({[*PROGRAM, "serve", "m", *options]}, {{}}, Path({str(tmp_path / "log")!r})).begin()
            time.sleep(600)
            """
        ),
        encoding="utf-8",
    )
    parent = subprocess.Popen([sys.executable, str(starter)])
    record, deadline = tmp_path / "record", time.monotonic() + 60
    while not (record.exists() and record.read_text(encoding="utf-8")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = json.loads(record.read_text(encoding="utf-8"))["pid"]
    parent.kill()
    parent.wait()
    while is_alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)
