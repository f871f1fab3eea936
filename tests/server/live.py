"""A server as users run it: `agentrft serve` in a process of its own, and the stock SDK."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psutil
import yaml
from openai import OpenAI

from agentrft.store import JobStore
from tests.cli.commands import ENVIRONMENT
from tests.cli.forked import Command, Forked
from tests.job.tiny_job import (
    COLOURS,
    GRADER,
    TOOL,
    TRAIN_WORDS,
    VALIDATION_WORDS,
    WORDS,
    demonstration,
    prompt,
    write_rows,
)
from tests.store.databases import database_of

START_S = 60
# Seconds that anything may take which is not about how long it takes: others may need the machine, too.
PATIENCE_S = 900
ENDED = ("succeeded", "failed", "cancelled")
MODEL = "tiny"
WORKER = "agentrft.server.workers.worker"
PYTHON_GRADER = {"type": "python", "name": "length", "source": GRADER, "trusted": True}
# Of a job's `extra_body`: in float32 as everywhere here; four rollouts of each sample in the baseline, which is the
# default, would be most of these jobs' rollouts.
QUICK: dict[str, Any] = {"dtype": "float32", "baseline": {"rollouts_per_sample": 1}}
HYPERPARAMETERS = {
    "batch_size": 2,
    "compute_multiplier": 0.5,
    "max_steps": 3,
    "eval_interval": 1,
    "max_tokens_per_turn": 48,
    "max_context_tokens": 256,
    "lora_rank": 4,
    "learning_rate_multiplier": 5,
}

# As they are to be without torch, it is not imported here either.
FORKED = Forked("agentrft.cli.main", "agentrft.server.app", "agentrft.server.serve")


@dataclass
class Live:
    """A running server.

    Attributes:
        url: with `/v1`.
        first: the data folder of the server whose PostgreSQL database it shares.
        forks: what it is forked from; one of its own where its environment changes how Python starts.
    """

    data_dir: Path
    arguments: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    url: str = ""
    process: psutil.Process | None = None
    first: Path | None = None
    forks: Forked = FORKED
    # Kept open: a server may say more.
    _stdout: TextIO | None = field(default=None, repr=False)

    @property
    def database(self) -> str | None:
        return database_of(self.first or self.data_dir)

    def start(self, port: int = 0) -> "Live":
        database = self.database
        given = ["--database", database] if database else []
        arguments = ["serve", "--port", str(port), "--data-dir", str(self.data_dir), "--allow-code"]
        command = Command([*arguments, *given, *self.arguments], Path.cwd(), {**ENVIRONMENT, **self.environment})
        told, tells = os.pipe()
        with (self.data_dir / "log").open("a") as log:
            self.process = self.forks.start(command, tells, log.fileno())
        os.close(tells)
        self._stdout = os.fdopen(told)
        line = self._stdout.readline()
        assert line.startswith("agentrft serves "), (self.data_dir / "log").read_text()
        self.url = line.split()[-1]
        return self

    @property
    def port(self) -> int:
        return int(self.url.split(":")[2].split("/")[0])

    def kill(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.is_running():
            self.process.terminate()
            self.process.wait(30)

    def client(self, key: str = "none", **options: Any) -> OpenAI:
        return OpenAI(base_url=self.url, api_key=key, **options)


@contextmanager
def live(data_dir: Path, model: Path, *arguments: str, **environment: str) -> Iterator[Live]:
    data_dir.mkdir(parents=True, exist_ok=True)
    (data_dir / "models.yaml").write_text(yaml.safe_dump({MODEL: str(model)}))
    server = Live(data_dir, list(arguments), environment)
    try:
        yield server.start()
    finally:
        server.stop()


def upload(client: OpenAI, folder: Path) -> dict[str, str]:
    """The ids of training, validation and demonstration files."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {
        "train": [{"messages": prompt(word), "word": word} for word in TRAIN_WORDS],
        "validation": [{"messages": prompt(word), "word": word} for word in VALIDATION_WORDS],
        "demonstrations": [
            {"messages": demonstration(word, colour)} for word, colour in zip(WORDS, COLOURS, strict=False)
        ],
    }
    ids = {}
    for name, some in rows.items():
        write_rows(folder / f"{name}.jsonl", some)
        with (folder / f"{name}.jsonl").open("rb") as file:
            made = client.files.create(file=file, purpose="fine-tune")
        ids[name] = client.files.wait_for_processing(made.id, poll_interval=0.1).id
    return ids


def method(tool_url: str, **changes: Any) -> dict[str, Any]:
    """A job in the API's shape."""
    inner = {
        "tools": [{**TOOL, "server_url": tool_url, "timeout_s": 20, "outage_deadline_s": 5}],
        "grader": PYTHON_GRADER,
        "max_episode_steps": 4,
        **changes,
        "hyperparameters": {**HYPERPARAMETERS, **changes.pop("hyperparameters", {})},
    }
    return {"type": "reinforcement", "reinforcement": inner}


def wait_for(client: OpenAI, job_id: str, *statuses: str, timeout_s: float = PATIENCE_S) -> Any:
    """The job, once its status is one of these."""
    deadline = time.monotonic() + timeout_s
    while True:
        job = client.fine_tuning.jobs.retrieve(job_id)
        if job.status in (statuses or ENDED):
            return job
        assert job.status not in ENDED, (job.status, job.error)
        assert time.monotonic() < deadline, job.status
        time.sleep(0.1)


def workers(server: Live) -> list[psutil.Process]:
    """The processes in which a server runs its jobs."""
    assert server.process is not None
    found = []
    for child in psutil.Process(server.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            found += [child] if WORKER in child.cmdline() else []
    return found


def lives(process: psutil.Process) -> bool:
    """Orphans that have ended may stay as zombies, where nobody collects them."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def open_store(server: Live) -> JobStore:
    """The record of the server's jobs, whether it runs or not."""
    return JobStore(server.data_dir / "jobs", database=server.database)


def until(is_so: Callable[[], Any], what: str, *, timeout_s: float = PATIENCE_S) -> Any:
    """The first value that counts as true."""
    deadline = time.monotonic() + timeout_s
    while not (found := is_so()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        time.sleep(0.01)
    return found
