"""Supervised and preference jobs with nothing but the stock SDK: from a file to chat."""

from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from tests.job.test_tuning import ROWS
from tests.job.tiny_job import TOOL, prompt, write_rows
from tests.server.live import MODEL, wait_for

HYPERPARAMETERS: dict[str, dict[str, Any]] = {
    "supervised": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 4},
    "dpo": {"n_epochs": 3, "batch_size": 4, "learning_rate_multiplier": 100, "beta": 0.2},
}


@pytest.fixture(scope="module")
def tuning_files(client: OpenAI, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The ids of each method's training file, and of its validation file."""
    folder = tmp_path_factory.mktemp("tuning")
    ids: dict[str, str] = {}
    for method, rows in ROWS.items():
        for part, some in (("train", rows[:7]), ("validation", rows[7:])):
            path = folder / f"{method}-{part}.jsonl"
            write_rows(path, some)
            with path.open("rb") as file:
                made = client.files.create(file=file, purpose="fine-tune")
            ids[f"{method}-{part}"] = client.files.wait_for_processing(made.id, poll_interval=0.1).id
    return ids


@pytest.mark.parametrize("method", ["supervised", "dpo"])
def test_from_a_file_to_chat(client: OpenAI, tuning_files: dict[str, str], method: str) -> None:
    given: Any = {"type": method, method: {"hyperparameters": HYPERPARAMETERS[method]}}
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=tuning_files[f"{method}-train"],
        validation_file=tuning_files[f"{method}-validation"],
        method=given,
        suffix=method,
        seed=7,
        extra_body={"dtype": "float32"},
    )
    job = wait_for(client, job.id, "succeeded")
    assert job.fine_tuned_model == f"ft:{MODEL}:local:{method}:{job.id.removeprefix('ftjob-')}"
    assert job.method is not None and job.method.type == method
    assert job.hyperparameters.n_epochs == 3 and job.hyperparameters.batch_size == 4
    assert job.trained_tokens and job.error is None and job.eval_id is None  # type: ignore[attr-defined]

    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    told: list[Any] = [event for event in events if event.type == "metrics"][::-1]
    assert [event.data["step"] for event in told] == [0, 1, 2, 3, 4, 5, 6]
    assert told[-1].message.startswith("Step 6/6: training loss=0.")
    assert ", full validation loss=0." in told[-1].message
    assert told[-1].data["full_valid_loss"] < told[0].data["full_valid_loss"]
    assert told[-1].data["train_loss"] > 0 and told[-1].data["total_steps"] == 6
    measured = "train_preference_accuracy" if method == "dpo" else "train_mean_token_accuracy"
    assert 0 <= told[-1].data[measured] <= 1

    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert {2, 4, 6} <= {one.step_number for one in checkpoints}, "the ends of epochs"
    assert checkpoints[0].metrics.full_valid_loss == told[-1].data["full_valid_loss"]
    lines = client.files.content(job.result_files[0]).text.splitlines()
    assert len(lines) == 7 and lines[0].startswith("step,train_loss,train_accuracy,valid_loss")

    with pytest.raises(openai.NotFoundError):
        client.evals.retrieve(f"eval_{job.id.removeprefix('ftjob-')}")
    assert f"eval_{job.id.removeprefix('ftjob-')}" not in {one.id for one in client.evals.list(limit=100)}

    tools: Any = [{"type": "function", "function": TOOL}] if method == "supervised" else openai.NOT_GIVEN
    said: list[Any] = prompt("apple")
    for name in (job.fine_tuned_model, checkpoints[-1].fine_tuned_model_checkpoint):
        answer = client.chat.completions.create(model=name, messages=said, tools=tools, temperature=0, max_tokens=32)
        choice = answer.choices[0]
        assert choice.finish_reason in ("stop", "tool_calls", "length")
        if method == "supervised" and name == job.fine_tuned_model:
            assert choice.message.tool_calls, "as its demonstrations begin"


@pytest.mark.slow
def test_a_model_that_was_tuned_is_tuned_further_and_by_another_method(
    client: OpenAI, tuning_files: dict[str, str]
) -> None:
    first = client.fine_tuning.jobs.create(
        model=MODEL, training_file=tuning_files["supervised-train"], method={"type": "supervised"}
    )
    name = wait_for(client, first.id, "succeeded").fine_tuned_model
    assert name is not None
    second = client.fine_tuning.jobs.create(model=name, training_file=tuning_files["dpo-train"], method={"type": "dpo"})
    done = wait_for(client, second.id, "succeeded")
    losses: list[Any] = [
        event.data for event in client.fine_tuning.jobs.list_events(done.id) if event.type == "metrics"
    ]
    assert losses[-1]["train_loss"] == pytest.approx(0.6931, abs=1e-3), "measured from where it began"


def test_files_of_another_kind_are_named_with_their_lines(
    client: OpenAI, files: dict[str, str], tuning_files: dict[str, str]
) -> None:
    wrong = [
        ("supervised", files["train"], "a demonstration must end in an assistant's message"),
        ("supervised", tuning_files["dpo-train"], "messages: expected a non-empty list"),
        ("dpo", tuning_files["supervised-train"], "input: expected an object with 'messages'"),
    ]
    for method, file_id, text in wrong:
        given: Any = {"type": method}
        job = client.fine_tuning.jobs.create(model=MODEL, training_file=file_id, method=given)
        job = wait_for(client, job.id, "failed")
        assert job.error is not None and job.error.code == "invalid_training_file"
        assert "line 1" in job.error.message and text in job.error.message


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 9}}}}, "beta"),
        ({"method": {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 0}}}}, "n_epochs"),
        ({"method": {"type": "supervised"}, "hyperparameters": {"n_epochs": 1}}, "belongs into the method"),
        ({"method": {"type": "dpo"}, "extra_body": {"warm_start": {"from": "rollouts"}}}, "warm_start"),
    ],
)
def test_what_a_method_does_not_have_is_refused(
    client: OpenAI, tuning_files: dict[str, str], given: dict[str, Any], text: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=text):
        client.fine_tuning.jobs.create(model=MODEL, training_file=tuning_files["dpo-train"], **given)


def test_a_malformed_row_is_refused_at_the_upload(client: OpenAI, tmp_path: Path) -> None:
    rows = [ROWS["dpo"][0], {**ROWS["dpo"][1], "preferred_output": []}]
    write_rows(tmp_path / "pairs.jsonl", rows)
    with (tmp_path / "pairs.jsonl").open("rb") as file:
        made = client.files.create(file=file, purpose="fine-tune")
    told = client.files.wait_for_processing(made.id, poll_interval=0.1)
    assert told.status == "error" and "line 2: preferred_output" in str(told.status_details)
