"""Checkpoints that are not written at every step: what was learned since the newest one is made again from the stored
rollouts, without sampling, calling or grading anything, and ends where an undisturbed job ends."""

import json
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrft.errors import Interrupted, JobPaused, UserError
from agentrft.job import NoProgress, Stop, create_job, resolve_reference, resume_job, run_job, step_checkpoints
from agentrft.job.export import describe_weights
from agentrft.job.tasks import comparable
from agentrft.job.training_state import TrainingState
from agentrft.learner import Learner, UpdateMetrics
from agentrft.spec import JobSpec, load_job
from agentrft.store import JobStore, read_rollouts, write_rollouts
from agentrft.store.layout import rollouts_file, step_folder
from tests.job.ended import Ended, ended
from tests.job.fork_server import ForkServer
from tests.job.tiny_job import serving, tool_calls, write_job
from tests.traffic.chaos_server import ChaosServer

STEPS, INTERVAL = 5, 3
# By the schedule of seed 7 these words are in steps that are made again: one whose groups are lost, as the grader
# breaks on them, one whose groups lose some of their rollouts, and one whose group teaches nothing and is replaced.
GRADER = """
def grade(sample, item):
    text = sample["output_text"]
    if item["word"] == "table" or (item["word"] == "apple" and "light" in text):
        raise ValueError("not this one")
    return 0.5 if item["word"] == "horse" else min(1.0, len(text) / 20)
"""
# All that makes a step depend on steps before it, or an update on more than its groups' rewards.
EVERYTHING: dict[str, Any] = {
    "max_steps": STEPS,
    "n_epochs": 2,
    "checkpoint_interval": INTERVAL,
    "eval_interval": 99,
    "minibatches": 2,
    "update_epochs": 2,
    "replay_rollouts": 4,
    "replay_weight": 0.5,
    "borrow_answers": True,
    "sample_by": "difficulty",
    "dynamic_sampling": 1,
    "kl_weight": 0.1,
}


def write(folder: Path, model: Path, url: str, *, lora_rank: Any = "full", **changes: Any) -> Path:
    hyperparameters = {**EVERYTHING, "lora_rank": lora_rank, **changes.pop("hyperparameters", {})}
    grader = {"type": "python", "trusted": True, "name": "length", "source": GRADER, "pass_threshold": 0.5}
    usual = {"warm_start": None, "baseline": {"enabled": False}, "grader": grader}
    return write_job(folder, model, url, **{**usual, **changes}, hyperparameters=hyperparameters)


# One after another, each in a process of its own that goes on where the one before it died.
KILLS = [
    "after a commit of step 2",  # no checkpoint but the first
    "in the update of step 2",  # while step 2 is made again
    "in a checkpoint of step 3",
    "in the update of step 5",
]


