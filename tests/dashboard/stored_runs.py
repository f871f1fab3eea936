"""A folder of runs made of planted training runs: real records, metrics and events, as a job leaves them."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from agentrft.report.summary import summarise
from agentrft.rollout.record import Rollout
from agentrft.store import JobStore, rollout_row, write_rollouts
from agentrft.store.layout import TRAIN, VALIDATION, rollouts_file
from tests.report.why.planted import Run, honest

HYPERPARAMETERS = {"learning_rate": 3e-4, "batch_size": 8, "max_steps": 12}


def stored_job(
    store: JobStore,
    steps: Sequence[Sequence[Rollout]],
    *,
    name: str = "planted",
    status: str = "succeeded",
    model: str = "smollm2-135m",
    validation: bool = True,
) -> str:
    """A job of these steps' rollouts; a validation stands at the beginning and at the end."""
    grader = {"type": "python", "source": "", "name": "planted"}
    tools = [{"name": "search", "server_url": "http://127.0.0.1:1/tools/search"}]
    setting: dict[str, Any] = {"method": "reinforcement", "suffix": name, "tools": tools, "grader": grader}
    job_id = store.create_job({"job": setting}, model=model, seed=0)
    store.set_status(job_id, "running")
    store.set_total_steps(job_id, len(steps))
    store.record_hyperparameters(job_id, HYPERPARAMETERS)
    store.add_event(job_id, "info", f"Created fine-tuning job: {job_id}")
    for number, rollouts in enumerate(steps, 1):
        if validation and number == 1:
            commit(store, job_id, VALIDATION, 0, rollouts)
        commit(store, job_id, TRAIN, number, rollouts)
        if validation and number == len(steps):
            commit(store, job_id, VALIDATION, number, rollouts)
    if status != "running":
        store.set_status(job_id, status)  # type: ignore[arg-type]
    return job_id


def commit(store: JobStore, job_id: str, phase: str, step: int, rollouts: Sequence[Rollout]) -> None:
    """One step, as training commits it."""
    began = time.time() + step
    records = [
        {**rollout.as_dict(), "step": step, "started_at": began + number / 100}
        for number, rollout in enumerate(rollouts)
    ]
    if phase == VALIDATION:
        # The same samples at each validation, as a job has them.
        for number, record in enumerate(records):
            record["sample_id"] = f"v{number // 8}"
            record["trace_id"] = f"{record['trace_id']}_{phase}_{step}"
    else:
        _note_tokens(records)
    path = rollouts_file(store.job_folder(job_id), phase, step)
    write_rollouts(path, [rollout_row(record, phase=phase) for record in records])
    extra = {
        "optimizer_steps": 4,
        "policy_change": 0.002,
        "entropy": 0.5,
        "entropy_by_turn": [0.4, 0.6],
        "kl_to_start": 0.01 * step,
        "grad_norm": 1.0,
        "rollout_s": 5.0,
        "engine_busy_s": 4.0,
        "update_s": 3.0,
        "step_s": 8.5,
        "unique_tokens": 4000,
        "total_tokens": 16000,
        "bottleneck": "generation",
    }
    store.commit_step(job_id, phase, step, {**summarise(rollouts).as_dict(), **(extra if phase == TRAIN else {})})


def planted_runs(folder: Path, *, steps: int = 6) -> tuple[JobStore, str]:
    """A store with one finished job."""
    store = JobStore(folder)
    run = Run(lambda case: 0.5 * case.is_right + 0.5 * case.took["uses bold"], holds=honest, steps=steps)
    return store, stored_job(store, run.rolled_out())


def until_looked_through(client: TestClient, job_id: str) -> None:
    """Wait until the pages have all facts of a job, and what was found in them."""
    for _ in range(600):
        missing = [client.get(f"/jobs/{job_id}/{tab}.json").json()["steps_missing"] for tab in ("rollouts", "why")]
        if missing == [0, 0]:
            return
        time.sleep(0.1)
    raise AssertionError("the facts were not made in time")


def _note_tokens(records: Sequence[dict[str, Any]]) -> None:
    """What an update would have found of each token."""
    for record in records:
        for turn in record["turns"]:
            count = len(turn["sampled_ids"])
            turn |= {
                "entropies": [0.1 * (place % 9) for place in range(count)],
                "moved": [0.5 - place % 2 for place in range(count)],
            }
