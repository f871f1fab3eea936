"""The quickstart, run as a user runs it, and what it has left behind."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.report.compare import Measure, compare
from agentrft.rollout import Rollout
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import TEST, TRAIN, rollouts_file

SCRIPT = Path(__file__).parents[1] / "examples" / "medical_coding" / "quickstart.py"
MOST_S = 14400.0


@dataclass(frozen=True)
class Run:
    """Of the quickstart.

    Attributes:
        first, last: rollouts of the test samples before training and after it.
        steps: metrics of the training steps.
    """

    result: dict[str, Any]
    first: list[Rollout]
    last: list[Rollout]
    steps: list[dict[str, Any]]


def run(out: Path, steps: str, *options: str) -> Run:
    command = [sys.executable, str(SCRIPT), "--steps", steps, "--seed", "3", "--out", str(out), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=MOST_S, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    with JobStore(out) as store:
        folder = store.job_folder(result["job"])
        rows = store.metrics(result["job"])
    last = max(row["step"] for row in rows if row["phase"] == TEST)
    assert last == int(steps), "what is tested is the last step"

    def tested(step: int) -> list[Rollout]:
        return [Rollout.from_dict(row["record"]) for row in read_rollouts(rollouts_file(folder, TEST, step))]

    return Run(result, tested(0), tested(last), [row for row in rows if row["phase"] == TRAIN])


def reward(a: list[Rollout], b: list[Rollout]) -> Measure:
    """Of the second beside the first, on the same samples."""
    return next(measure for measure in compare(a, b).measures if measure.name == "reward")
