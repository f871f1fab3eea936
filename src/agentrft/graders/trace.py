"""The trace grader: how the answer was reached, not what it was."""

import json
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from agentrft import wire
from agentrft.graders.base import Grade, GraderSample
from agentrft.spec.graders import TraceGraderSpec
from agentrft.wire import WireError

GOOD_STATUSES = frozenset({"ok", "cut"})


class TraceGrader:
    """1.0 where the measure is at `best` or beyond, 0.0 at `worst` or beyond, linear in between."""

    def __init__(self, spec: TraceGraderSpec) -> None:
        self.name = spec.name
        self._spec = spec

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout; the measured value is the sub-score `value`."""
        started = time.perf_counter()
        value = self._measured(sample)
        best, worst = self._spec.best, self._spec.worst
        score = min(1.0, max(0.0, (worst - value) / (worst - best)))
        return Grade(
            score=score,
            sub_scores={"value": value},
            reason=f"{self._spec.measure}: {value:g}",
            latency_s=time.perf_counter() - started,
        )

    async def probe(self) -> None:
        """It has no server."""

    async def close(self) -> None:
        """Nothing to release."""

    def _measured(self, sample: GraderSample) -> float:
        spec, trace = self._spec, sample.trace
        named = [call for call in trace.calls if spec.tools is None or call.name in spec.tools]
        match spec.measure:
            case "tool_calls" | "forbidden_tools":
                return float(len(named))
            case "turns":
                return float(trace.turns)
            case "sampled_tokens":
                return float(trace.sampled_tokens)
            case "latency_s":
                return trace.latency_s
            case "parallelism":
                turns = {call.turn for call in named}
                return len(named) / len(turns) if turns else 0.0
            case "failed_calls":
                return float(sum(call.status not in GOOD_STATUSES for call in named))
            case "repeated_calls":
                return float(count_repeated((call.name, call.arguments) for call in named))
            case "wrong_tools":
                unwanted = len(trace.calls) - len(named)
                return float(unwanted + sum(call.status == "unknown_tool" for call in named))


def count_repeated(calls: Iterable[tuple[str, str]]) -> int:
    """How many calls, each a name and its arguments as JSON text, are equal to an earlier one.

    The order of arguments does not count.
    """
    asked = Counter((name, _sorted(arguments)) for name, arguments in calls)
    return sum(count - 1 for count in asked.values())


def _sorted(arguments: str) -> str:
    try:
        return json.dumps(wire.parse(arguments), sort_keys=True)
    except WireError:
        return arguments
