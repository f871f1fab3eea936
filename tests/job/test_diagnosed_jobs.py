"""Real jobs of a tiny model that cannot learn: what a person would be told of each, after two steps."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from agentrft.chat import load_codec
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.report.diagnosis import diagnose
from agentrft.spec import load_job
from tests.job.tiny_job import WORDS, one_thread, prompt, train_and_save, untrained, write_job
from tests.traffic.chaos_server import ChaosServer, ok, status

CONSTANT = "def grade(sample, item):\n    return {}\n"
# By the length of the answer: something that differs within groups, whatever a random model says.
LENGTH = "def grade(sample, item):\n    return min(1.0, len(sample['output_text']) / 40)\n"


def python(source: str) -> dict[str, Any]:
    return {"type": "python", "trusted": True, "source": source}


CASES: dict[str, dict[str, Any]] = {
    "all_zero": {"grader": python(CONSTANT.format(0.0)), "grade_unfinished": True},
    "all_right": {"grader": python(CONSTANT.format(1.0)), "grade_unfinished": True},
    "constant_grader": {"grader": python(CONSTANT.format(0.3)), "grade_unfinished": True},
    "tools_fail": {"grader": python(LENGTH), "grade_unfinished": True},
    "cut_off": {"grader": python(LENGTH), "hyperparameters": {"max_tokens_per_turn": 2}},
    "no_change": {
        "grader": python(LENGTH),
        "grade_unfinished": True,
        "hyperparameters": {"learning_rate_multiplier": 1e-9},
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("key", CASES)
async def test_why_a_real_job_learns_nothing_is_named_after_two_steps(
    key: str, tiny_model: Path, tmp_path: Path
) -> None:
    async with ChaosServer(default=status(400) if key == "tools_fail" else ok("red")) as server:
        trained = await trained_steps(tmp_path, tiny_model, server.url, **CASES[key])
    assert diagnose(trained[:2])[0].key == key, [one.text for one in diagnose(trained[:2])]


@pytest.mark.slow
async def test_a_model_whose_turns_end_at_once_is_named_after_two_steps(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    codec = load_codec(tokenizer, "tiny")
    # As where a template's generation prompt leads straight to the token that ends a turn.
    silent = [[(codec, [*prompt(word), {"role": "assistant", "content": ""}]) for word in WORDS[:4]]] * 30
    with one_thread():
        model = train_and_save(untrained(tokenizer), tokenizer, silent, tmp_path / "silent")
    async with ChaosServer() as server:
        trained = await trained_steps(tmp_path / "job", model, server.url, grader=python(LENGTH), warm_start=None)
    assert diagnose(trained[:2])[0].key == "empty_turns", [one.text for one in diagnose(trained[:2])]


async def trained_steps(folder: Path, model: Path, url: str, **changes: Any) -> list[dict[str, Any]]:
    """The metrics of a job's training steps."""
    # More rollouts than other tests have: what differs within groups must show.
    hyperparameters = {"compute_multiplier": 1, **changes.pop("hyperparameters", {})}
    changes = {"baseline": {"enabled": False}, "hyperparameters": hyperparameters, **changes}
    job = load_job(write_job(folder, model, url, **changes))
    store, job_id = create_job(job)
    await run_job(job, store, job_id, progress=NoProgress(), stop=Stop())
    return [row for row in store.metrics(job_id) if row["phase"] == "train"]
