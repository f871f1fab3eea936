"""Jobs with options drawn at random, interrupted and resumed: each ends as it should, or was refused before it began.

`make test-combinations` draws more of them.
"""

import asyncio
import json
import os
import random
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentrft.cli.progress import ConsoleProgress
from agentrft.cli.targets import check_inputs
from agentrft.errors import Interrupted, NotTrainableError, UserError
from agentrft.job import Stop, create_job, resume_job, run_job
from agentrft.spec import load_job
from tests.job.tiny_job import COLOURS, WORDS, demonstration, prompt, serving, write_job, write_rows
from tests.traffic.chaos_server import ChaosServer

COUNT = int(os.environ.get("AGENTRFT_COMBINATIONS", "4"))
FIRST = int(os.environ.get("AGENTRFT_COMBINATIONS_FROM", "0"))

LENGTH = 'def grade(sample, item):\n    return min(1.0, len(sample["output_text"]) / 20)\n'
WHITE = 'def grade(sample, item):\n    return float("white" in sample["output_text"])\n'
PYTHON = {"type": "python", "trusted": True, "source": LENGTH}
FORMULA = {
    "type": "multi",
    "graders": {
        "length": {**PYTHON, "name": "length"},
        "white": {**PYTHON, "name": "white", "source": WHITE},
    },
    "calculate_output": "0.5 * length + 0.5 * white",
}
HYPERPARAMETERS: dict[str, list[Any]] = {
    "batch_size": [1, 2, 3],
    "compute_multiplier": [0.25, 0.5],
    "algorithm": ["grpo", "dr_grpo", "dapo", "rloo", "gspo", "cispo", "maxrl"],
    "minibatches": [1, 2, 4],
    "update_epochs": [1, 2],
    "advantage_by": ["turn", "observation", "rollout"],
    "advantage_std_floor": [0.0, 0.05],
    "kl_weight": [0.0, 0.01],
    "clip_cov": [0.0, 0.01],
    "overlong": ["fail", "mask"],
    "length_penalty": [0.0, 0.1],
    "replay_rollouts": [0, 2],
    "borrow_answers": [True, False],
    "replay_weight": [0.2, 1.0],
    "sample_by": ["epoch", "difficulty"],
    "dynamic_sampling": [0, 2],
    "decide_after": [2],
    "max_off_policy_steps": [0, 1, 3],
    "lora_rank": [2, 4, "full"],
    "top_p": [0.9, 1.0],
    "temperature": [0.7, 1.2],
    "eval_interval": [1, 2],
    "eval_samples": [1, 2],
    "eval_rows": [2],
    "checkpoint_interval": [1, 2],
    "max_tokens_per_turn": [16, 48],
    "max_episode_steps": [2, 4],
    "max_grad_norm": [0.5, 1.0],
}
ROUNDS = {"from": "rollouts", "rounds": 1, "samples": 3, "rollouts_per_sample": 2, "temperatures": [0.8, 1.2]}
SHOWN = {"training_file": "demonstrations.jsonl", "batch_size": 2, "learning_rate": 1e-3}
JOB: dict[str, list[Any]] = {
    "deterministic": [True],
    "warm_start": [SHOWN, {**SHOWN, **ROUNDS}, ROUNDS, {**ROUNDS, "examples_file": "demonstrations.jsonl"}],
    "test_file": ["test.jsonl"],
    "grade_unfinished": [True],
    "model_failed_reward": [-0.5, 0.0],
    "holdout_graders": [{"white": {"type": "python", "trusted": True, "source": WHITE}}],
    "response_format": [{"type": "json_object"}, {"type": "text"}],
    "grader": [{**PYTHON, "name": "length"}, FORMULA, {"type": "trace", "measure": "turns", "best": 1, "worst": 5}],
    "engine": [
        {"max_concurrent_rollouts": 2},
        {"max_batch_size": 2, "kv_cache_mb": 4},
        {"prefill_tokens_per_step": 64},
    ],
    "baseline": [{"enabled": True, "rollouts_per_sample": 2}],
    "alarms": [{"entropy_collapse": None}],
    "dtype": ["bfloat16"],
}


class Told(ConsoleProgress):
    """As `agentrft train` tells it; asks for a stop at one of the phases' ends."""

    def __init__(self, draw: random.Random, stop: Stop) -> None:
        super().__init__(Console(file=StringIO(), force_terminal=draw.random() < 0.5))
        self._left, self._stop = draw.randint(1, 12), stop

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        super().committed(phase, step, metrics)
        self._left -= 1
        if self._left == 0:
            self._stop.request()


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    with serving(ChaosServer()) as server:
        yield server.url


def drawn(number: int) -> dict[str, Any]:
    """The options of a job."""
    draw = random.Random(f"combination {number}")
    chosen = {name: draw.choice(values) for name, values in JOB.items() if draw.random() < 0.4}
    hyperparameters = {name: draw.choice(values) for name, values in HYPERPARAMETERS.items() if draw.random() < 0.4}
    return {"baseline": {"enabled": False}, **chosen, "hyperparameters": {**hyperparameters, "max_steps": 3}}


@pytest.mark.parametrize("number", range(FIRST, FIRST + COUNT))
def test_a_job_ends_or_was_refused(number: int, tmp_path: Path, tiny_model: Path, served: str) -> None:
    given = drawn(number)
    path = write_job(tmp_path, tiny_model, served, **given)
    write_rows(tmp_path / "test.jsonl", [{"messages": prompt(f"the {word}"), "word": word} for word in WORDS[:2]])
    shown = [{"messages": demonstration(word, colour)} for word, colour in zip(WORDS, COLOURS, strict=False)]
    write_rows(tmp_path / "demonstrations.jsonl", shown)
    print(json.dumps(drawn(number)))
    try:
        spec = load_job(path)
        check_inputs(spec)
    except UserError as refusal:
        assert refusal.remedy
        return
    store, job_id = create_job(spec)
    draw, stop = random.Random(number), Stop()
    try:
        asyncio.run(run_job(spec, store, job_id, progress=Told(draw, stop), stop=stop))
    except Interrupted:
        again = resume_job(store, job_id)
        asyncio.run(run_job(again, store, job_id, progress=Told(draw, Stop()), stop=Stop()))
    except NotTrainableError:
        return
    assert store.get_job(job_id).status == "succeeded"
    metrics = store.metrics(job_id)
    assert [row["step"] for row in metrics if row["phase"] == "train"] == [1, 2, 3]
    assert len({(row["phase"], row["step"]) for row in metrics}) == len(metrics)
