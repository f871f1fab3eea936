"""Where a job spends its rollouts: groups that are decided, and samples that teach nothing."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from agentrft.data import load_samples
from agentrft.errors import Interrupted
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.schedule import Difficulty
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer

# Every other word gets full reward whatever the answer is, and whether there is one.
HALF_FLAT = """
def grade(sample, item):
    return 1.0 if item["word"] in ("apple", "river", "table") else min(1.0, len(sample["output_text"]) / 20)
"""
FLAT_WORDS = {"apple", "river", "table"}


def half_flat_job(folder: Path, model: Path, url: str, **hyperparameters: Any) -> Path:
    return write_job(
        folder,
        model,
        url,
        grader={"type": "python", "trusted": True, "name": "half", "source": HALF_FLAT},
        engine={"max_concurrent_rollouts": 4},
        baseline={"enabled": False},
        model_failed_reward=1.0,
        hyperparameters={"batch_size": 6, "eval_interval": 99, **hyperparameters},
    )


def train_rollouts(store: JobStore, job_id: str, step: int) -> list[dict[str, Any]]:
    return read_rollouts(store.job_folder(job_id) / "rollouts" / f"train-{step:05d}.parquet")


async def test_a_group_whose_first_rollouts_are_all_right_is_not_sampled_to_its_end(
    tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer() as server:
        path = half_flat_job(
            tmp_path, tiny_model, server.url, max_steps=1, compute_multiplier=2, decide_after=4, temperature=1.3
        )
        spec = load_job(path)
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    words = {sample.sample_id: sample.item["word"] for sample in load_samples(spec.training_file)}
    sampled = Counter(words[row["sample_id"]] for row in train_rollouts(store, job_id, 1))
    (metrics,) = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    # Those that had begun when the group was decided are finished: at most what the engine takes at once.
    assert all(4 <= sampled[word] <= 4 + 4 for word in FLAT_WORDS)
    assert metrics["rollouts_skipped"] == 6 * 16 - sum(sampled.values()) >= 3 * 8
    assert max(sampled[word] for word in set(sampled) - FLAT_WORDS) == 16


async def test_a_resumed_job_draws_by_the_difficulty_that_an_uninterrupted_one_knows(
    tiny_model: Path, tmp_path: Path
) -> None:
    class StopAfterTwo(NoProgress):
        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if phase == "train" and step == 2:
                stop.request()

    stop = Stop()
    async with ChaosServer() as server:
        path = half_flat_job(
            tmp_path, tiny_model, server.url, batch_size=2, max_steps=5, n_epochs=2, sample_by="difficulty"
        )
        spec = load_job(path)
        store, job_id = create_job(spec)
        with pytest.raises(Interrupted):
            await run_job(spec, store, job_id, progress=StopAfterTwo(), stop=stop)
        await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
    samples, difficulty = load_samples(spec.training_file), Difficulty()
    flat = 0
    for step in range(1, 6):
        rewards: dict[str, list[float]] = {}
        for row in train_rollouts(store, job_id, step):
            rewards.setdefault(row["sample_id"], []).append(row["reward"])
        expected = difficulty.samples_of_step(samples, batch_size=2, seed=spec.seed, step=step)
        assert list(rewards) == [sample.sample_id for sample in expected]
        for sample_id, known in rewards.items():
            difficulty.record(sample_id, known)
            flat += max(known) == min(known)
    assert flat, "some group taught nothing, or this test shows nothing"


async def test_groups_that_teach_nothing_are_replaced_within_the_budget_also_after_an_interruption(
    tiny_model: Path, tmp_path: Path
) -> None:
    class StopAfter(NoProgress):
        """Asks for a stop in the midst of the second step's rollouts."""

        seen = 0

        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            self.seen = 1 if phase == "train" else 0

        def rollout(self, rollout: Any) -> None:
            self.seen += self.seen > 0
            if self.seen == 11:
                stop.request()

    settings = {"batch_size": 2, "compute_multiplier": 1, "max_steps": 3, "temperature": 1.3, "dynamic_sampling": 2}
    stop, drawn = Stop(), []
    async with ChaosServer() as server:
        for name, progress in (("whole", NoProgress()), ("resumed", StopAfter())):
            path = half_flat_job(tmp_path / name, tiny_model, server.url, **settings)
            spec = load_job(path)
            store, job_id = create_job(spec)
            if name == "resumed":
                with pytest.raises(Interrupted):
                    await run_job(spec, store, job_id, progress=progress, stop=stop)
                spec = resume_job(store, job_id)
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            metrics = [row for row in store.metrics(job_id) if row["phase"] == "train"]
            words = {sample.sample_id: sample.item["word"] for sample in load_samples(spec.training_file)}
            steps = []
            for row in metrics:
                sampled = dict.fromkeys(words[one["sample_id"]] for one in train_rollouts(store, job_id, row["step"]))
                steps.append(list(sampled))
                assert len(sampled) == 2 + row["groups_replaced"] <= 4
                flat = len(FLAT_WORDS & set(list(sampled)[:2]))
                assert row["groups_replaced"] >= flat
                assert row["groups_trained"] + row["groups_zero_variance"] == len(sampled)
            assert sum(row["groups_replaced"] for row in metrics) > 0
            drawn.append(steps)
    # Of the first step alone all is the same: the second's policy was trained on rollouts that were sampled apart.
    assert drawn[0][0] == drawn[1][0]
