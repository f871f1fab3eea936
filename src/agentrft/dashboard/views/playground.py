"""The playground: a call of a tool, a grade of an answer, and a changed grader on rollouts that are there already."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from agentrft.dashboard.queries import answers_of
from agentrft.dashboard.runs import JobData
from agentrft.dashboard.server_side import ServerSide, as_yaml
from agentrft.data import find_sample
from agentrft.store.artifacts import read_rollout
from agentrft.store.layout import DATA_FILES, TEST, TRAIN, VALIDATION

ROLLOUTS, MOST_ROLLOUTS = 32, 256
SAMPLES = 20


def playground(
    job: JobData, server: ServerSide | None, *, phase: str = "", step: int | None = None, count: int = ROLLOUTS
) -> dict[str, Any]:
    """The page.

    Args:
        phase, step: whose rollouts are graded again; the last validation without them, or else the last step.
        count: of rollouts.
    """
    phases = [name for name in (VALIDATION, TRAIN, TEST) if job.steps(name)]
    chosen = phase if phase in phases else next(iter(phases), TRAIN)
    steps = job.steps(chosen)
    at = step if step in steps else next(reversed(steps), 0)
    source = job.source(chosen, at)
    rows, total = ([], 0) if source is None else answers_of(source, max(1, min(count, MOST_ROLLOUTS)))
    request = None if server is None else server.request(job.job_id)
    inner = ((request or {}).get("method") or {}).get("reinforcement") or {}
    path = job.row.setting(DATA_FILES[chosen])
    return {
        "answer": "",
        "item": {},
        "tool": "",
        "arguments": "{}",
        "can_try": request is not None,
        "has_server": server is not None,
        "grader": as_yaml(inner["grader"]) if inner.get("grader") else "",
        "phase": chosen,
        "phases": phases,
        "steps": steps,
        "at": at,
        "count": count,
        "rollouts": rows,
        "total": total,
        **({} if source is None else _example(source, None if path is None else Path(path), rows)),
    }


def _example(source: Path, data: Path | None, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the fields begin with: a stored answer with a call before it, if there is one, and its row."""
    if not rows:
        return {}
    row, call = next(_calling(source, rows[:SAMPLES]), (rows[0], {"name": "", "arguments": "{}"}))
    sample = None if data is None else find_sample(data, row["sample_id"])
    return {
        "answer": row["output_text"],
        "item": {} if sample is None else sample.item,
        "tool": call["name"],
        "arguments": call["arguments"],
    }


def _calling(source: Path, rows: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The rollouts that call something, with their first call."""
    for row in rows:
        record = read_rollout(source, row["trace_id"])
        for turn in [] if record is None else record["turns"]:
            if turn["tool_calls"]:
                yield row, turn["tool_calls"][0]
                break
