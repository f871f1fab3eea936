"""Steps per hour of a job whose tools are slow: each step waiting for its rollouts, against rollouts that run ahead.

    python -m benchmarks.asynchrony [--steps 30] [--eta 4] [--groups 3] [--seeds 1] [--threads 1]

A tiny model learns to give the longest of four answers after one call of a tool. The tool's server sleeps, really: 0.2
to 10 s, by a Pareto distribution, of which a call in thirty takes more than 5 s. Both jobs have the same rows, steps,
rollouts and start. Timed is from the first step's beginning to the last one's record; then the result is validated, and
the rewards are compared. The last line on standard output is a JSON object.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from aiohttp import web

from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import VALIDATION, rollouts_file
from benchmarks.harness import machine, report
from tests.job.tiny_job import make_model, write_job

SHORTEST_S, LONGEST_S, SHAPE = 0.2, 10.0, 1.1
EACH, EVAL_SAMPLES = 8, 24
# Of a normal distribution, for an interval of 95 %.
DEVIATIONS = 1.96


class SlowTool:
    """A server on loopback that sleeps before it answers; for how long is drawn anew for each call."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.slept_s: list[float] = []

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_post("/tool", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        _, port = self._runner.addresses[0][:2]
        return f"http://127.0.0.1:{port}/tool"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        seconds = min(LONGEST_S, SHORTEST_S * self._draw.paretovariate(SHAPE))
        self.slept_s.append(seconds)
        await asyncio.sleep(seconds)
        return web.json_response({"type": "function_call_output", "call_id": body["call_id"], "output": "fine"})


class Clock(NoProgress):
    """When training began, and when its last step was recorded."""

    def __init__(self) -> None:
        self.began = self.ended = 0.0

    def phase(self, name: str, step: int, total: int) -> None:
        if (name, step) == ("train", 1):
            self.began = time.perf_counter()

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if phase == "train":
            self.ended = time.perf_counter()
            print(
                f"step {step}: reward {metrics['reward_mean']:.3f}, {metrics['step_s']:.1f} s, "
                f"engine idle {metrics['engine_idle_share']:.0%}, up to {metrics['off_policy_steps']} updates old",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--eta", type=int, default=4, help="updates that rollouts may lack")
    parser.add_argument("--groups", type=int, default=3, help=f"of {EACH} rollouts, in a step")
    parser.add_argument("--seeds", type=int, default=1, help="jobs of each kind")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    on = machine(arguments.threads)
    with tempfile.TemporaryDirectory(prefix="agentrft-bench-") as folder:
        model = make_model(Path(folder) / "model")
        found: dict[int, list[dict[str, Any]]] = {0: [], arguments.eta: []}
        for seed in range(arguments.seeds):
            for eta, runs in found.items():
                print(f"max_off_policy_steps: {eta}, seed {seed}", flush=True)
                runs.append(asyncio.run(_measured(model, Path(folder) / f"{eta}-{seed}", arguments, eta, seed)))
    waiting, ahead = found[0], found[arguments.eta]
    summary = _summary(waiting, ahead)
    report("asynchrony", {"machine": on, "arguments": vars(arguments), "waiting": waiting, "ahead": ahead,
                          "summary": summary})  # fmt: skip


async def _measured(model: Path, folder: Path, arguments: argparse.Namespace, eta: int, seed: int) -> dict[str, Any]:
    clock, tool = Clock(), SlowTool(seed)
    async with tool as url:
        job_file = write_job(
            folder,
            model,
            url,
            seed=seed,
            baseline={"enabled": False},
            warm_start=None,
            tool={"timeout_s": 30.0},
            hyperparameters={
                "max_off_policy_steps": eta,
                "batch_size": arguments.groups,
                "compute_multiplier": EACH / 8,
                "n_epochs": 50,
                "max_steps": arguments.steps,
                "eval_interval": arguments.steps,
                "eval_samples": EVAL_SAMPLES,
            },
        )
        spec = load_job(job_file)
        store, job_id = create_job(spec)
        with store:
            await run_job(spec, store, job_id, progress=clock, stop=Stop())
            return _facts(store, job_id, clock, tool)


def _facts(store: JobStore, job_id: str, clock: Clock, tool: SlowTool) -> dict[str, Any]:
    steps = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    validated = read_rollouts(rollouts_file(store.job_folder(job_id), VALIDATION, steps[-1]["step"]))
    seconds = clock.ended - clock.began
    return {
        "steps": len(steps),
        "seconds": round(seconds, 1),
        "steps_per_hour": round(3600 * len(steps) / seconds, 1),
        "rollouts": sum(row["rollouts"] for row in steps),
        "engine_idle_share": round(statistics.mean(row["engine_idle_share"] for row in steps), 3),
        "update_s": round(statistics.mean(row["update_s"] for row in steps), 3),
        "off_policy_steps": max(row["off_policy_steps"] for row in steps),
        "off_policy_steps_mean": round(statistics.mean(row["off_policy_steps_mean"] for row in steps), 3),
        "groups_too_old": sum(row["groups_too_old"] for row in steps),
        "rollouts_over_update": round(statistics.mean(row["rollouts_over_update"] for row in steps), 1),
        "truncated_ratio_share": round(statistics.mean(row["truncated_ratio_share"] for row in steps), 4),
        "tokens_recomputed": sum(row["tokens_recomputed"] for row in steps),
        "tool_s_mean": round(statistics.mean(tool.slept_s), 2),
        "tool_s_most": round(max(tool.slept_s), 2),
        "rewards_by_step": [round(row["reward_mean"], 4) for row in steps],
        "rewards_at_end": [row["reward"] for row in validated if row["reward"] is not None],
    }


def _summary(waiting: list[dict[str, Any]], ahead: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [statistics.median(run["steps_per_hour"] for run in runs) for runs in (waiting, ahead)]
    rewards = [[reward for run in runs for reward in run["rewards_at_end"]] for runs in (waiting, ahead)]
    means = [statistics.mean(one) for one in rewards]
    interval = DEVIATIONS * sum(statistics.variance(one) / len(one) for one in rewards) ** 0.5
    return {
        "async_ratio": round(rates[1] / rates[0], 2),
        "steps_per_hour_waiting": rates[0],
        "steps_per_hour_ahead": rates[1],
        "off_policy_steps": max(run["off_policy_steps"] for run in ahead),
        "off_policy_steps_mean": round(statistics.mean(run["off_policy_steps_mean"] for run in ahead), 3),
        "groups_too_old": sum(run["groups_too_old"] for run in ahead),
        "engine_idle_share_waiting": round(statistics.mean(run["engine_idle_share"] for run in waiting), 3),
        "engine_idle_share_ahead": round(statistics.mean(run["engine_idle_share"] for run in ahead), 3),
        "reward_at_start": round(statistics.mean(run["rewards_by_step"][0] for run in waiting), 3),
        "reward_waiting": round(means[0], 3),
        "reward_ahead": round(means[1], 3),
        "reward_interval": round(interval, 3),
        "same_reward": abs(means[1] - means[0]) <= interval,
    }


if __name__ == "__main__":
    main()
