"""The score of a rollout: the kernel that it submits, judged from scratch.

An answer is the word `submit`, which hands in the source of the last `compile` call that compiles. The grader is part
of the tools' server (`tools.py`, `/grade`), because it needs gcc and the jail, which a python grader's sandbox has not.
"""

import json
import math
from typing import Any

from examples.kernels.bench import Bench, Verdict
from examples.kernels.graphs import Graph

ANSWER = "submit"
COMPILED, NEARLY_RIGHT, RIGHT = 0.1, 0.2, 0.5
# A kernel that takes four times as long as PyTorch gets nothing for its speed, one that is eight times as fast all.
SLOWEST, FASTEST = 1 / 4, 8.0
MOST_SOURCES = 8


def grade(sample: dict[str, Any], item: dict[str, Any], bench: Bench) -> dict[str, Any]:
    """What an endpoint grader answers: `score` from 0 to 1, `sub_scores`, `reason`.

    Sub-scores: `compiled`, `correct`, `faster` (right, and quicker than PyTorch), `speedup` (0 where it is not right),
    `share` of the cases that were right, `tripped` (1 where a defence caught something in any source of the rollout).

    Raises:
        ValueError: the row has no operator graph.
    """
    graph = Graph.from_json(item.get("graph"))
    if str(sample.get("output_text", "")).strip().strip(".!\"'`").lower() != ANSWER:
        return _answer(0.0, None, f"the answer is not '{ANSWER}'")
    sources = compiled_sources(sample)[-MOST_SOURCES:]
    if not sources:
        return _answer(0.0, None, "nothing was compiled")
    refused = ""
    for source in reversed(sources):
        compiled = bench.compile(graph, source)
        if compiled.library is not None:
            verdict = bench.judge(graph, source)
            return _answer(score(verdict), verdict, _reason(verdict), refused)
        refused = refused or compiled.refused
    return _answer(0.0, None, "nothing compiles", refused)


def compiled_sources(sample: dict[str, Any]) -> list[str]:
    """The `source` of each call of `compile`, in order, as far as they can be read."""
    sources = []
    for call in sample.get("output_tools") or []:
        function = call.get("function") or {}
        try:
            arguments = json.loads(function.get("arguments") or "")
        except (ValueError, RecursionError):
            continue
        source = arguments.get("source") if isinstance(arguments, dict) else None
        if function.get("name") == "compile" and isinstance(source, str):
            sources.append(source)
    return sources


def score(verdict: Verdict) -> float:
    """From 0 to 1.

    0 for what does not compile, and for what touched memory or anything else that it may not; 0.1 for what compiles,
    and up to 0.2 more for the share of the cases that it gets right while it gets others wrong; 0.5 for a kernel that
    is right, and up to 0.5 more for its speed, by the logarithm of how many times as fast as PyTorch it is.
    """
    checked = verdict.checked
    if checked is None or checked.tripped or (verdict.timed is not None and verdict.timed.tripped):
        return 0.0
    if not verdict.correct:
        return COMPILED + NEARLY_RIGHT * checked.share
    assert verdict.timed is not None
    reached = math.log(max(verdict.timed.speedup, 1e-9) / SLOWEST) / math.log(FASTEST / SLOWEST)
    return RIGHT + (1 - RIGHT) * min(1.0, max(0.0, reached))


def _answer(score: float, verdict: Verdict | None, reason: str, refused: str = "") -> dict[str, Any]:
    checked = None if verdict is None else verdict.checked
    is_right = verdict is not None and verdict.correct
    speedup = verdict.timed.speedup if verdict is not None and verdict.timed is not None and is_right else 0.0
    caught = bool(refused or (verdict is not None and verdict.tripped))
    sub_scores = {
        "compiled": float(verdict is not None),
        "correct": float(is_right),
        "faster": float(speedup > 1),
        "speedup": speedup,
        "share": 0.0 if checked is None else checked.share,
        "tripped": float(caught),
    }
    return {"score": score, "sub_scores": sub_scores, "reason": reason}


def _reason(verdict: Verdict) -> str:
    if verdict.timed is not None:
        return verdict.timed.problem or f"{verdict.timed.speedup:.2f}x PyTorch"
    return verdict.checked.problem if verdict.checked is not None else verdict.compiled.diagnostic