@pytest.mark.parametrize(
    ("lora_rank", "kills"),
    [
        ("full", [KILLS[3]]),
        pytest.param("full", KILLS, marks=pytest.mark.slow),
        pytest.param(4, KILLS, marks=pytest.mark.slow),
    ],
)
def test_a_job_that_is_killed_between_checkpoints_ends_as_an_undisturbed_one(
    tiny_model: Path, fork_server: ForkServer, tmp_path: Path, lora_rank: Any, kills: list[str]
) -> None:
    found: dict[str, tuple[Ended, int]] = {}
    for name, moments in {"whole": [], "killed": kills}.items():
        with serving(ChaosServer()) as server:
            job_file = write(tmp_path / name, tiny_model, server.url, lora_rank=lora_rank, deterministic=True)
            log, job_id = job_file.with_name("log.txt"), None
            for moment in moments:
                assert fork_server.run(job_file, job_id=job_id, kill_at=moment) == -signal.SIGKILL, log.read_text()
                with JobStore(job_file.parent / "runs", create=False) as store:
                    job_id = store.find_job("latest").job_id
            assert fork_server.run(job_file, job_id=job_id) == 0, log.read_text()
            found[name] = ended(job_file.parent / "runs"), len(tool_calls(server))

    (whole, calls), (killed, calls_of_killed) = found["whole"], found["killed"]
    trained = [line for line in whole.lines if line["phase"] == "train"]
    assert [line["step"] for line in trained] == [1, 2, 3, 4, 5]
    assert [line["replayed"] > 0 for line in trained] == [False, True, True, True, True]
    assert max(line["optimizer_steps"] for line in trained) == 4
    # What is made again are steps 1, 2 and 4.
    assert [line["groups_dropped"] for line in trained] == [1, 0, 0, 1, 0]
    assert trained[1]["groups_replaced"] == 1
    assert [comparable(line) for line in killed.lines] == [comparable(line) for line in whole.lines]
    assert calls_of_killed == calls, "no call was made a second time"
    for step in (0, 5):
        states = [torch.load(step_folder(job.folder, step) / "state.pt") for job in (whole, killed)]
        _assert_equal(*states)
    for job in (whole, killed):
        # The validated one is the last.
        assert _steps(job.folder) == [0, 5]
    with JobStore(killed.folder.parent, create=False) as store:
        texts = [event.message for event in store.events(killed.folder.name)]
        replays = [text.partition(" (")[0] for text in texts if text.startswith("replayed")]
        # The process that is killed while it replays says nothing; the last one is killed no more.
        expected = ["updates of steps 1 to 2"] * (len(kills) // 2) + ["update of step 4"]
        assert replays == [f"replayed the {what} from stored rollouts" for what in expected]
        assert len([text for text in texts if text.startswith("step 1: rollouts left their groups")]) == 1


def _assert_equal(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            _assert_equal(one[key], other[key])
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def _steps(job_folder: Path) -> list[int]:
    return sorted(int(path.name.removeprefix("step-")) for path in (job_folder / "checkpoints").iterdir())


class Crash(Exception):
    """What no handler of a job knows: it ends at once, as if it were killed."""


class Crashing(NoProgress):
    """Ends the job when a training step is on disk."""

    def __init__(self, step: int) -> None:
        self._step = step

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if (phase, step) == ("train", self._step):
            raise Crash


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, dict[str, torch.Tensor]]]:
    """Of each update: the policy's version after it, and its weights."""
    found: list[tuple[int, dict[str, torch.Tensor]]] = []
    original = Learner.update

    def update(self: Learner, plan: Any) -> UpdateMetrics:
        metrics = original(self, plan)
        found.append((self.policy.version, self.policy.master_state()))
        return metrics

    monkeypatch.setattr(Learner, "update", update)
    return found


async def crashed(job_file: Path, step: int) -> tuple[JobStore, str]:
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    with pytest.raises(Crash):
        await run_job(spec, store, job_id, progress=Crashing(step), stop=Stop())
    return store, job_id


async def go_on(store: JobStore, job_id: str) -> None:
    await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())


async def test_sampled_ahead_and_in_the_fast_mode_what_is_replayed_agrees(
    tiny_model: Path, tmp_path: Path, weights: list[tuple[int, dict[str, torch.Tensor]]]
) -> None:
    async with ChaosServer() as server:
        job_file = write(tmp_path, tiny_model, server.url, lora_rank=4, hyperparameters={"max_off_policy_steps": 1})
        store, job_id = await crashed(job_file, 2)
        first = list(weights)
        calls = len(server.received)
        weights.clear()
        with store:
            await go_on(store, job_id)
            assert [row["step"] for row in store.metrics(job_id) if row["phase"] == "train"] == [1, 2, 3, 4, 5]
            assert not [event for event in store.events(job_id) if "made again, is not" in event.message]
    assert len(server.received) > calls
    assert [version for version, _ in first] == [version for version, _ in weights[:2]] == [1, 2]
    assert len(weights) == STEPS
    for (_, expected), (_, again) in zip(first, weights, strict=False):
        assert all(torch.allclose(again[name], one, rtol=0, atol=1e-5) for name, one in expected.items())


