"""Training the quickstart's agent from one warm-started model to a fixed validation reward: a job of ours, and TRL.

    python -m benchmarks.train [--rounds 5] [--target 0.26]

Both sides see the same samples in the same order, with the same number of rollouts, LoRA, loss and learning-rate
schedule. After every step the clock stops, and the adapter is validated by one evaluator for both sides. A side is done
at the first step whose validation reward reaches the target. The last line on standard output is a JSON object: how
many times longer TRL trained, and how much memory ours took at its peak for each byte of TRL's.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentrft.job.schedule import samples_of_step
from benchmarks.agent import EXAMPLE, ToolServer, agent, job
from benchmarks.harness import OURS, ROOT, Worker, machine, median_of, report

SAMPLES, ROLLOUTS, LORA_RANK = 8, 8, 16
# Three times the quickstart's, for both sides: a step of the peer takes minutes.
LEARNING_RATE = 1e-3
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.train"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.train"),
}


def configuration(url: str, threads: int, seed: int, steps: int) -> dict[str, Any]:
    """The quickstart's own limits, data and tool; `order` lists the rows of each step."""
    common = agent(url, threads)
    rows = range(len(Path(common["data"]).read_text(encoding="utf-8").splitlines()))
    steps_of = (samples_of_step(rows, batch_size=SAMPLES, seed=seed, step=step) for step in range(1, steps + 1))
    return {
        **common,
        "grader": str(EXAMPLE / "grader.py"),
        "order": list(steps_of),
        "rollouts_per_sample": ROLLOUTS,
        "lora_rank": LORA_RANK,
        "learning_rate": LEARNING_RATE,
        "warm_up_steps": 2,
        "decay_steps": steps,
        "max_grad_norm": 1.0,
    }


class Judge:
    """The validation reward of adapters, by one worker for all sides."""

    def __init__(self, worker: Worker, link: Path) -> None:
        self._worker = worker
        self._link = link

    def reward(self, adapter: str | None) -> float:
        """Of an adapter's folder; None is the warm-started model."""
        self._link.unlink(missing_ok=True)
        if adapter is not None:
            self._link.symlink_to(adapter)
        return self._worker.run(0)["reward"]


def trained(
    side: str, config: dict[str, Any], seed: int, judge: Judge, target: float, most_steps: int
) -> dict[str, Any]:
    """One training of one side, until the target or the last step; `reached` says whether it got there."""
    steps: list[dict[str, Any]] = []

    def go_on(told: dict[str, Any]) -> bool:
        told["validation_reward"] = judge.reward(told["adapter"])
        shutil.rmtree(told.pop("adapter"))
        steps.append(told)
        shown = f"reward {told['reward']:.3f}, validation {told['validation_reward']:.3f}, {told['seconds']:.0f} s"
        print(f"seed {seed}  {side:<9} step {told['step']}: {shown}", file=sys.stderr, flush=True)
        return told["validation_reward"] < target and len(steps) < most_steps

    with Worker(*SIDES[side], config) as worker:
        worker.train(seed, go_on)
        versions = worker.versions
    last = steps[-1]
    return {
        "seed": seed,
        "reached": last["validation_reward"] >= target,
        "seconds": last["seconds"],
        "peak_rss_mb": last["peak_rss_mb"],
        "versions": versions,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target", type=float, default=0.26, help="validation reward at which the clock stops")
    parser.add_argument("--steps", type=int, default=20, help="that the learning rate falls over, for both sides")
    parser.add_argument(
        "--most-steps", type=int, default=6, help="a side that is not there by then counts with all of them"
    )
    parser.add_argument("--validation-rollouts", type=int, default=2, help="of each of the 120 validation samples")
    arguments = parser.parse_args()
    on = machine(arguments.threads)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder, ToolServer() as url:
        link = Path(folder, "adapter")
        common = configuration(url, arguments.threads, 0, arguments.steps)
        validating = {
            **common,
            "adapter": str(link),
            "validation_data": job()["validation_file"],
            "validation_rollouts": arguments.validation_rollouts,
        }
        with Worker(OURS, "benchmarks.ours.validate", validating) as evaluator:
            judge = Judge(evaluator, link)
            start = judge.reward(None)
            print(f"warm start: validation {start:.3f}", file=sys.stderr, flush=True)
            for seed in range(arguments.rounds):
                config = configuration(url, arguments.threads, seed, arguments.steps)
                for side in SIDES:
                    runs[side].append(trained(side, config, seed, judge, arguments.target, arguments.most_steps))
                # After every pair, because all of them take hours.
                told = {"target": arguments.target, "most_steps": arguments.most_steps, "warm_start_reward": start}
                conclude({"machine": on, **told}, runs)


def conclude(told: dict[str, Any], runs: dict[str, list[dict[str, Any]]]) -> None:
    """Print and keep what the pairs so far say."""
    seconds = {side: median_of(of_side, "seconds") for side, of_side in runs.items()}
    memory = {side: median_of(of_side, "peak_rss_mb") for side, of_side in runs.items()}
    for side, of_side in runs.items():
        reached = sum(run["reached"] for run in of_side)
        print(
            f"{side}: {seconds[side]:.0f} s, {memory[side]:.0f} MB, reached in {reached} of {len(of_side)}", flush=True
        )
    summary = {
        "pairs": len(runs["trl"]),
        "time_ratio_vs_trl": round(seconds["trl"] / seconds["agentrft"], 2),
        "memory_ratio_vs_trl": round(memory["agentrft"] / memory["trl"], 3),
    }
    report("train", {**told, "seconds": seconds, "peak_rss_mb": memory, "runs": runs, "summary": summary})


if __name__ == "__main__":
    main()
