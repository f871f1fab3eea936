"""What a training step waited for most."""

from collections.abc import Sequence
from typing import Literal

from agentrft.rollout.record import Rollout

Bottleneck = Literal["generation", "tools", "grader", "update"]


def bottleneck(rollouts: Sequence[Rollout], *, rollout_s: float, engine_busy_s: float, update_s: float) -> Bottleneck:
    """What to make faster first.

    The update, if it takes longer than the rollouts. Else generation, if the engine computed for most of their time.
    Else what the rollouts waited for longer, their tools or their grader.
    """
    if update_s > rollout_s:
        return "update"
    if engine_busy_s >= rollout_s / 2:
        return "generation"
    of_tools = sum(call.latency_s for rollout in rollouts for call in rollout.tool_calls)
    of_graders = sum(rollout.grade.latency_s for rollout in rollouts if rollout.grade is not None)
    return "tools" if of_tools >= of_graders else "grader"