async def test_checkpoints_are_those_of_the_cadence_the_validated_ones_and_the_newest(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    original = step_checkpoints.save_checkpoint

    def save_checkpoint(folder: Path, *arguments: Any) -> None:
        written.append(folder.name)
        original(folder, *arguments)

    monkeypatch.setattr(step_checkpoints, "save_checkpoint", save_checkpoint)
    async with ChaosServer() as server:
        changes = {"max_steps": 8, "n_epochs": 3, "eval_interval": 4, "replay_rollouts": 0}
        job_file = write(tmp_path, tiny_model, server.url, lora_rank=4, hyperparameters=changes)
        spec = load_job(job_file)
        store, job_id = create_job(spec, source=job_file)
        with store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            assert written == [f"step-{step:05d}" for step in (0, 3, 4, 6, 8)]
            assert sorted(store.checkpoints(job_id)) == [0, 4, 8]
            rows = [row for row in store.metrics(job_id) if row["phase"] == "train"]
            assert [row["step"] for row in rows if row["checkpoint_s"] > 0] == [3, 4, 6, 8]
            expected = "no checkpoint of step 5: they are written every 3 steps"
            with pytest.raises(UserError, match=expected) as refused:
                describe_weights(resolve_reference(f"{job_id}@5", store), store)
            assert refused.value.remedy == "Name one that it has: 0, 4, 8."


async def test_a_checkpoint_of_all_weights_takes_what_is_said_before_it_is_written(
    tiny_model: Path, tmp_path: Path
) -> None:
    changes = {"max_steps": 2, "checkpoint_interval": "auto", "sample_by": "epoch", "kl_weight": 0.0}
    async with ChaosServer() as server:
        job_file = write(tmp_path, tiny_model, server.url, hyperparameters=changes)
        spec = load_job(job_file)
        store, job_id = create_job(spec, source=job_file)
        with store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            chosen = store.get_job(job_id).hyperparameters
            assert chosen and chosen["checkpoint_interval"] == 8
            folder = step_folder(store.job_folder(job_id), 2)
    masters = torch.load(folder / "state.pt")["masters"]
    numbers = sum(master.numel() for master in masters.values())
    said = TrainingState.of(numbers, torch.float32, all_weights=True)
    found = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert found == pytest.approx(said.checkpoint, rel=0.02)
    assert said.checkpoint_interval == 8


class Stopping(NoProgress):
    def __init__(self, stop: Stop, step: int) -> None:
        self._stop, self._step = stop, step

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if (phase, step) == ("train", self._step):
            self._stop.request()


FLAT = {
    "grader": {"type": "python", "trusted": True, "name": "flat", "source": "def grade(sample, item):\n    return 0.0"},
    "alarms": {"zero_variance_share": {"threshold": 0.5, "over_steps": 2, "action": "pause"}},
}


@pytest.mark.parametrize("pauses", [False, True])
async def test_a_job_that_is_stopped_or_pauses_keeps_its_last_step(
    tiny_model: Path, tmp_path: Path, pauses: bool
) -> None:
    async with ChaosServer() as server:
        changes = {"checkpoint_interval": 99}
        more = FLAT if pauses else {}
        job_file = write(tmp_path, tiny_model, server.url, lora_rank=4, hyperparameters=changes, **more)
        spec = load_job(job_file)
        store, job_id = create_job(spec, source=job_file)
        stop = Stop()
        with store:
            progress = NoProgress() if pauses else Stopping(stop, 2)
            with pytest.raises(JobPaused if pauses else Interrupted):
                await run_job(spec, store, job_id, progress=progress, stop=stop)
            assert store.get_job(job_id).status == ("paused" if pauses else "interrupted")
            assert sorted(store.checkpoints(job_id)) == [0, 2]
            if not pauses:
                await go_on(store, job_id)
                assert not [event for event in store.events(job_id) if event.message.startswith("replayed")]
                assert sorted(store.checkpoints(job_id)) == [0, 5]


@pytest.mark.parametrize("how", ["missing", "cut off", "fewer"])
async def test_rollouts_that_are_gone_are_named_and_the_job_goes_on_once_they_are_back(
    tiny_model: Path, tmp_path: Path, how: str
) -> None:
    async with ChaosServer() as server:
        job_file = write(tmp_path, tiny_model, server.url, lora_rank=4, hyperparameters={"sample_by": "epoch"})
        store, job_id = await crashed(job_file, 2)
        with store, _spoiled(rollouts_file(store.job_folder(job_id), "train", 1), how):
            before = store.metrics(job_id)
            with pytest.raises(UserError) as refused:
                await go_on(store, job_id)
            assert "the update of step 1 is in no checkpoint and cannot be made again" in refused.value.cause
            assert "train-00001.parquet" in refused.value.cause
            assert f"start_from: {step_folder(store.job_folder(job_id), 0)}" in refused.value.remedy
            assert store.get_job(job_id).status == "failed" and store.metrics(job_id) == before
        if how == "missing":
            await go_on(store, job_id)
            assert store.get_job(job_id).status == "succeeded"


@contextmanager
def _spoiled(path: Path, how: str) -> Iterator[None]:
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "cut off":
        path.write_bytes(whole[: len(whole) // 2])
    else:
        write_rollouts(path, read_rollouts(path)[1:])
    yield
    path.write_bytes(whole)


async def test_a_checkpoint_that_is_gone_costs_updates_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        job_file = write(tmp_path, tiny_model, server.url, lora_rank=4)
        store, job_id = await crashed(job_file, 4)
        with store:
            shutil.rmtree(step_folder(store.job_folder(job_id), 3))
            await go_on(store, job_id)
            told = [event.data for event in store.events(job_id) if event.message.startswith("replayed")]
            assert [(data["replayed_from"], data["replayed_to"]) for data in told] == [(1, 4)]
            lines = (store.job_folder(job_id) / "metrics.jsonl").read_text().splitlines()
            steps = [line["step"] for line in map(json.loads, lines) if line["phase"] == "train"]
            assert steps == [1, 2, 3, 4, 5]


async def test_batches_of_a_warm_start_are_learned_again(tiny_model: Path, tmp_path: Path) -> None:
    class CrashingWarm(NoProgress):
        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if (phase, step) == ("warm_start", 4):
                raise Crash

    found: list[tuple[list[dict[str, Any]], dict[str, torch.Tensor]]] = []
    async with ChaosServer() as server:
        for name in ("whole", "crashed"):
            warm = {"training_file": "demonstrations.jsonl", "batch_size": 2, "learning_rate": 1e-3, "n_epochs": 3}
            job_file = write(tmp_path / name, tiny_model, server.url, warm_start=warm, hyperparameters={"max_steps": 1})
            spec: JobSpec = load_job(job_file)
            store, job_id = create_job(spec, source=job_file)
            with store:
                if name == "crashed":
                    with pytest.raises(Crash):
                        await run_job(spec, store, job_id, progress=CrashingWarm(), stop=Stop(), warm_start_only=True)
                    assert [path.name for path in (store.job_folder(job_id) / "checkpoints").iterdir()] == [
                        "warm-start-00003"
                    ]
                await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop(), warm_start_only=True)
                rows = [row for row in store.metrics(job_id) if row["phase"] == "warm_start"]
                state = torch.load(step_folder(store.job_folder(job_id), 0) / "state.pt")
                found.append((rows, state["masters"]))
                texts = [event.message for event in store.events(job_id)]
                again = [text for text in texts if text.startswith("learned batches 4 to 4 of the warm start again")]
                assert len(again) == (name == "crashed")
    (whole, expected), (rows, masters) = found
    assert len(whole) == 6 and [comparable(row) for row in rows] == [comparable(row) for row in whole]
    assert all(torch.equal(masters[name], one) for name, one in expected.items())
