"""The quickstart's agent, as the benchmarks run it on every side: its data, its warm-started model, its tool server."""

import asyncio
import hashlib
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from benchmarks.harness import ROOT

EXAMPLE = ROOT / "examples" / "medical_coding"
CACHE = ROOT / ".cache" / "benchmarks"
TOOL_PATH = "/tools/search"
_WARM_START_SEED = 0


def job() -> dict[str, Any]:
    """The quickstart's job.yaml, with absolute paths."""
    raw = yaml.safe_load((EXAMPLE / "job.yaml").read_text(encoding="utf-8"))
    raw["training_file"] = str(data_folder() / "train.jsonl")
    raw["validation_file"] = str(data_folder() / "validation.jsonl")
    del raw["test_file"]
    raw["warm_start"]["training_file"] = str(data_folder() / "demonstrations.jsonl")
    reinforcement = raw["method"]["reinforcement"]
    reinforcement["grader"]["source_file"] = str(EXAMPLE / reinforcement["grader"]["source_file"])
    return raw


def agent(url: str, threads: int) -> dict[str, Any]:
    """What every worker is told of the quickstart's agent: its model, data, tool and limits."""
    raw = job()
    reinforcement = raw["method"]["reinforcement"]
    (tool,), hyperparameters = reinforcement["tools"], reinforcement["hyperparameters"]
    return {
        "model": str(warm_started_model()),
        "threads": threads,
        "dtype": "bfloat16",
        "data": raw["training_file"],
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens_per_turn": hyperparameters["max_tokens_per_turn"],
        "max_context_tokens": hyperparameters["max_context_tokens"],
        "max_episode_steps": reinforcement["max_episode_steps"],
        "tool": {
            "name": tool["name"],
            "description": tool["description"],
            "parameters": tool["parameters"],
            "url": url,
        },
    }


def data_folder() -> Path:
    """Where the quickstart's data are; written if they are not there."""
    folder = CACHE / "data"
    if not (folder / "demonstrations.jsonl").is_file():
        subprocess.run([sys.executable, "make_data.py", "--out", str(folder)], cwd=EXAMPLE, check=True)
    return folder


def warm_started_model() -> Path:
    """The folder of the built-in model after the quickstart's warm start, merged, as any library can load it.

    It is trained once and kept; about a minute.
    """
    raw = job()
    files = [Path(raw["warm_start"]["training_file"]), Path(raw["training_file"])]
    told = json.dumps(raw["warm_start"]).encode() + b"".join(file.read_bytes() for file in files)
    folder = CACHE / f"warm-start-{hashlib.sha256(told).hexdigest()[:12]}"
    if not folder.is_dir():
        print("warm-starting the model ...", file=sys.stderr, flush=True)
        asyncio.run(_warm_start(raw, folder))
    return folder


async def _warm_start(raw: dict[str, Any], folder: Path) -> None:
    from agentrft.job import NoProgress, Stop, create_job, resolve_reference, run_job
    from agentrft.job.export import describe_weights, export_merged
    from agentrft.spec import parse_job

    runs = CACHE / "warm-start-runs"
    shutil.rmtree(runs, ignore_errors=True)
    with ToolServer() as url:
        raw["method"]["reinforcement"]["tools"][0]["server_url"] = url
        spec = parse_job({**raw, "seed": _WARM_START_SEED, "output_dir": str(runs)}, folder=EXAMPLE, source="job.yaml")
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop(), warm_start_only=True)
    export_merged(describe_weights(resolve_reference(f"{job_id}@0", store), store), folder)


class ToolServer:
    """The quickstart's search endpoint in a process of its own, each answer held back by `delay_s`.

    Entering it gives the URL of the tool.
    """

    def __init__(self, delay_s: float = 0.0) -> None:
        self._delay_s = delay_s

    def __enter__(self) -> str:
        command = [sys.executable, "-u", "-m", "benchmarks.tool_server", "--delay", str(self._delay_s)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stderr is not None
        said = []
        for line in self._process.stderr:
            said.append(line)
            if found := re.search(r"http://[0-9.]+:[0-9]+", line):
                # What it says from here on must not fill the pipe.
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return found[0] + TOOL_PATH
        raise SystemExit("the tool server did not start:\n" + "".join(said))

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
