"""A whole job with two ranks is the job with one; and one whose rank was killed goes on where it was."""

import asyncio
import copy
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from agentrft.cluster import RankedLearner
from agentrft.errors import JobFailedError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.tasks import comparable
from agentrft.learner import Policy, optimizer
from agentrft.spec import load_job
from agentrft.store import JobStore
from agentrft.store.layout import MODEL, STATE, step_folder
from tests.cluster.pairs import OF_PASSES
from tests.job.ended import Ended, ended
from tests.job.tiny_job import PHASES, serving, write_job
from tests.traffic.chaos_server import ChaosServer

TWO = {"learner_workers": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[ChaosServer]:
    with serving(ChaosServer()) as server:
        yield server


def run(job_file: Path) -> Ended:
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    with store:
        asyncio.run(run_job(spec, store, job_id, progress=NoProgress(), stop=Stop()))
    return ended(job_file.parent / "runs")


def resume(job_file: Path) -> Ended:
    with JobStore(job_file.parent / "runs", create=False) as store:
        job_id = store.find_job("latest").job_id
        spec = resume_job(store, job_id)
        asyncio.run(run_job(spec, store, job_id, progress=NoProgress(), stop=Stop()))
    return ended(job_file.parent / "runs")


def assert_same_job(found: Ended, expected: Ended) -> None:
    """The same metrics of the same steps, and the same weights, but for the order of sums."""
    assert len(found.lines) == len(expected.lines)
    for one, other in zip(map(comparable, found.lines), map(comparable, expected.lines), strict=True):
        assert one.keys() == other.keys()
        differing = {
            name: (one[name], other[name])
            for name in one.keys() - OF_PASSES
            if one[name] != other[name] and not are_close(name, one[name], other[name])
        }
        assert not differing, (one["phase"], one["step"])
    assert found.best_step == expected.best_step
    states = [torch.load(step_folder(job.folder, 3) / STATE) for job in (found, expected)]
    masters = [state["masters"] for state in states]
    assert masters[0].keys() == masters[1].keys()
    for name, master in masters[1].items():
        torch.testing.assert_close(masters[0][name], master, rtol=1e-3, atol=1e-5)


def are_close(name: str, one: Any, other: Any) -> bool:
    # A gap is rounding itself.
    absolute = 2e-5 if name.startswith("logprob_gap") else 1e-6
    return isinstance(one, float | list) and one == pytest.approx(other, rel=1e-4, abs=absolute)


def kill_a_rank(monkeypatch: pytest.MonkeyPatch, *, in_update: int) -> None:
    """When this process comes to the collective end of an update, the other rank is no more."""
    add_up, updates = Policy.add_up_gradients, []
    make_update = RankedLearner.make_update

    def counted(self: RankedLearner, plan: Any) -> Any:
        updates.append(plan)
        return make_update(self, plan)

    def add_up_alone(self: Policy, collective: Any) -> Any:
        if len(updates) == in_update:
            os.kill(self.followers.processes[0], signal.SIGKILL)  # type: ignore[attr-defined]
        return add_up(self, collective)

    monkeypatch.setattr(RankedLearner, "make_update", counted)
    monkeypatch.setattr(Policy, "add_up_gradients", add_up_alone)


@pytest.fixture(scope="module")
def alone(tiny_model: Path, server: ChaosServer, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    return run(write_job(tmp_path_factory.mktemp("alone"), tiny_model, server.url, deterministic=True))


def test_a_job_with_two_ranks_ends_as_with_one_also_where_one_of_them_is_killed(
    alone: Ended, tiny_model: Path, server: ChaosServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [(line["phase"], line["step"]) for line in alone.lines] == PHASES
    job_file = write_job(tmp_path, tiny_model, server.url, deterministic=True, cluster=TWO)
    with monkeypatch.context() as patched:
        kill_a_rank(patched, in_update=2)
        with pytest.raises(JobFailedError, match=r"rank 1 of the learner \(process \d+\) was ended by SIGKILL"):
            run(job_file)
    with JobStore(tmp_path / "runs", create=False) as store:
        job = store.find_job("latest")
        assert job.status == "failed"
        assert [row["step"] for row in store.metrics(job.job_id) if row["phase"] == "train"] == [1]
    assert_same_job(resume(job_file), alone)


@pytest.mark.slow
def test_a_job_of_all_weights_with_two_ranks_ends_as_with_one(
    tiny_model: Path, server: ChaosServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes: dict[str, Any] = {
        "deterministic": True,
        "hyperparameters": {"lora_rank": "full", "kl_weight": 0.05, "minibatches": 2, "checkpoint_interval": 2},
    }
    with monkeypatch.context() as patched:
        # A group in each pass, as with two ranks: where a gradient is next to nothing AdamW's first steps make much of
        # how its sum was rounded, whatever the number of ranks.
        patched.setattr(optimizer, "CPU_TOKENS_PER_PASS", 64)
        alone = run(write_job(tmp_path / "alone", tiny_model, server.url, **copy.deepcopy(changes)))
    both = run(write_job(tmp_path / "both", tiny_model, server.url, cluster=TWO, **changes))
    assert_same_job(both, alone)
    saved = [AutoModelForCausalLM.from_pretrained(step_folder(job.folder, 3) / MODEL) for job in (both, alone)]
    for one, other in zip(*(model.parameters() for model in saved), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_a_job_on_a_divided_model_ends_as_with_one(
    alone: Ended, tiny_model: Path, server: ChaosServer, tmp_path: Path
) -> None:
    cluster = {**TWO, "shard_base": True}
    assert_same_job(run(write_job(tmp_path, tiny_model, server.url, deterministic=True, cluster=cluster)), alone)
