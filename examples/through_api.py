"""A system trained through the fine-tuning API with the stock OpenAI SDK, by its own tool and grader servers.

    agentrft serve &
    python -m examples.through_api finance --base-url http://127.0.0.1:8000/v1 [--steps 2]

The servers run here and are called by the one that trains, so it needs no code of the system's. The last line on
standard output is one JSON object.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import openai
import yaml

from examples.common.running import grader_server, readdressed, tool_server
from examples.common.system import ROOT, System
from examples.results import NAMES, system_named

ENDED = ("succeeded", "failed", "cancelled")
POLL_S = 2.0


def main() -> None:
    arguments = _arguments()
    system = system_named(arguments.system)
    if not (arguments.data / "test.jsonl").exists():
        system.write_data(arguments.data, 0, arguments.difficulty)
    client = openai.OpenAI(base_url=arguments.base_url, api_key=arguments.api_key)
    with tool_server(system, arguments.data) as tools, grader_server(system) as grader:
        job = _created(client, system, arguments, tools, grader)
        while job.status not in ENDED:
            time.sleep(POLL_S)
            job = client.fine_tuning.jobs.retrieve(job.id)
        for event in reversed(client.fine_tuning.jobs.list_events(job.id, limit=100).data):
            print(event.message, file=sys.stderr)
    print(json.dumps({"job": job.id, "status": job.status, "model": job.fine_tuned_model}), flush=True)
    raise SystemExit(job.status != "succeeded")


def _created(client: openai.OpenAI, system: System, arguments: argparse.Namespace, tools: str, grader: str) -> Any:
    """The system's job file as a request: its files uploaded, its servers' addresses, its grader as an endpoint."""
    raw: dict[str, Any] = yaml.safe_load((system.folder / "job.yaml").read_text(encoding="utf-8"))
    inner = readdressed(raw["method"]["reinforcement"], tools)
    # A server of others runs no code of the system's: what only watches, and is code, stays out.
    if inner["grader"]["type"] == "python":
        inner["grader"] = {"type": "endpoint", "name": "grader", "url": f"{grader}/grade"}
    if arguments.steps is not None:
        inner["hyperparameters"]["max_steps"] = arguments.steps
    files = {name: _uploaded(client, arguments.data / f"{name}.jsonl") for name in ("train", "validation", "test")}
    ours: dict[str, Any] = {"test_file": files["test"]}
    if "warm_start" in raw:
        ours["warm_start"] = dict(raw["warm_start"])
        if "training_file" in ours["warm_start"]:
            ours["warm_start"]["training_file"] = _uploaded(client, arguments.data / "demonstrations.jsonl")
    # The SDK's types know neither tools nor endpoint graders.
    method: Any = {"type": "reinforcement", "reinforcement": inner}
    return client.fine_tuning.jobs.create(
        model=arguments.model or raw["model"],
        training_file=files["train"],
        validation_file=files["validation"],
        seed=arguments.seed,
        method=method,
        extra_body=ours,
    )


def _uploaded(client: openai.OpenAI, path: Path) -> str:
    with path.open("rb") as file:
        return client.files.wait_for_processing(client.files.create(file=file, purpose="fine-tune").id).id


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=NAMES)
    parser.add_argument("--base-url", default="http://127.0.0.1:8000/v1")
    parser.add_argument("--api-key", default="none")
    parser.add_argument("--model", help="in place of the job file's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, help="fewer or more updates than the job file says")
    parser.add_argument("--difficulty", default="small")
    parser.add_argument("--data", type=Path, help="folder of the data, written where they are missing")
    arguments = parser.parse_args()
    name = f"{arguments.system}-{arguments.difficulty}"
    arguments.data = arguments.data or ROOT / "build" / "results" / "data" / name
    return arguments


if __name__ == "__main__":
    main()
