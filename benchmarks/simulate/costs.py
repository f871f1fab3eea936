"""What a rollout costs the job's own process, measured: real code, real HTTP on loopback, real tokens, a real database.

One rollout at a time is run by the real loop against `far_side.py` in a process of its own, and kept as a job keeps it.
Seconds are those of this thread's processor, but for commits, for which the loop waits.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from transformers import AutoTokenizer

from agentrft.chat import ChatCodec, load_codec
from agentrft.chat.hermes import write_call
from agentrft.data import Sample
from agentrft.engine.vllm import Client, Server
from agentrft.engine.vllm.engine import VllmEngine
from agentrft.graders import create_grader
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.report.summary import summarise
from agentrft.rollout import Rollout, RolloutLimits, RolloutRunner, RolloutTask
from agentrft.spec import HttpToolSpec
from agentrft.spec.graders import StringCheckGraderSpec
from agentrft.store import JobStore, rollout_row, write_rollouts
from agentrft.tools import HttpTool, Toolbox
from benchmarks.harness import ROOT
from benchmarks.simulate.work import Work

MODEL = "smollm2-135m"
ANSWER = "forty-two"
THOUGHT = "The patient came in with a fever, so the next thing to look at is what the records say about it. "
TOOL = {
    "name": "lookup",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
# So many characters a token, in text like the above.
CHARACTERS = 4.4


@dataclass(frozen=True)
class Costs:
    """Seconds of the driver, the process in which a job's rollouts run.

    Attributes:
        turn_s: of a turn: the request with its context, the answer with its log-probabilities, and the chat template.
        call_s: of a tool call.
        look_s: of a small request, such as one for a server's health.
        record_s: of a rollout that ended, until it is in the database, without waiting for the disk.
        disk_s: for which the commit waits for the disk.
        step_s: of a rollout when its step is summarised, written and committed.
        record_bytes: of a rollout in the database.
        file_bytes: of a rollout in its step's file.
    """

    turn_s: float
    call_s: float
    look_s: float
    record_s: float
    disk_s: float
    step_s: float
    record_bytes: float
    file_bytes: float

    def rollout_s(self, work: Work) -> float:
        """Of a whole rollout."""
        turns = (work.mean_calls + 1) * self.turn_s
        return turns + work.mean_calls * self.call_s + self.record_s + self.disk_s + self.step_s

    def without(self, simulated_s: float, work: Work) -> "Costs":
        """But for what the simulated rollout takes itself, which the simulation counts as it goes."""
        return replace(self, turn_s=max(0.0, self.turn_s - simulated_s / (work.mean_calls + 1)))

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


FREE = Costs(0, 0, 0, 0, 0, 0, 0, 0)


class FarSide:
    """The servers; entering gives their URL."""

    def __init__(self, turns: list[list[int]], result_characters: int) -> None:
        self._told = {"model": MODEL, "turns": turns, "result_characters": result_characters}

    def __enter__(self) -> str:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.simulate.far_side"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._told) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the servers of benchmarks.simulate.far_side did not start; run it by hand to see why")
        return f"http://127.0.0.1:{int(line)}"

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()


class Spent:
    """Processor seconds of this thread, by part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def on(self, part: str) -> Iterator[None]:
        began = time.thread_time()
        try:
            yield
        finally:
            self.seconds[part] += time.thread_time() - began


class TimedTool(HttpTool):
    """Says what its calls cost; nothing else may run meanwhile."""

    def __init__(self, spec: HttpToolSpec, spent: Spent) -> None:
        super().__init__(spec)
        self._spent = spent

    async def call(self, *call: Any, **about: Any) -> Any:
        with self._spent.on("calls"):
            return await super().call(*call, **about)


