"""Rollouts per second with 1, 2 and 4 rollout workers, each with the same number of rollouts at once.

    python -m benchmarks.rollout_workers [--workers 1 2 4] [--each 16] [--rounds 8] [--delay 0.5]

A tiny model calls one tool, whose server sleeps for half a second, and answers. Every worker has `--each` rollouts at
once, so that with as much of everything else N workers would do N times as many a second as one: `linear_share_4` is
what share of that four of them reach. The engine of all is the one of the job's process, as are the limits of the tool,
and all of them have the same cores. Before each measurement a round is rolled out that is not counted. 0 workers is the
job's own process with `--each` rollouts. The last line on standard output is a JSON object.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from agentrft.job import NoProgress, Stop
from agentrft.job.collect import Collector
from agentrft.job.runtime import Runtime
from agentrft.job.tasks import rollout_tasks
from agentrft.rollout import Rollout
from agentrft.spec import load_job
from benchmarks.harness import machine, report
from tests.job.tiny_job import make_model, write_job
from tests.traffic.chaos_server import ChaosServer, ok


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2, 4])
    parser.add_argument("--each", type=int, default=16, help="rollouts at once for each worker")
    parser.add_argument("--rounds", type=int, default=8, help="as many times --each rollouts are counted")
    parser.add_argument("--delay", type=float, default=0.5, help="of the tool, in seconds")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on = machine(arguments.threads)
    found: dict[int, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="agentrft-bench-") as folder:
        model = make_model(Path(folder) / "model")
        for workers in arguments.workers:
            found[workers] = asyncio.run(_measured(model, Path(folder) / str(workers), arguments, workers))
            print(f"{workers} workers: {found[workers]}", flush=True)
    summary: dict[str, Any] = {f"rollouts_per_s_{count}": one["rollouts_per_s"] for count, one in found.items()}
    if 1 in found:
        alone = found[1]["rollouts_per_s"]
        for count in (count for count in found if count > 1):
            summary[f"linear_share_{count}"] = round(found[count]["rollouts_per_s"] / (count * alone), 3)
    report("cluster", {"machine": on, "arguments": vars(arguments), "measured": found, "summary": summary})


async def _measured(model: Path, folder: Path, arguments: argparse.Namespace, workers: int) -> dict[str, Any]:
    at_once = arguments.each * max(1, workers)
    async with ChaosServer(default=ok(delay_s=arguments.delay)) as server:
        job_file = write_job(
            folder,
            model,
            server.url,
            tool={"timeout_s": 30.0, "max_concurrency": 2 * at_once},
            engine={"max_concurrent_rollouts": at_once},
            cluster={"rollout_workers": workers},
        )
        runtime = Runtime(load_job(job_file))
        try:
            started = time.perf_counter()
            await runtime.probe()
            start_s = time.perf_counter() - started
            await runtime.publish_policy()
            await _roll_out(runtime, at_once, step=1)
            called = len(server.received)
            started = time.perf_counter()
            rollouts = await _roll_out(runtime, at_once * arguments.rounds, step=2)
            seconds = time.perf_counter() - started
        finally:
            await runtime.close()
        outcomes = Counter(rollout.outcome for rollout in rollouts)
        assert outcomes["infra_failed"] == 0, outcomes
        return {
            "rollouts": len(rollouts),
            "seconds": round(seconds, 2),
            "rollouts_per_s": round(len(rollouts) / seconds, 2),
            "calls": len(server.received) - called,
            "most_calls_at_once": server.max_in_flight,
            "start_s": round(start_s, 1),
        }


async def _roll_out(runtime: Runtime, count: int, *, step: int) -> list[Rollout]:
    tasks = rollout_tasks(
        runtime.train,
        step=step,
        rollouts_per_sample=-(-count // len(runtime.train)),
        temperature=1.0,
        top_p=1.0,
        seed=step,
        policy_version=0,
    )
    return await Collector(runtime, progress=NoProgress(), stop=Stop()).collect("eval", step, tasks[:count])


if __name__ == "__main__":
    main()
