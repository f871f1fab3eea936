"""Whole jobs whose rollouts run ahead of the steps, and go on over updates."""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentrft.data import load_samples
from agentrft.errors import Interrupted, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.runtime import Runtime
from agentrft.job.schedule import samples_of_step
from agentrft.rollout import Rollout
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from tests.job.fork_server import ForkServer
from tests.job.tiny_job import serving, tool_calls, write_job
from tests.traffic.chaos_server import ChaosServer


def off_policy_job(folder: Path, model: Path, url: str, **hyperparameters: Any) -> Path:
    return write_job(
        folder,
        model,
        url,
        baseline={"enabled": False},
        hyperparameters={"max_off_policy_steps": 1, "max_steps": 4, "eval_interval": 99, **hyperparameters},
    )


def rollouts_of(store: JobStore, job_id: str, phase: str, step: int) -> list[Rollout]:
    rows = read_rollouts(store.job_folder(job_id) / "rollouts" / f"{phase}-{step:05d}.parquet")
    return [Rollout.from_dict(row["record"]) for row in rows]


def versions(store: JobStore, job_id: str, phase: str, step: int) -> set[int]:
    rollouts = rollouts_of(store, job_id, phase, step)
    return {version for one in rollouts for turn in one.turns for version, _ in turn.version_spans}


def assert_every_sample_was_trained_on_as_it_is_drawn(store: JobStore, job_id: str, each: int = 4) -> None:
    job = store.get_job(job_id)
    steps = [row["step"] for row in store.metrics(job_id) if row["phase"] == "train"]
    assert steps == list(range(1, job.total_steps + 1))
    samples = load_samples(store.job_folder(job_id).parents[1] / "train.jsonl")
    expected = Counter(
        sample.sample_id
        for step in steps
        for sample in samples_of_step(samples, batch_size=2, seed=7, step=step)
        for _ in range(each)
    )
    trained = [one for step in steps for one in rollouts_of(store, job_id, "train", step)]
    assert Counter(one.sample_id for one in trained) == expected
    assert len({one.trace_id for one in trained}) == len(trained)


