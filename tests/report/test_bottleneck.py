"""What a step is told to have waited for."""

import pytest

from agentrft.graders import Grade
from agentrft.report.bottleneck import bottleneck
from agentrft.rollout import Rollout
from agentrft.rollout.record import ToolCallRecord, Turn


def rollout(tool_s: float, grader_s: float) -> Rollout:
    call = ToolCallRecord("call_1", "search", "{}", "found", "ok", tool_s, 1)
    turn = Turn([1], [2], [-0.5], "stop", 0, generation_s=0.1, tool_calls=[call])
    return Rollout("trace_1", 1, "sample", 1, 0, "graded", [turn], [], grade=Grade(1.0, latency_s=grader_s), reward=1.0)


@pytest.mark.parametrize(
    ("busy_s", "update_s", "tool_s", "grader_s", "expected"),
    [
        (9.0, 2.0, 0.1, 0.1, "generation"),
        (9.0, 11.0, 0.1, 0.1, "update"),
        (2.0, 1.0, 3.0, 0.1, "tools"),
        (2.0, 1.0, 0.1, 3.0, "grader"),
    ],
)
def test_the_longest_wait_is_named(
    busy_s: float, update_s: float, tool_s: float, grader_s: float, expected: str
) -> None:
    rollouts = [rollout(tool_s, grader_s) for _ in range(4)]
    assert bottleneck(rollouts, rollout_s=10.0, engine_busy_s=busy_s, update_s=update_s) == expected
