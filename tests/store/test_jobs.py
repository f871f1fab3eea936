import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrft.errors import UserError
from agentrft.store import JobStore, PendingKey, PendingRollout
from agentrft.store.states import TRANSITIONS


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "runs") as opened:
        yield opened


@pytest.fixture
def job_id(store: JobStore) -> str:
    return store.create_job({"model": "smollm2-135m", "seed": 3}, model="smollm2-135m", seed=3)


def test_a_new_job_is_stored_as_it_was_passed_and_has_a_folder(store: JobStore, job_id: str) -> None:
    job = store.get_job(job_id)
    assert job_id.startswith("ftjob-") and len(job_id) == len("ftjob-") + 12
    assert (job.status, job.model, job.seed, job.step) == ("created", "smollm2-135m", 3, 0)
    assert job.spec == {"model": "smollm2-135m", "seed": 3}
    assert (job.phase, job.hyperparameters, job.finished_at, job.pid, job.best_step) == (None,) * 5
    assert abs(job.created_at - time.time()) < 60
    assert (store.output_dir / job_id).is_dir()


def test_what_is_recorded_is_there_when_the_store_is_opened_again(store: JobStore, job_id: str) -> None:
    store.record_hyperparameters(job_id, {"batch_size": 8, "lora_rank": None})
    store.set_total_steps(job_id, 40)
    store.set_best_step(job_id, 20)
    store.set_phase(job_id, "train", 4)
    store.close()
    with JobStore(store.output_dir, create=False) as again:
        job = again.get_job(job_id)
    assert job.hyperparameters == {"batch_size": 8, "lora_rank": None}
    assert (job.total_steps, job.best_step, job.phase, job.step) == (40, 20, "train", 4)


def test_an_unknown_job_is_an_error_that_lists_the_newest(store: JobStore, job_id: str) -> None:
    for use in (store.get_job, store.find_job, lambda name: store.set_phase(name, "train", 1)):
        with pytest.raises(UserError, match=job_id):
            use("ftjob-zzzzzzzzzzzz")


def test_a_store_without_jobs_says_so(store: JobStore) -> None:
    for name in ("latest", "abc"):
        with pytest.raises(UserError, match="there are no jobs"):
            store.find_job(name)


def test_a_job_is_found_by_id_by_prefix_and_as_the_latest(store: JobStore, job_id: str) -> None:
    newer = store.create_job({}, model="m", seed=0)
    assert store.find_job("latest").job_id == newer
    assert store.find_job(job_id).job_id == job_id
    assert store.find_job(job_id[:14]).job_id == job_id
    assert store.find_job(job_id.removeprefix("ftjob-")[:8]).job_id == job_id
    assert [job.job_id for job in store.list_jobs()] == [newer, job_id]


def test_a_prefix_that_fits_several_jobs_is_refused(store: JobStore, job_id: str) -> None:
    store.create_job({}, model="m", seed=0)
    with pytest.raises(UserError, match="fits 2 jobs"):
        store.find_job("ftjob-")


def _bring_to(store: JobStore, status: str) -> str:
    job_id = store.create_job({}, model="m", seed=0)
    steps = {"created": [], "queued": ["queued"], "cancelled": ["cancelled"], "running": ["running"]}
    for step in steps.get(status, ["running", status]):
        store.set_status(job_id, step)  # type: ignore[arg-type]
    return job_id


@pytest.mark.parametrize("old", list(TRANSITIONS))
def test_a_job_moves_only_as_the_table_of_transitions_says(store: JobStore, old: str) -> None:
    for new in TRANSITIONS:
        job_id = _bring_to(store, old)
        if new in TRANSITIONS[old]:
            store.set_status(job_id, new)
            assert store.get_job(job_id).status == new
        else:
            with pytest.raises(ValueError, match=f"'{old}' cannot become '{new}'"):
                store.set_status(job_id, new)
            assert store.get_job(job_id).status == old


def test_a_failed_job_keeps_its_error_until_it_runs_again(store: JobStore, job_id: str) -> None:
    store.set_status(job_id, "running")
    assert store.get_job(job_id).pid is not None
    store.set_status(job_id, "failed", error="the tool went away")
    job = store.get_job(job_id)
    assert (job.error, job.pid) == ("the tool went away", None)
    assert job.finished_at is not None
    store.set_status(job_id, "running")
    job = store.get_job(job_id)
    assert (job.error, job.finished_at) == (None, None)


def test_events_come_back_in_order_with_their_data(store: JobStore, job_id: str) -> None:
    store.add_event(job_id, "info", "started", {"pid": 1})
    store.add_event(job_id, "warning", "a group was dropped")
    events = store.events(job_id)
    assert [(event.level, event.message, event.data) for event in events] == [
        ("info", "started", {"pid": 1}),
        ("warning", "a group was dropped", {}),
    ]


def test_a_pending_rollout_comes_back_exactly(store: JobStore, job_id: str) -> None:
    payload = {"sampled_logprobs": [-0.1, -1e-17, -3.0000000000000004], "text": "naïve 🙂", "reward": None}
    store.add_pending_rollout(job_id, "train", 1, "00001-ab/0", payload)
    assert store.pending_rollouts(job_id, "train", 1) == {"00001-ab/0": payload}
    assert store.pending_rollouts(job_id, "train", 2) == {}
    assert store.pending_rollouts(job_id, "baseline", 1) == {}


def test_a_second_rollout_under_the_same_key_is_an_error_and_replaces_nothing(store: JobStore, job_id: str) -> None:
    store.add_pending_rollout(job_id, "train", 1, "a", {"reward": 1})
    with pytest.raises(ValueError, match="'a'"):
        store.add_pending_rollout(job_id, "train", 1, "a", {"reward": 2})
    assert store.pending_rollouts(job_id, "train", 1) == {"a": {"reward": 1}}
    store.add_pending_rollout(job_id, "train", 2, "a", {"reward": 2})