class Timeline(NoProgress):
    """What happened, in order."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str, int]] = []

    def phase(self, name: str, step: int, total: int) -> None:
        self.events.append(("begun", name, step))

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        self.events.append(("committed", phase, step))


async def test_without_it_each_step_waits_for_rollouts_of_the_newest_policy_alone(
    tiny_model: Path, tmp_path: Path
) -> None:
    timeline = Timeline()
    async with ChaosServer() as server:
        spec = load_job(off_policy_job(tmp_path, tiny_model, server.url, max_off_policy_steps=0, max_steps=3))
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=timeline, stop=Stop())
    trained = [event for event in timeline.events if event[1] == "train"]
    assert trained == [(what, "train", step) for step in (1, 2, 3) for what in ("begun", "committed")]
    rows = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    for step, row in enumerate(rows, start=1):
        assert versions(store, job_id, "train", step) == {row["policy_version"] - 1}
        assert row["off_policy_steps"] == row["rollouts_over_update"] == row["groups_too_old"] == 0
        assert "draw" not in row


async def test_rollouts_run_ahead_and_are_no_older_than_the_job_allows(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        spec = load_job(off_policy_job(tmp_path, tiny_model, server.url, max_off_policy_steps=2, n_epochs=2))
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    first = trained[0]["policy_version"] - 1
    ages = [row["off_policy_steps"] for row in trained]
    assert ages[0] == 0 and max(ages) in (1, 2)
    for step, row in enumerate(trained, start=1):
        seen = versions(store, job_id, "train", step)
        assert first + step - 1 - min(seen) == row["off_policy_steps"]
        assert 0 <= row["off_policy_steps_mean"] <= row["off_policy_steps"]
        assert 0 <= row["engine_idle_share"] <= 1
    assert any(row["rollouts_over_update"] > 0 for row in trained)
    # A validation is of the policy after its step alone.
    assert versions(store, job_id, "validation", 4) == {first + 4}
    # The policy moved between sampling and training, which the first step cannot show.
    assert max(row["logprob_gap_mean"] for row in trained[1:]) > 3 * trained[0]["logprob_gap_mean"]
    assert_every_sample_was_trained_on_as_it_is_drawn(store, job_id)


async def test_validations_in_between_are_of_the_policy_after_their_step(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        spec = load_job(off_policy_job(tmp_path, tiny_model, server.url, eval_interval=2, max_off_policy_steps=3))
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    first = trained[0]["policy_version"] - 1
    assert [versions(store, job_id, "validation", step) for step in (2, 4)] == [{first + 2}, {first + 4}]


@pytest.mark.parametrize("sample_by", ["epoch", "difficulty"])
async def test_what_was_sampled_ahead_survives_an_interruption(
    tiny_model: Path, tmp_path: Path, sample_by: str
) -> None:
    class StopAfterTwo(NoProgress):
        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if (phase, step) == ("train", 2):
                stop.request()

    stop = Stop()
    async with ChaosServer() as server:
        path = off_policy_job(tmp_path, tiny_model, server.url, sample_by=sample_by, n_epochs=2, max_off_policy_steps=2)
        spec = load_job(path)
        store, job_id = create_job(spec)
        with pytest.raises(Interrupted):
            await run_job(spec, store, job_id, progress=StopAfterTwo(), stop=stop)
        assert store.get_job(job_id).status == "interrupted"
        pending = [
            payload["trace_id"]
            for step in range(1, 6)
            for payload in store.pending_rollouts(job_id, "train", step).values()
        ]
        await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
    assert store.get_job(job_id).status == "succeeded"
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert [row["step"] for row in trained] == [1, 2, 3, 4]
    assert all(row["off_policy_steps"] <= 2 for row in trained)
    traces = [one.trace_id for step in range(1, 5) for one in rollouts_of(store, job_id, "train", step)]
    assert len(set(traces)) == len(traces) == 4 * 2 * 4
    if not any(row["groups_too_old"] for row in trained):
        assert set(pending) <= set(traces)
    assert not any(store.pending_rollouts(job_id, "train", step) for step in range(1, 6))


@pytest.mark.parametrize("moment", ["during rollouts", pytest.param("in the update", marks=pytest.mark.slow)])
def test_a_killed_job_trains_on_every_sample_and_on_none_twice(
    moment: str, tiny_model: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    with serving(ChaosServer()) as server:
        job_file = off_policy_job(tmp_path, tiny_model, server.url, max_off_policy_steps=2, n_epochs=2)
        log = tmp_path / "log.txt"
        assert fork_server.run(job_file, kill_at=moment) == -signal.SIGKILL, log.read_text()
        with JobStore(tmp_path / "runs", create=False) as store:
            job_id = store.find_job("latest").job_id
            graded = {
                payload["trace_id"]
                for step in range(1, 6)
                for payload in store.pending_rollouts(job_id, "train", step).values()
            }
            calls_before = len(tool_calls(server))
        assert graded
        assert fork_server.run(job_file, job_id=job_id) == 0, log.read_text()
        calls_after = {call["trace_id"] for call in tool_calls(server)[calls_before:]}
    assert not graded & calls_after, "nothing that was graded is done again"
    assert all(times == 1 for key, times in server.executed.items() if key)
    with JobStore(tmp_path / "runs", create=False) as store:
        assert_every_sample_was_trained_on_as_it_is_drawn(store, job_id)
        assert not any(store.pending_rollouts(job_id, "train", step) for step in range(1, 6))


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


def test_servers_that_sleep_during_updates_have_no_rollouts_in_flight(tmp_path: Path) -> None:
    path = write_job(
        tmp_path,
        Path("model"),
        "http://127.0.0.1:1/tool",
        engine={"type": "vllm", "url": "http://127.0.0.1:1", "sleep": True},
        hyperparameters={"max_off_policy_steps": 2},
    )
    with pytest.raises(UserError, match="max_off_policy_steps: rollouts go on during updates, for which engine.sleep"):
        load_job(path)


@pytest.mark.parametrize("steps", [-1, 17])
def test_how_old_rollouts_may_be_has_bounds(tmp_path: Path, steps: int) -> None:
    path = write_job(
        tmp_path, Path("model"), "http://127.0.0.1:1/tool", hyperparameters={"max_off_policy_steps": steps}
    )
    with pytest.raises(UserError, match="max_off_policy_steps"):
        load_job(path)


def test_an_engine_device_that_is_not_there_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, tiny_model, "http://127.0.0.1:1/tool", engine={"device": "cuda:77"})
    with pytest.raises(UserError, match="engine.device: cuda:77 is not there"):
        Runtime(load_job(path))
