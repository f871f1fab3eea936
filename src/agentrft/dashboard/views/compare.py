"""Two steps of a job, or of two jobs, on the same samples: who wins, and by how much."""

from typing import Any

from agentrft.dashboard.queries import Filter
from agentrft.dashboard.runs import Runs
from agentrft.report.intervals import paired_interval
from agentrft.store import JobRow

MEASURES = {
    "reward": "reward",
    "calls": "tool calls",
    "turns": "turns",
    "tokens": "sampled tokens",
    "latency_s": "latency, s",
}
SAME = 1e-9
SAMPLES_SHOWN = 40


def compare(
    runs: Runs, a: JobRow, b: JobRow, *, phase: str, step_a: int | None, step_b: int | None, sample: str = ""
) -> dict[str, Any]:
    """The page.

    Args:
        step_a, step_b: of the phase; its first and its last step without them.
        sample: whose rollouts are shown beside each other.
    """
    steps = {job.job_id: _steps(runs, job, phase) for job in (a, b)}
    # A step of another phase or job, as a form has it that was changed, is none of this one's.
    first = step_a if step_a in steps[a.job_id] else next(iter(steps[a.job_id]), 0)
    last = step_b if step_b in steps[b.job_id] else next(reversed(steps[b.job_id]), 0)
    sides = [(a, first), (b, last)]
    means = [runs.rollouts(job)[0].means(phase, step) for job, step in sides]
    shared = sorted(means[0].keys() & means[1].keys())
    measures: list[dict[str, Any]] = []
    for name, label in MEASURES.items():
        values = [{one: float(side[one][name] or 0.0) for one in shared} for side in means]
        found = paired_interval(values[0], values[1])
        measures.append(
            {
                "name": label,
                "a": sum(values[0].values()) / max(1, len(shared)),
                "b": sum(values[1].values()) / max(1, len(shared)),
                "difference": found.mean,
                "low": found.low if len(shared) > 1 else None,
                "high": found.high if len(shared) > 1 else None,
                "beyond_chance": len(shared) > 1 and found.leaves_out_0,
            }
        )
    pairs = [(one, float(means[0][one]["reward"]), float(means[1][one]["reward"])) for one in shared]
    changes = [{"sample_id": one, "a": before, "b": after, "change": after - before} for one, before, after in pairs]
    changes.sort(key=lambda one: -abs(one["change"]))
    return {
        "phase": phase,
        "a": {"job_id": a.job_id, "step": first, "steps": steps[a.job_id]},
        "b": {"job_id": b.job_id, "step": last, "steps": steps[b.job_id]},
        "steps_missing": sum(runs.rollouts(job)[1] for job in {one.job_id: one for one in (a, b)}.values()),
        "phases": ["train", "validation", "test"],
        "samples": len(shared),
        "left_out": len(means[0].keys() ^ means[1].keys()),
        "wins": sum(one["change"] > SAME for one in changes),
        "losses": sum(one["change"] < -SAME for one in changes),
        "ties": sum(abs(one["change"]) <= SAME for one in changes),
        "measures": measures,
        "changes": changes[:SAMPLES_SHOWN],
        "sample": sample,
        "traces": [
            runs.rollouts(job)[0].page(Filter(phase=phase, step=step, sample=sample), limit=8)[0] if sample else []
            for job, step in sides
        ],
        "jobs": [job.job_id for job in runs.store.list_jobs()],
    }


def _steps(runs: Runs, job: JobRow, phase: str) -> list[int]:
    return [one.step for one in runs.files(job) if one.phase == phase]