def test_several_pending_rollouts_are_stored_all_or_none(store: JobStore, job_id: str) -> None:
    store.add_pending_rollouts(job_id, [PendingRollout("train", 1, key, {"key": key}) for key in "ba"])
    assert list(store.pending_rollouts(job_id, "train", 1)) == ["b", "a"]
    with pytest.raises(ValueError):
        store.add_pending_rollouts(job_id, [PendingRollout("train", 1, key, {}) for key in "cab"])
    assert list(store.pending_rollouts(job_id, "train", 1)) == ["b", "a"]
    store.add_pending_rollouts(job_id, [])


def test_a_committed_step_has_its_metrics_and_no_pending_rollouts(store: JobStore, job_id: str) -> None:
    for step in (1, 2):
        store.add_pending_rollout(job_id, "train", step, "a", {})
    store.commit_step(job_id, "train", 1, {"reward": 0.25, "loss": 0.5})
    job = store.get_job(job_id)
    assert (job.phase, job.step) == ("train", 1)
    assert store.pending_rollouts(job_id, "train", 1) == {}
    assert list(store.pending_rollouts(job_id, "train", 2)) == ["a"]
    assert store.metrics(job_id) == [{"phase": "train", "step": 1, "loss": 0.5, "reward": 0.25}]


def test_a_step_may_be_done_with_pending_rollouts_of_any_step(store: JobStore, job_id: str) -> None:
    keys = [f"{number}" for number in range(1200)]
    for step in (1, 2):
        store.add_pending_rollouts(job_id, [PendingRollout("train", step, key, {}) for key in keys])
    store.add_pending_rollout(job_id, "validation", 2, "5", {})
    store.commit_step(job_id, "train", 1, {}, settled=[PendingKey(1, key) for key in keys[:-1]] + [PendingKey(2, "5")])
    assert list(store.pending_rollouts(job_id, "train", 1)) == keys[-1:]
    assert list(store.pending_rollouts(job_id, "train", 2)) == [key for key in keys if key != "5"]
    assert list(store.pending_rollouts(job_id, "validation", 2)) == ["5"]
    store.commit_step(job_id, "train", 2, {}, settled=[])
    assert len(store.pending_rollouts(job_id, "train", 2)) == len(keys) - 1


def test_several_steps_are_committed_all_or_none(store: JobStore, job_id: str) -> None:
    store.commit_steps(job_id, "train", [(1, {"loss": 0.5}), (2, {"loss": 0.25})])
    assert [(row["step"], row["loss"]) for row in store.metrics(job_id)] == [(1, 0.5), (2, 0.25)]
    assert store.get_job(job_id).step == 2
    with pytest.raises(ValueError, match="one of the steps 2 to 3 of 'train' was committed before"):
        store.commit_steps(job_id, "train", [(3, {"loss": 9.0}), (2, {"loss": 9.0})][::-1])
    assert [row["step"] for row in store.metrics(job_id)] == [1, 2]
    store.commit_steps(job_id, "train", [])
    lines = (store.job_folder(job_id) / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]


def test_a_step_cannot_be_committed_twice_and_the_second_changes_nothing(store: JobStore, job_id: str) -> None:
    store.commit_step(job_id, "train", 1, {"reward": 0.25})
    store.add_pending_rollout(job_id, "train", 1, "a", {})
    with pytest.raises(ValueError, match="committed before"):
        store.commit_step(job_id, "train", 1, {"reward": 9})
    assert store.metrics(job_id) == [{"phase": "train", "step": 1, "reward": 0.25}]
    assert list(store.pending_rollouts(job_id, "train", 1)) == ["a"]


def test_metrics_keep_the_order_of_their_commits(store: JobStore, job_id: str) -> None:
    for phase, step in (("baseline", 0), ("train", 1), ("validation", 1), ("train", 2)):
        store.commit_step(job_id, phase, step, {"reward": step})
    assert [(row["phase"], row["step"]) for row in store.metrics(job_id)] == [
        ("baseline", 0),
        ("train", 1),
        ("validation", 1),
        ("train", 2),
    ]


def test_the_metrics_file_is_the_same_whether_appended_or_rewritten(store: JobStore, job_id: str) -> None:
    store.commit_step(job_id, "train", 1, {"reward": 0.1, "dropped": {"tool:timeout": 2}})
    store.commit_step(job_id, "train", 2, {"dropped": {}, "reward": 0.2})
    path = store.job_folder(job_id) / "metrics.jsonl"
    appended = path.read_text()
    assert appended.splitlines()[0] == '{"phase": "train", "step": 1, "dropped": {"tool:timeout": 2}, "reward": 0.1}'
    path.write_text('{"phase": "train", "st')
    store.rewrite_metrics_file(job_id)
    assert path.read_text() == appended


def test_a_number_that_is_not_finite_becomes_null_in_the_metrics(store: JobStore, job_id: str) -> None:
    store.commit_step(job_id, "train", 1, {"loss": float("nan"), "norms": [1.0, float("inf")]})
    line = (store.job_folder(job_id) / "metrics.jsonl").read_text()
    assert json.loads(line) == {"phase": "train", "step": 1, "loss": None, "norms": [1.0, None]}
    assert store.metrics(job_id) == [json.loads(line)]


def test_threads_write_at_once_without_losing_anything(store: JobStore, job_id: str) -> None:
    def write(thread: int) -> None:
        for number in range(25):
            store.add_pending_rollout(job_id, "train", 1, f"{thread}/{number}", {"n": number})

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.pending_rollouts(job_id, "train", 1)) == 100
