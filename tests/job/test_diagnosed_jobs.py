"""Real jobs of a tiny model that cannot learn: what a person would be told of each, after two steps."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.report.diagnosis import diagnose
from agentrft.spec import load_job
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer, ok, status

CONSTANT = "def grade(sample, item):\n    return {}\n"
# By the length of the answer: something that differs within groups, whatever a random model says.
LENGTH = "def grade(sample, item):\n    return min(1.0, len(sample['output_text']) / 40)\n"


def python(source: str) -> dict[str, Any]:
    return {"type": "python", "trusted": True, "source": source}


CASES: dict[str, dict[str, Any]] = {
    "all_zero": {"grader": python(CONSTANT.format(0.0)), "grade_unfinished": True},
    "all_right": {"grader": python(CONSTANT.format(1.0)), "grade_unfinished": True},
    "constant_grader": {"grader": python(CONSTANT.format(0.3)), "grade_unfinished": True},
    "tools_fail": {"grader": python(LENGTH), "grade_unfinished": True},
    "cut_off": {"grader": python(LENGTH), "hyperparameters": {"max_tokens_per_turn": 2}},
    "no_change": {
        "grader": python(LENGTH),
        "grade_unfinished": True,
        "hyperparameters": {"learning_rate_multiplier": 1e-9},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("key", CASES)
async def test_why_a_real_job_learns_nothing_is_named_after_two_steps(
    key: str, tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer(default=status(400) if key == "tools_fail" else ok("red")) as server:
        changes = {"baseline": {"enabled": False}, **CASES[key]}
        # More rollouts than other tests have: what differs within groups must show.
        changes["hyperparameters"] = {"compute_multiplier": 1, **CASES[key].get("hyperparameters", {})}
        job = load_job(write_job(tmp_path, tiny_model, server.url, **changes))
        store, job_id = create_job(job)
        await run_job(job, store, job_id, progress=NoProgress(), stop=Stop())
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert diagnose(trained[:2])[0].key == key, [one.text for one in diagnose(trained[:2])]
