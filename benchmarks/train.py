"""Training the quickstart's agent from one warm-started model to a fixed validation reward: a job of ours, and TRL.

    python -m benchmarks.train [--rounds 5] [--target 0.26] [--search]
    python -m benchmarks.train --agentrft minibatches=4 --trl minibatches=2,learning_rate=5e-4

Both sides see the same samples in the same order, with the same number of rollouts, LoRA, loss and form of the
learning rate's schedule. Each makes of a step's rollouts what is best for it: `--search` trains it with each of a few
settings on seeds that are not measured, and takes the one that is fastest to the target. After every step the clock
stops, and the adapter is validated by one evaluator for both sides. A side is done at the first step whose validation
reward reaches the target. The last line on standard output is a JSON object: how many times longer TRL trained, and how
much memory ours took at its peak for each byte of TRL's.
"""

import argparse
import math
import shutil
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agentrft.job.schedule import samples_of_step
from benchmarks.agent import EXAMPLE, ToolServer, agent, job
from benchmarks.harness import OURS, ROOT, Worker, machine, median_of, report

SAMPLES, ROLLOUTS, LORA_RANK = 8, 8, 16
SEARCH_SEED = 100
SIDES = {
    "agentrft": (OURS, "benchmarks.ours.train"),
    "trl": (ROOT / ".venv-peer-trl" / "bin" / "python", "benchmarks.peers.trl.train"),
}


@dataclass(frozen=True)
class Settings:
    """What a side makes of a step's rollouts.

    Attributes:
        minibatches: optimizer steps that the rollouts of a step are dealt out to.
        update_epochs: how often over; TRL's `num_iterations`.
        learning_rate: of AdamW at its highest. The first is three times the quickstart's, because a step of TRL's takes
            minutes.
    """

    minibatches: int = 1
    update_epochs: int = 1
    learning_rate: float = 1e-3

    @classmethod
    def parsed(cls, text: str) -> "Settings":
        """Of `minibatches=4,learning_rate=5e-4`."""
        pairs = (pair.partition("=")[::2] for pair in text.split(","))
        kinds = {"minibatches": int, "update_epochs": int, "learning_rate": float}
        return cls(**{name: kinds[name](value) for name, value in pairs})


SEARCHED = (Settings(), Settings(minibatches=2), Settings(minibatches=4), Settings(update_epochs=2))


def configuration(url: str, threads: int, seed: int, steps: int, settings: Settings) -> dict[str, Any]:
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
        **asdict(settings),
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


@dataclass(frozen=True)
class Bounds:
    """When a training ends: at its target, at the latest after so many steps or seconds."""

    target: float
    most_steps: int
    most_seconds: float = math.inf


def trained(side: str, config: dict[str, Any], seed: int, judge: Judge, bounds: Bounds) -> dict[str, Any]:
    """One training of one side, until its bounds; `reached` says whether it got to the target."""
    steps: list[dict[str, Any]] = []

    def go_on(told: dict[str, Any]) -> bool:
        told["validation_reward"] = judge.reward(told["adapter"])
        shutil.rmtree(told.pop("adapter"))
        steps.append(told)
        shown = f"reward {told['reward']:.3f}, validation {told['validation_reward']:.3f}, {told['seconds']:.0f} s"
        print(f"seed {seed}  {side:<9} step {told['step']}: {shown}", file=sys.stderr, flush=True)
        short = len(steps) < bounds.most_steps and told["seconds"] < bounds.most_seconds
        return told["validation_reward"] < bounds.target and short

    with Worker(*SIDES[side], config) as worker:
        worker.train(seed, go_on)
        versions = worker.versions
    last = steps[-1]
    return {
        "seed": seed,
        "reached": last["validation_reward"] >= bounds.target,
        "seconds": last["seconds"],
        "peak_rss_mb": last["peak_rss_mb"],
        "versions": versions,
        "steps": steps,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--search", action="store_true", help="first find each side's best settings")
    for side in SIDES:
        told = f"settings of this side, such as {','.join(asdict(Settings()))}=VALUE"
        parser.add_argument(f"--{side}", type=Settings.parsed, default=Settings(), help=told)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--target", type=float, default=0.26, help="validation reward at which the clock stops")
    parser.add_argument("--steps", type=int, default=20, help="that the learning rate falls over, for both sides")
    parser.add_argument(
        "--most-steps", type=int, default=6, help="a side that is not there by then counts with all of them"
    )
    parser.add_argument("--validation-rollouts", type=int, default=2, help="of each of the 120 validation samples")
    arguments = parser.parse_args()
    on = machine(arguments.threads)
    settings = {side: getattr(arguments, side) for side in SIDES}
    with tempfile.TemporaryDirectory() as folder, ToolServer() as url:
        link = Path(folder, "adapter")

        def config(seed: int, of_side: Settings) -> dict[str, Any]:
            return configuration(url, arguments.threads, seed, arguments.steps, of_side)

        def train(side: str, of_side: Settings, seed: int, most_seconds: float = math.inf) -> dict[str, Any]:
            print(f"{side} with {asdict(of_side)}", file=sys.stderr, flush=True)
            bounds = Bounds(arguments.target, arguments.most_steps, most_seconds)
            return {**asdict(of_side), **trained(side, config(seed, of_side), seed, judge, bounds)}

        def search(side: str) -> list[dict[str, Any]]:
            """A training with each of the settings; one that takes longer than the best before it is broken off."""
            found: list[dict[str, Any]] = []
            for each in SEARCHED:
                best = min((run["seconds"] for run in found if run["reached"]), default=math.inf)
                found.append(train(side, each, SEARCH_SEED, best))
            return found

        validating = {
            **config(0, Settings()),
            "adapter": str(link),
            "validation_data": job()["validation_file"],
            "validation_rollouts": arguments.validation_rollouts,
        }
        with Worker(OURS, "benchmarks.ours.validate", validating) as evaluator:
            judge = Judge(evaluator, link)
            start = judge.reward(None)
            print(f"warm start: validation {start:.3f}", file=sys.stderr, flush=True)
            told = {"target": arguments.target, "most_steps": arguments.most_steps, "warm_start_reward": start}
            if arguments.search:
                told["search"] = {side: search(side) for side in SIDES}
                settings = {side: SEARCHED[fastest(found)] for side, found in told["search"].items()}
            told["settings"] = {side: asdict(of_side) for side, of_side in settings.items()}
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SIDES}
            for seed in range(arguments.rounds):
                for side, of_side in settings.items():
                    runs[side].append(train(side, of_side, seed))
                # After every pair, because all of them take hours.
                conclude({"machine": on, **told}, runs)


def fastest(runs: list[dict[str, Any]]) -> int:
    """The place of the run that was first at the target; if none was, of the one that came nearest."""

    def standing(run: dict[str, Any]) -> tuple[bool, float]:
        return not run["reached"], run["seconds"] if run["reached"] else -run["steps"][-1]["validation_reward"]

    return min(range(len(runs)), key=lambda place: standing(runs[place]))


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
