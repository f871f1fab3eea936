"""The quickstart, for real, with a few steps instead of all."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "medical_coding" / "quickstart.py"
KEYS = {
    "job",
    "validation_reward_warm_start",
    "validation_reward_trained",
    "test_reward_warm_start",
    "test_reward_trained",
    "test_reward_greedy_warm_start",
    "test_reward_greedy_trained",
    "exact_match_warm_start",
    "exact_given_first_warm_start",
    "exact_given_later_warm_start",
    "exact_match",
    "exact_given_first",
    "exact_given_later",
    "tool_calls_warm_start",
    "tool_calls_trained",
    "steps",
    "result",
    "minutes",
    "peak_memory_gb",
}


@pytest.mark.slow
def test_a_few_steps_of_the_quickstart_already_raise_the_reward(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--steps", "8", "--seed", "3", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=True)
    result = json.loads(done.stdout.strip().splitlines()[-1])
    assert result.keys() == KEYS
    assert result["steps"] == 8
    assert result["test_reward_trained"] > result["test_reward_warm_start"]
    assert (tmp_path / result["job"] / "reward-curve.png").stat().st_size > 0
