"""The quickstart with two rollout workers and two ranks learns what it learns in one process."""

import json
import os
from pathlib import Path

import pytest

from tests.quickstart_runs import reward, run

STEPS = os.environ.get("AGENTRFT_CLUSTER_STEPS", "4")
CLUSTER = {"rollout_workers": 2, "learner_workers": 2}

pytestmark = pytest.mark.slow


def test_the_quickstart_learns_in_a_cluster_what_it_learns_in_one_process(tmp_path: Path) -> None:
    alone = run(tmp_path / "alone", STEPS)
    spread = run(tmp_path / "spread", STEPS, "--cluster", json.dumps(CLUSTER))
    difference = reward(alone.last, spread.last)
    print(json.dumps({"alone": alone.result, "cluster": spread.result, "difference": vars(difference)}))
    assert difference.low <= 0 <= difference.high
    # It learned, and not by being no worse than one that did not.
    assert reward(spread.first, spread.last).difference > 0
    assert len(spread.steps) == int(STEPS)
    assert all(step["infra_failure_share"] == 0 for step in spread.steps)
