"""Two steps of a job, or of two jobs, on the same samples: who wins, and by how much."""

from typing import Any

from agentrft.dashboard.queries import Filter
from agentrft.dashboard.runs import JobData
from agentrft.report.averages import mean
from agentrft.report.intervals import paired_interval

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
    a: JobData, b: JobData, *, phase: str, step_a: int | None, step_b: int | None, sample: str = ""
) -> dict[str, Any]:
    """The page.

    Args:
        step_a, step_b: of the phase; its first and its last step without them.
        sample: whose rollouts are shown beside each other.
    """
    steps_of_a, steps_of_b = a.steps(phase), b.steps(phase)
    # A step of another phase or job, as a form has it that was changed, is none of this one's.
    first = step_a if step_a in steps_of_a else next(iter(steps_of_a), 0)
    last = step_b if step_b in steps_of_b else next(reversed(steps_of_b), 0)
    sides = [(a, first), (b, last)]
    means = [job.rollouts.means(phase, step) for job, step in sides]
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
        "a": {"job_id": a.job_id, "step": first, "steps": steps_of_a},
        "b": {"job_id": b.job_id, "step": last, "steps": steps_of_b},
        "steps_missing": a.steps_missing + (b.steps_missing if b is not a else 0),
        "phases": ["train", "validation", "test"],
        "samples": len(shared),
        "rollouts_per_sample": [mean(side[one]["rollouts"] for one in shared) for side in means],
        "left_out": len(means[0].keys() ^ means[1].keys()),
        "wins": sum(one["change"] > SAME for one in changes),
        "losses": sum(one["change"] < -SAME for one in changes),
        "ties": sum(abs(one["change"]) <= SAME for one in changes),
        "measures": measures,
        "changes": changes[:SAMPLES_SHOWN],
        "sample": sample,
        "traces": [
            job.rollouts.page(Filter(phase=phase, step=step, sample=sample), limit=8)[0] if sample else []
            for job, step in sides
        ],
        "jobs": [job.job_id for job in a.runs.store.list_jobs()],
    }
