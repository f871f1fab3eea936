"""All jobs, newest first."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from agentrft.dashboard.charts import sparkline
from agentrft.dashboard.runs import Runs
from agentrft.dashboard.views.cost import Prices, cost
from agentrft.report.averages import mean
from agentrft.store import JobRow
from agentrft.store.layout import TEST, TRAIN, VALIDATION

# The time that is left is told from so many of the last steps.
RECENT = 5


def jobs(runs: Runs, rows: Sequence[JobRow], prices: Prices = Prices()) -> dict[str, Any]:
    """The page of jobs, of which `rows` are."""
    return {"jobs": [job_line(job, runs.store.metrics(job.job_id), prices) for job in rows]}


def job_line(job: JobRow, metrics: Sequence[Mapping[str, Any]], prices: Prices = Prices()) -> dict[str, Any]:
    """A job in a line.

    Args:
        metrics: all that it committed.
    """
    spent = cost(metrics, prices)
    train = [row for row in metrics if row["phase"] == TRAIN]
    validated = [row for row in metrics if row["phase"] == VALIDATION]
    tested = [row for row in metrics if row["phase"] == TEST]
    rewards = [row.get("reward_mean") for row in train]
    done = train[-1]["step"] if train else 0
    left = [row.get("step_s") or 0.0 for row in train[-RECENT:]]
    is_running = job.status == "running"
    # Nobody knows when a process was killed.
    until = time.time() if is_running else job.finished_at
    return {
        "job_id": job.job_id,
        "name": job.setting("suffix") or job.job_id,
        "status": job.status,
        "phase": job.phase,
        "model": job.model,
        "method": job.setting("method") or "reinforcement",
        "step": done if job.has_rollouts else job.step,
        "total_steps": job.total_steps,
        "created_at": job.created_at,
        "seconds": None if until is None else until - job.created_at,
        "seconds_left": mean(left) * max(0, (job.total_steps or 0) - done) if is_running and left else None,
        "reward": rewards[-1] if rewards else None,
        "validation_first": validated[0].get("reward_mean") if validated else None,
        "validation_last": validated[-1].get("reward_mean") if validated else None,
        "test": [row.get("reward_mean") for row in tested],
        "sparkline": sparkline(rewards),
        "rollouts": sum(row.get("rollouts") or 0 for row in metrics),
        "sampled_tokens": spent["sampled_tokens"],
        "judge_tokens": spent["judge_tokens"],
        "cost": spent,
        "error": job.error,
    }
