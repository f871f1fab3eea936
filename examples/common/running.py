"""A system's whole run: data, tool server, warm start, training, and its test samples before and after."""

import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from agentrft.data import load_samples
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
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
        told = {"loss": ".3f", "reward_mean": ".3f", "tool_calls_mean": ".2f", "step_s": ".0f"}
        shown = [f"{name} {metrics[name]:{form}}" for name, form in told.items() if metrics.get(name) is not None]
        print(f"{phase} {step}: {', '.join(shown)}", file=sys.stderr, flush=True)

    def message(self, level: str, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


async def run_system(system: System, settings: Settings) -> Outcome:
    """Train it as its job file says, and measure its test samples before and after.

    A run that was interrupted goes on where it was, if the settings are the same.
    """
    if not (settings.data / "test.jsonl").exists():
        system.write_data(settings.data, 0, settings.difficulty)
    begun = settings.out / f"{system.name}-seed-{settings.seed}.json"
    earlier = _begun(begun, settings)
    # The job's tools are where they were.
    with tool_server(system, settings.data, port=0 if earlier is None else earlier["port"]) as url:
        if earlier is None:
            spec = job_of(system, settings, url)
            store, job_id = create_job(spec)
            known = {"job": job_id, "port": int(url.rpartition(":")[2]), "settings": _told(settings)}
            begun.write_text(json.dumps(known), encoding="utf-8")
        else:
            store, job_id = JobStore(settings.out), str(earlier["job"])
            print(f"{job_id} goes on", file=sys.stderr, flush=True)
            resumed = resume_job(store, job_id)
            assert isinstance(resumed, JobSpec)
            spec = resumed
        await run_job(spec, store, job_id, progress=Lines(), stop=Stop())
    begun.unlink()
    before, after = tested(store, job_id)
    assert spec.test_file is not None
    items = {sample.sample_id: sample.item for sample in load_samples(spec.test_file)}
    return Outcome(job_id, store.job_folder(job_id), changes(system, before, after, items))


def _begun(path: Path, settings: Settings) -> dict[str, Any] | None:
    """The job and the port of a run with these settings that has not ended."""
    if not path.exists():
        return None
    known = json.loads(path.read_text(encoding="utf-8"))
    return known if known["settings"] == _told(settings) else None


def _told(settings: Settings) -> Any:
    """As JSON gives them back."""
    return json.loads(json.dumps(asdict(settings), default=str))


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
def tool_server(system: System, data: Path, *, port: int = 0) -> Iterator[str]:
    """The system's tools on loopback, on a free port unless one is given; gives its address, and ends it afterwards."""
    with _server(f"examples.{system.name}.tools", "--data", str(data), port=port) as url:
        yield url


@contextmanager
def grader_server(system: System) -> Iterator[str]:
    """The system's grader as an endpoint, in the same way."""
    with _server("examples.common.grader_server", system.name) as url:
        yield url


@contextmanager
def _server(module: str, *arguments: str, port: int = 0) -> Iterator[str]:
    command = [sys.executable, "-u", "-m", module, *arguments, "--port", str(port)]
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
