"""Rollouts that are sampled while the step before is trained on."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import Interrupted, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.runtime import Runtime
from agentrft.rollout import Rollout
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer


def off_policy_job(folder: Path, model: Path, url: str, **hyperparameters: Any) -> Path:
    return write_job(
        folder,
        model,
        url,
        baseline={"enabled": False},
        hyperparameters={"max_off_policy_steps": 1, "max_steps": 3, "eval_interval": 99, **hyperparameters},
    )


def versions(store: JobStore, job_id: str, phase: str, step: int) -> set[int]:
    rows = read_rollouts(store.job_folder(job_id) / "rollouts" / f"{phase}-{step:05d}.parquet")
    return {turn["policy_version"] for row in rows for turn in row["record"]["turns"]}


class Timeline(NoProgress):
    """What happened, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []

    def phase(self, name: str, step: int, total: int) -> None:
        self.events.append(("begun", name, step))

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        self.events.append(("committed", phase, step))


async def test_the_next_rollouts_begin_before_the_update_and_are_one_version_behind(
    tiny_model: Path, tmp_path: Path
) -> None:
    timeline = Timeline()
    async with ChaosServer() as server:
        spec = load_job(off_policy_job(tmp_path, tiny_model, server.url))
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=timeline, stop=Stop())
    trained = [event for event in timeline.events if event[1] == "train"]
    # The last step is validated, with the policy after it; nothing is begun beyond it.
    assert trained == [
        ("begun", "train", 1),
        ("begun", "train", 2),
        ("committed", "train", 1),
        ("begun", "train", 3),
        ("committed", "train", 2),
        ("committed", "train", 3),
    ]
    metrics = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert [row["off_policy_steps"] for row in metrics] == [0, 1, 1]
    first = metrics[0]["policy_version"] - 1
    assert [versions(store, job_id, "train", step) for step in (1, 2, 3)] == [{first}, {first}, {first + 1}]
    assert versions(store, job_id, "validation", 3) == {first + 3}
    # The policy moved between sampling and training, which the first step cannot show.
    assert metrics[1]["logprob_gap_mean"] > 3 * metrics[0]["logprob_gap_mean"]


async def test_nothing_is_begun_across_a_validation(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        spec = load_job(off_policy_job(tmp_path, tiny_model, server.url, max_steps=3, eval_interval=2))
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert [row["off_policy_steps"] for row in trained] == [0, 1, 0]
    first = trained[0]["policy_version"] - 1
    assert [versions(store, job_id, "validation", step) for step in (2, 3)] == [{first + 2}, {first + 3}]


@pytest.mark.parametrize("sample_by", ["epoch", "difficulty"])
async def test_what_was_sampled_ahead_survives_an_interruption(
    tiny_model: Path, tmp_path: Path, sample_by: str
) -> None:
    class StopAhead(NoProgress):
        """Stops when the first rollout of step 2 is graded; step 1 is committed before or after."""

        def rollout(self, rollout: Rollout) -> None:
            if rollout.step == 2:
                graded.append(rollout.trace_id)
                stop.request()

    graded: list[str] = []
    stop = Stop()
    async with ChaosServer() as server:
        path = off_policy_job(tmp_path, tiny_model, server.url, sample_by=sample_by, n_epochs=2, max_steps=4)
        spec = load_job(path)
        store, job_id = create_job(spec)
        with pytest.raises(Interrupted):
            await run_job(spec, store, job_id, progress=StopAhead(), stop=stop)
        assert store.get_job(job_id).status == "interrupted"
        await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
    assert store.get_job(job_id).status == "succeeded"
    kept = {row["trace_id"] for row in read_rollouts(store.job_folder(job_id) / "rollouts" / "train-00002.parquet")}
    assert graded and set(graded) <= kept
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert [row["step"] for row in trained] == [1, 2, 3, 4]
    assert all(row["off_policy_steps"] <= 1 for row in trained)


def test_a_deterministic_job_is_on_policy(tmp_path: Path) -> None:
    path = write_job(
        tmp_path,
        Path("model"),
        "http://127.0.0.1:1/tool",
        deterministic=True,
        hyperparameters={"max_off_policy_steps": 1},
    )
    with pytest.raises(UserError, match="max_off_policy_steps: a deterministic job has one fixed schedule"):
        load_job(path)


def test_an_engine_device_that_is_not_there_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, tiny_model, "http://127.0.0.1:1/tool", engine={"device": "cuda:77"})
    with pytest.raises(UserError, match="engine.device: cuda:77 is not there"):
        Runtime(load_job(path))
