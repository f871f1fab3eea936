"""Plans beside what steps took: published ones of others, and a short job of our own on this machine.

    python -m benchmarks.plan [--steps 2] [--threads 2] [--groups 8] [--public] [--out FOLDER] [--ran FILE]

Published steps are in `public_runs.py`, each with its source; the plan is to be within a factor of 1.5 of the three
main ones. Our own job is some steps of the quickstart's task: the machine's rates are measured for some seconds before
and after each step, with all else that it does, and lengths are those that its rollouts had. Its memory is to be within
15 % and its steps within 25 %, by the wall's clock and by processor time, which other work leaves alone. The last line
on standard output is one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from agentrft.models.memory import device_memory
from agentrft.planning.against import Took, as_it_was, planned_took, took
from agentrft.planning.hardware import Device
from agentrft.planning.model import planned_model
from agentrft.planning.splits import Cluster, Split, plan_split
from agentrft.planning.workload import Workload
from benchmarks.agent import job
from benchmarks.harness import ROOT, machine, report
from benchmarks.plan_public import FACTOR, compared

MEMORY_TOLERANCE = 0.15
TIME_TOLERANCE = 0.25
MODEL = "smollm2-135m"
TOLD = (
    "memory_ratio",
    "memory_within",
    "time_ratio",
    "time_within",
    "processor_time_ratio",
    "processor_time_within",
)
PARTS = ("step_s", "rollout_s", "engine_s", "update_s", "publish_s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2, help="of our own job")
    parser.add_argument("--groups", type=int, default=8, help="samples of a step")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--public", action="store_true", help="published steps alone")
    parser.add_argument("--out", type=Path, help="folder of our own job; else a temporary one")
    parser.add_argument("--ran", type=Path, help="what `benchmarks.ours.plan_job` wrote, instead of running it")
    arguments = parser.parse_args()
    public = compared()
    for row in public:
        apart = f"{row['planned_over_measured']:.2f} of it"
        print(f"{row['name']}: {row['measured_s']} s, planned {row['planned_s']} s, {apart}", flush=True)
    result: dict[str, Any] = {"public": public}
    summary = _of_public(public)
    if not arguments.public:
        ran = json.loads(arguments.ran.read_text().splitlines()[-1]) if arguments.ran else _ran(arguments)
        own = own_run(ran, threads=arguments.threads)
        print(json.dumps(own, indent=1), flush=True)
        result |= {"machine": machine(arguments.threads), "own": own}
        summary |= {f"own_{name}": own[name] for name in TOLD}
        summary["loaded"] = own["load_average"]
    report("plan", {**result, "summary": summary})


def _of_public(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    main_ones = [row for row in rows if row["main"]]
    return {
        "factor": FACTOR,
        "main_within": sum(row["within"] for row in main_ones),
        "main": {row["name"]: row["planned_over_measured"] for row in main_ones},
        "all_within": sum(row["within"] for row in rows),
        "all": len(rows),
        "worst_factor": max(row["factor"] for row in rows),
    }


def _ran(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="agentrft-bench-") as temporary:
        folder = arguments.out or Path(temporary)
        command = [sys.executable, "-m", "benchmarks.ours.plan_job", str(folder), str(arguments.steps)]
        threads = str(arguments.threads)
        ended = subprocess.run(
            [*command, threads, str(arguments.groups)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": threads},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return json.loads(ended.stdout.splitlines()[-1])


def own_run(ran: Mapping[str, Any], *, threads: int) -> dict[str, Any]:
    """What a run of `plan_job` took beside its plan, at the rates that the machine had around each step: by the wall's
    clock, and by the processor time of the job alone, in which other work does not count.
    """
    rows = [row for row in ran["metrics"] if row["phase"] == "train"]
    wall = [_planned(ran, number, "wall") for number in range(len(rows))]
    processor = [_planned(ran, number, "processor") for number in range(len(rows))]
    measured = took(rows, rented=1, gpu_hour=0.0)
    means = {name: sum(getattr(one, name) for one, _ in wall) / len(wall) for name in PARTS}
    largest = max((parts for _, parts in wall), key=lambda parts: sum(parts.values()))
    # While tools and graders are waited for nothing is computed.
    busy_s = [one.engine_s + one.update_s + one.publish_s for one, _ in processor]
    time_ratio = means["step_s"] / measured.step_s
    processor_ratio = sum(busy_s) / sum(ran["processor_s"])
    memory_ratio = sum(largest.values()) / ran["peak_bytes"]
    return {
        "model": MODEL,
        "threads": threads,
        "load_average": [round(value, 1) for value in ran["load_average"]],
        "rates": ran["rates"],
        "planned": means,
        "measured": {name: getattr(measured, name) for name in PARTS},
        "steps_wall_s": [row["step_s"] for row in rows],
        "steps_wall_planned_s": [one.step_s for one, _ in wall],
        "time_ratio": round(time_ratio, 3),
        "time_within": abs(time_ratio - 1) <= TIME_TOLERANCE,
        "steps_processor_s": ran["processor_s"],
        "steps_processor_planned_s": busy_s,
        "processor_time_ratio": round(processor_ratio, 3),
        "processor_time_within": abs(processor_ratio - 1) <= TIME_TOLERANCE,
        "planned_bytes": largest,
        "peak_bytes": ran["peak_bytes"],
        "memory_ratio": round(memory_ratio, 3),
        "memory_within": abs(memory_ratio - 1) <= MEMORY_TOLERANCE,
    }


def _planned(ran: Mapping[str, Any], number: int, clock: str) -> tuple[Took, dict[str, int]]:
    """The plan of a step with the lengths that it had, and its memory by part."""
    row = [row for row in ran["metrics"] if row["phase"] == "train"][number]
    itemsize = ran["itemsize"]
    dtype = torch.bfloat16 if itemsize == torch.bfloat16.itemsize else torch.float32
    model = planned_model(MODEL, None, dtype=dtype, lora_rank=16)
    around = ran["rates"][number : number + 2]
    rates = {name: sum(one[f"{clock}_{name}"] for one in around) / len(around) for name in ("flops", "bandwidth")}
    device = Device(
        "this machine",
        memory=device_memory(torch.device("cpu")),
        bandwidth=rates["bandwidth"],
        flops=rates["flops"],
        link=1.0,
        network=1.0,
        itemsize=itemsize,
        is_cpu=True,
        measured=True,
    )
    work = as_it_was(_step(), [row])
    one = plan_split(model, work, Cluster(device), Split("embedded", 1, 1, 1, shared=True), gpu_hour=0.0)
    return planned_took(work, one, gpu_hour=0.0), one.memory[0].parts


def _step() -> Workload:
    """The job's limits; how long its rollouts were is read from its steps."""
    inner = job()["method"]["reinforcement"]
    limits = inner["hyperparameters"]
    return Workload(
        groups=limits["batch_size"],
        rollouts_per_group=8,
        prompt_tokens=1,
        turns=1,
        turn_tokens=1,
        result_tokens=0,
        most_sampled=inner["max_episode_steps"] * limits["max_tokens_per_turn"],
        context_tokens=limits["max_context_tokens"],
    )


if __name__ == "__main__":
    main()