def measure(work: Work, rollouts: int = 24) -> Costs:
    """What rollouts of the mean length cost on this machine."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model(MODEL)))
    turns = _turns(tokenizer, work)
    with FarSide(turns, round(CHARACTERS * work.result_tokens)) as url, tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_measured(url, load_codec(tokenizer, MODEL), work, turns, rollouts, Path(folder)))


def _turns(tokenizer: Any, work: Work) -> list[list[int]]:
    """The ids of a rollout's turns, of which the last one answers."""
    thought = (THOUGHT * (round(work.mean_turn_tokens) // 16)).strip()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    call = f"{thought}\n{write_call('lookup', {'word': 'fever'})}"
    texts = [call] * round(work.mean_calls) + [f"{thought} {ANSWER}"]
    return [[*tokenizer.encode(text, add_special_tokens=False), end] for text in texts]


async def _measured(
    url: str, codec: ChatCodec, work: Work, turns: list[list[int]], rollouts: int, folder: Path
) -> Costs:
    spent, server = Spent(), Server(Client(url, {}), MODEL)
    engine = VllmEngine([server], MODEL, max_sequences=1)
    toolbox = Toolbox()
    spec = HttpToolSpec.model_validate({**TOOL, "server_url": f"{url}/tool"})
    toolbox.add(TimedTool(spec, spent), spec)
    grader = StringCheckGraderSpec(
        type="string_check", input="{{ sample.output_text }}", reference="{{ item.answer }}", operation="ilike"
    )
    limits = RolloutLimits(work.most_turns, work.most_turn_tokens, max_context_tokens=10**6, turn_timeout_s=60)
    runner = RolloutRunner(codec=codec, toolbox=toolbox, grader=create_grader(grader), limits=limits)
    prompt = (THOUGHT * (work.prompt_tokens // 16)).strip()
    sample = Sample("00001-abc", [{"role": "user", "content": prompt}], item={"answer": ANSWER})
    ended: list[Rollout] = []
    # The first ones warm up, and are not counted.
    for number in range(-2, rollouts):
        task = RolloutTask(sample, 1, number, temperature=1.0, top_p=1.0, seed=0, policy_version=0)
        session = await engine.open()
        with spent.on("rollouts" if number >= 0 else "warming up"):
            rollout = await runner.run(task, session)
        session.close()
        if rollout.outcome != "graded" or len(rollout.turns) != len(turns):
            raise SystemExit(f"a rollout went wrong: {rollout.failure_kind}: {rollout.failure_message}")
        if number >= 0:
            ended.append(rollout)
        else:
            del spent.seconds["calls"]
    for _ in range(10 * rollouts):
        with spent.on("looks"):
            await server.client.request("/health", None, 10.0)
    await engine.close()
    await toolbox.close()
    _kept(ended, Spent(), folder / "warming up")
    waited_s, record_bytes, file_bytes = _kept(ended, spent, folder / "kept")
    calls = rollouts * (len(turns) - 1)
    of_turns = spent.seconds["rollouts"] - spent.seconds["calls"]
    # Turns here are a whole number, of about the mean length; what they cost goes with their tokens.
    scale = work.mean_turn_tokens * rollouts / sum(one.sampled_tokens / len(turns) for one in ended)
    return Costs(
        turn_s=scale * of_turns / (rollouts * len(turns)),
        call_s=spent.seconds["calls"] / calls,
        look_s=spent.seconds["looks"] / (10 * rollouts),
        record_s=spent.seconds["records"] / rollouts,
        disk_s=max(0.0, waited_s - spent.seconds["records"]) / rollouts,
        step_s=spent.seconds["steps"] / rollouts,
        record_bytes=record_bytes / rollouts,
        file_bytes=file_bytes / rollouts,
    )


def _kept(ended: list[Rollout], spent: Spent, folder: Path) -> tuple[float, int, int]:
    """Keep rollouts as a job does; wall-clock seconds of the commits, and bytes in the database and in the file."""
    record_bytes, path = 0, folder / "rollouts.parquet"
    with JobStore(folder) as store:
        job_id = store.create_job({}, model=MODEL, seed=0)
        began = time.perf_counter()
        for number, rollout in enumerate(ended):
            with spent.on("records"):
                store.add_pending_rollout(job_id, "train", 1, f"{number}", rollout.as_dict())
        waited_s = time.perf_counter() - began
        for payload in store.pending_rollouts(job_id, "train", 1).values():
            record_bytes += len(json.dumps(payload))
        with spent.on("steps"):
            metrics = summarise(ended).as_dict()
            write_rollouts(path, [rollout_row(rollout.as_dict(), phase="train") for rollout in ended])
            store.commit_step(job_id, "train", 1, metrics)
    # Each in a file of its own: those here are so much alike that one file of all would be far smaller.
    file_bytes = 0
    for rollout in ended[:4]:
        write_rollouts(path, [rollout_row(rollout.as_dict(), phase="train")])
        file_bytes += path.stat().st_size
    return waited_s, record_bytes, len(ended) * file_bytes // len(ended[:4])
