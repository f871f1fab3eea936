"""A warm start without demonstrations: the model tries, and is trained on what succeeded."""

from pathlib import Path
from typing import Any

import pytest

from agentrft.cli.targets import check_inputs
from agentrft.errors import Interrupted, UserError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.spec import JobSpec, load_job
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import WARM_ROLLOUTS, WARM_START, rollouts_file
from tests.job.tiny_job import TRAIN_WORDS, demonstration, write_job, write_rows
from tests.traffic.chaos_server import ChaosServer

# One of the four colours that the model was trained on is right.
GRADER = """
def grade(sample, item):
    return 1.0 if sample["output_text"].strip() == "white" else 0.0
"""
ANY_ANSWER = """
def grade(sample, item):
    return 1.0
"""
NEVER = """
def grade(sample, item):
    return 0.1
"""
ROUNDS = {"from": "rollouts", "rounds": 3, "samples": 6, "rollouts_per_sample": 8, "learning_rate": 3e-3, "n_epochs": 6}


def own_job(folder: Path, model: Path, url: str, **changes: Any) -> Path:
    warm_start = {**ROUNDS, **changes.pop("warm_start", {})}
    return write_job(
        folder,
        model,
        url,
        grader={"type": "python", "trusted": True, "name": "white", "source": changes.pop("source", GRADER)},
        warm_start=warm_start,
        hyperparameters={
            "max_steps": 1,
            "eval_interval": 99,
            "lora_rank": "full",
            **changes.pop("hyperparameters", {}),
        },
        **changes,
    )


async def run(path: Path) -> tuple[JobSpec, JobStore, str]:
    spec = load_job(path)
    store, job_id = create_job(spec)
    await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    return spec, store, job_id


def phases(store: JobStore, job_id: str) -> list[tuple[str, int]]:
    return [(row["phase"], row["step"]) for row in store.metrics(job_id) if row["phase"].startswith("warm")]


async def test_each_round_succeeds_more_often_than_the_one_before(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        _, store, job_id = await run(own_job(tmp_path, tiny_model, server.url, baseline={"enabled": False}))
    metrics = store.metrics(job_id)
    rewards = [row["reward_mean"] for row in metrics if row["phase"] == WARM_ROLLOUTS]
    assert len(rewards) == 3
    assert 0 < rewards[0] < 0.5
    assert rewards[2] > rewards[0] + 0.2
    (validation,) = [row for row in metrics if row["phase"] == "validation"]
    assert validation["reward_mean"] > rewards[0] + 0.2
    batches = [row for row in metrics if row["phase"] == WARM_START]
    assert [row["step"] for row in batches] == list(range(1, len(batches) + 1))
    # Two of each of six samples at most, in each round.
    assert all(row["successes"] <= 8 for row in batches)
    assert sum(row["successes"] for row in batches) <= 3 * 6 * 12


@pytest.mark.slow
async def test_an_interrupted_warm_start_goes_on_where_it_was(tiny_model: Path, tmp_path: Path) -> None:
    class StopAt(NoProgress):
        def __init__(self, phase: str, step: int) -> None:
            self.at = (phase, step)

        def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
            if (phase, step) == self.at:
                stop.request()

    settings: dict[str, Any] = {"deterministic": True, "hyperparameters": {"compute_multiplier": 0.25}}
    short = {"rounds": 2, "rollouts_per_sample": 8, "n_epochs": 1, "batch_size": 4}
    async with ChaosServer() as server:
        path = own_job(tmp_path / "whole", tiny_model, server.url, warm_start=short, **settings)
        _, whole, whole_id = await run(path)
        expected = phases(whole, whole_id)
        state = whole.job_folder(whole_id) / "checkpoints" / "step-00000" / "model" / "model.safetensors"
        for number, at in enumerate([expected[1], (WARM_ROLLOUTS, 2)]):
            stop = Stop()
            path = own_job(tmp_path / str(number), tiny_model, server.url, warm_start=short, **settings)
            spec = load_job(path)
            store, job_id = create_job(spec)
            with pytest.raises(Interrupted):
                await run_job(spec, store, job_id, progress=StopAt(*at), stop=stop)
            await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
            assert phases(store, job_id) == expected
            own = store.job_folder(job_id) / "checkpoints" / "step-00000" / "model" / "model.safetensors"
            assert own.read_bytes() == state.read_bytes(), at


async def test_examples_are_in_the_prompts_of_rollouts_and_not_of_what_is_trained_on(
    tiny_model: Path, tmp_path: Path
) -> None:
    write_rows(tmp_path / "examples.jsonl", [{"messages": demonstration(word, "white")} for word in TRAIN_WORDS[:2]])
    async with ChaosServer() as server:
        path = own_job(
            tmp_path,
            tiny_model,
            server.url,
            warm_start={"examples_file": "examples.jsonl", "rounds": 1, "temperatures": [0.3, 1.0]},
            hyperparameters={"max_context_tokens": 400},
            # This model never saw a second question, so that any answer is good enough.
            source=ANY_ANSWER,
            baseline={"enabled": False},
        )
        _, store, job_id = await run(path)
    rows = read_rollouts(rollouts_file(store.job_folder(job_id), WARM_ROLLOUTS, 1))
    for row in rows:
        messages = row["record"]["messages"]
        assert messages[0]["content"].startswith("Colour of")
        assert sum(message["role"] == "user" for message in messages) == 3
    trained = [row for row in store.metrics(job_id) if row["phase"] == WARM_START]
    with_examples = min(len(row["record"]["turns"][0]["prompt_ids"]) for row in rows)
    assert trained, "some rollout was right, or this test shows nothing"
    assert all(row["tokens"] / row["successes"] < with_examples for row in trained)


async def test_a_round_without_a_success_says_so_and_trains_nothing(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        path = own_job(
            tmp_path, tiny_model, server.url, warm_start={"rounds": 1}, baseline={"enabled": False}, source=NEVER
        )
        _, store, job_id = await run(path)
    assert phases(store, job_id) == [(WARM_ROLLOUTS, 1)]
    (told,) = [event for event in store.events(job_id) if "nothing to train on" in event.message]
    assert "examples_file" in told.message


@pytest.mark.parametrize(
    ("warm_start", "said"),
    [
        ({}, "give `training_file`, or `from: rollouts`"),
        ({"training_file": "demonstrations.jsonl", "rounds": 2}, "rounds: has an effect with `from: rollouts` alone"),
        ({"from": "somewhere"}, "rollouts"),
        ({"from": "rollouts", "examples_file": "none.jsonl"}, "none.jsonl"),
    ],
)
def test_what_cannot_be_is_refused(tiny_model: Path, tmp_path: Path, warm_start: dict[str, Any], said: str) -> None:
    path = write_job(tmp_path, tiny_model, "http://127.0.0.1:1", warm_start=warm_start)
    with pytest.raises(UserError, match=said):
        spec = load_job(path)
        check_inputs(spec)
