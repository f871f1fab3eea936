"""A system's whole run: data, tool server, warm start, training, and its test samples before and after."""

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from agentrft.data import load_samples
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.rollout import Rollout
from agentrft.spec import JobSpec, parse_job
from agentrft.store import JobStore, read_rollouts
from examples.common.measuring import Change, changes
from examples.common.system import ROOT, System


@dataclass(frozen=True)
class Settings:
    """How a system is run.

    Attributes:
        seed: of training and sampling; the data stay the same.
        out: the folder of jobs.
        data: the folder of the data; they are written where they are missing.
        model: in place of the job file's.
        hyperparameters: in place of the job file's, by name.
    """

    seed: int
    out: Path
    data: Path
    difficulty: str = "small"
    model: str | None = None
    hyperparameters: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    job_id: str
    folder: Path
    changes: dict[str, Change]


class Lines(NoProgress):
    """A line for each step, on standard error."""

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if "reward_mean" in metrics:
            print(f"{phase} {step}: reward {metrics['reward_mean']:.3f}", file=sys.stderr, flush=True)

    def message(self, level: str, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


async def run_system(system: System, settings: Settings) -> Outcome:
    """Train it as its job file says, and measure its test samples before and after."""
    if not (settings.data / "test.jsonl").exists():
        system.write_data(settings.data, 0, settings.difficulty)
    with tool_server(system, settings.data) as url:
        spec = job_of(system, settings, url)
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=Lines(), stop=Stop())
    before, after = tested(store, job_id)
    assert spec.test_file is not None
    items = {sample.sample_id: sample.item for sample in load_samples(spec.test_file)}
    return Outcome(job_id, store.job_folder(job_id), changes(system, before, after, items))


def job_of(system: System, settings: Settings, url: str) -> JobSpec:
    """The system's job file, with this run's data, tool server and settings."""
    raw: dict[str, Any] = yaml.safe_load((system.folder / "job.yaml").read_text(encoding="utf-8"))
    for name in ("training_file", "validation_file", "test_file"):
        raw[name] = str((settings.data / Path(raw[name]).name).resolve())
    if "training_file" in raw.get("warm_start", {}):
        raw["warm_start"]["training_file"] = str((settings.data / "demonstrations.jsonl").resolve())
    raw |= {"seed": settings.seed, "output_dir": str(settings.out.resolve())}
    if settings.model is not None:
        raw["model"] = settings.model
    inner = readdressed(raw["method"]["reinforcement"], url)
    inner["hyperparameters"] |= dict(settings.hyperparameters)
    return parse_job(raw, folder=system.folder, source=f"{system.name}/job.yaml")


def tested(store: JobStore, job_id: str) -> tuple[list[Rollout], list[Rollout]]:
    """The rollouts of the test samples, of the model as it began and of the result."""
    steps = [row["step"] for row in store.metrics(job_id) if row["phase"] == "test"]
    paths = [store.job_folder(job_id) / "rollouts" / f"test-{step:05d}.parquet" for step in (steps[0], steps[-1])]
    before, after = ([Rollout.from_dict(row["record"]) for row in read_rollouts(path)] for path in paths)
    return before, after


def readdressed(method: dict[str, Any], url: str) -> dict[str, Any]:
    """A job's method whose tools, and graders that are endpoints, are asked at another server."""
    for part in _parts(method):
        for key in ("server_url", "url"):
            if key in part:
                part[key] = re.sub(r"^http://[^/]+", url, part[key])
    return method


@contextmanager
def tool_server(system: System, data: Path) -> Iterator[str]:
    """The system's tools on a free port of loopback; gives its address, and ends it afterwards."""
    with _server(f"examples.{system.name}.tools", "--data", str(data)) as url:
        yield url


@contextmanager
def grader_server(system: System) -> Iterator[str]:
    """The system's grader as an endpoint, in the same way."""
    with _server("examples.common.grader_server", system.name) as url:
        yield url


@contextmanager
def _server(module: str, *arguments: str) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", module, *arguments, "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield _address(server, module)
    finally:
        server.terminate()
        server.wait()


def _address(server: subprocess.Popen[str], module: str) -> str:
    assert server.stderr is not None
    lines: list[str] = []
    for line in server.stderr:
        lines.append(line)
        if found := re.search(r"http://[0-9.]+:[0-9]+", line):
            # What it says from here on must not fill the pipe.
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return found[0]
    raise SystemExit(f"{module} did not start:\n" + "".join(lines))


def _parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every mapping inside a method: tools, graders, and graders inside graders."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for one in value if isinstance(value, list) else ():
        yield from _parts(one)
