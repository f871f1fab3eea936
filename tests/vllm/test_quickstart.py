"""The quickstart through vLLM learns what it learns by the embedded engine: the same job but for `engine`."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentrft.report.compare import Measure, compare
from agentrft.rollout import Rollout
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import VALIDATION, rollouts_file

SCRIPT = Path(__file__).parents[2] / "examples" / "medical_coding" / "quickstart.py"
STEPS = os.environ.get("AGENTRFT_VLLM_STEPS", "4")

pytestmark = [pytest.mark.vllm]


@dataclass(frozen=True)
class Run:
    """Of the quickstart.

    Attributes:
        first, last: rollouts of the validations before training and after it.
        steps: metrics of the training steps.
    """

    result: dict[str, Any]
    first: list[Rollout]
    last: list[Rollout]
    steps: list[dict[str, Any]]


def run(out: Path, *options: str) -> Run:
    command = [sys.executable, str(SCRIPT), "--steps", STEPS, "--seed", "3", "--out", str(out), *options]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=7200, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    store, job_id = JobStore(out), result["job"]

    def validated(step: int) -> list[Rollout]:
        rows = read_rollouts(rollouts_file(store.job_folder(job_id), VALIDATION, step))
        return [Rollout.from_dict(row["record"]) for row in rows]

    steps = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    return Run(result, validated(0), validated(int(STEPS)), steps)


def reward(a: list[Rollout], b: list[Rollout]) -> Measure:
    return next(measure for measure in compare(a, b).measures if measure.name == "reward")


def test_the_quickstart_learns_through_it_what_it_learns_by_our_own_engine(tmp_path: Path) -> None:
    vllm = Path(os.environ["AGENTRFT_VLLM_PYTHON"]).absolute().with_name("vllm")
    own = run(tmp_path / "embedded")
    served = run(tmp_path / "vllm", "--engine", json.dumps({"type": "vllm", "command": f"{vllm} serve"}))
    difference = reward(own.last, served.last)
    print(json.dumps({"embedded": own.result, "vllm": served.result, "difference": vars(difference)}))
    assert difference.high > 0
    # It learned, and not by being no worse than one that did not.
    assert reward(served.first, served.last).difference > 0
    # Every token is of the version that it was asked of, and the two ratios are told apart.
    for step in served.steps:
        assert step["off_policy_steps"] == 0 and 0 < step["logprob_gap_mean"] < 0.02
        assert 0 <= step["truncated_ratio_share"] <= 1 and 0 <= step["clipped_share"] <= 1
