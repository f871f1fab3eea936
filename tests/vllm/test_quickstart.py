"""The quickstart through vLLM learns what it learns by the embedded engine: the same job but for `engine`."""

import json
import os
import shlex
from pathlib import Path

import pytest

from tests.quickstart_runs import reward, run
from tests.vllm.server import VllmServer

STEPS = os.environ.get("AGENTRFT_VLLM_STEPS", "4")
TOLD = ("step", "logprob_gap_mean", "logprob_gap_max", "truncated_ratio_share", "clipped_share", "step_s", "update_s")

pytestmark = [pytest.mark.vllm]


def test_the_quickstart_learns_through_it_what_it_learns_by_our_own_engine(tmp_path: Path) -> None:
    python = Path(os.environ["AGENTRFT_VLLM_PYTHON"]).absolute()
    vllm = shlex.join(VllmServer(python, tmp_path, "any", tmp_path / "any.log").own_command)
    own = run(tmp_path / "embedded", STEPS)
    served = run(tmp_path / "vllm", STEPS, "--engine", json.dumps({"type": "vllm", "command": vllm}))
    difference = reward(own.last, served.last)
    print(json.dumps({"embedded": own.result, "vllm": served.result, "difference": vars(difference)}))
    for name, one in (("embedded", own), ("vllm", served)):
        print(json.dumps({f"steps_{name}": [{field: step[field] for field in TOLD} for step in one.steps]}))
    assert difference.high > 0
    # It learned, and not by being no worse than one that did not.
    assert reward(served.first, served.last).difference > 0
    # Every token is of the version that it was asked of, and the two ratios are told apart.
    for step in served.steps:
        assert step["off_policy_steps"] == 0 and 0 < step["logprob_gap_mean"] < 0.02
        assert 0 <= step["truncated_ratio_share"] <= 1 and 0 <= step["clipped_share"] <= 1
