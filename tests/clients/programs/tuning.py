"""Notebooks of supervised fine-tuning and of direct preference optimisation: from a file to chat."""

import csv
import io
import json
import re
from typing import Any

from openai import BadRequestError, OpenAI

from tests.clients.checks import World, check, differs, same, until

STEP = re.compile(r"Step (\d+)/(\d+): training loss=([\d.]+)(?:, full validation loss=([\d.]+))?")
WORDS = ("apple", "stone", "river", "cloud", "table")


def shown(word: str) -> dict[str, Any]:
    said = [{"role": "assistant", "content": "I guess.", "weight": 0}, {"role": "user", "content": "Sure?"}]
    asked = {"role": "user", "content": f"Colour of {word}?"}
    return {"messages": [asked, *said, {"role": "assistant", "content": "red", "weight": 1}]}


def pair(word: str) -> dict[str, Any]:
    return {
        "input": {
            "messages": [{"role": "user", "content": f"Colour of {word}?"}],
            "tools": [],
            "parallel_tool_calls": True,
        },
        "preferred_output": [{"role": "assistant", "content": "red"}],
        "non_preferred_output": [{"role": "assistant", "content": "I would rather not say."}],
    }


def upload(rows: list[dict[str, Any]]) -> str:
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return OpenAI().files.create(file=("rows.jsonl", data), purpose="fine-tune").id


def ended(job: Any) -> Any:
    client = OpenAI()
    until(lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"), timeout_s=120)
    return client.fine_tuning.jobs.retrieve(job.id)


def metrics(job: Any) -> list[Any]:
    """Its metric events, oldest first."""
    events = OpenAI().fine_tuning.jobs.list_events(job.id, limit=100).data
    return [event for event in events if event.type == "metrics"][::-1]


@check(
    same("tuning", "`supervised`, `dpo`", "`method.type`, and `hyperparameters` under the same name"),
    differs(
        "tuning",
        "`n_epochs`, `batch_size`, `learning_rate_multiplier`",
        "numbers or `auto`",
        "the same; `auto` is 3 (`dpo` 1), 8 and 1, of 5e-4 (`dpo` 5e-5) for LoRA",
    ),
    same("tuning", "rows of `supervised`", "`messages`, `tools`; `weight: 0` leaves an assistant's message out"),
    same("tuning", "metric events", '"Step 2/6: training loss=0.52", `train_loss`, `train_mean_token_accuracy`'),
    differs(
        "tuning",
        "validation",
        "`valid_loss` of a batch each step, `full_valid_loss` of all rows each epoch",
        "of all rows, up to eight times in a job and at step 0; `valid_loss` is the same number",
    ),
    same("tuning", "checkpoints", "of each epoch's end; each is a model that answers"),
    same("tuning", "the result file", "`step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy` first"),
)
def trains_on_conversations(world: World) -> None:
    client = OpenAI()
    given: Any = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": 2}}}
    job = client.fine_tuning.jobs.create(
        model=world.model,
        training_file=upload([shown(word) for word in WORDS[:4]]),
        validation_file=upload([shown(word) for word in WORDS[4:]]),
        method=given,
        seed=world.seed,
    )
    assert job.method.type == "supervised", job
    job = ended(job)
    assert job.status == "succeeded" and job.trained_tokens and job.fine_tuned_model.startswith("ft:"), job
    told = metrics(job)
    found = STEP.fullmatch(told[-1].message)
    assert found and found[1] == found[2] == "4" and found[4], told[-1].message
    assert told[-1].data["train_loss"] > 0 and 0 <= told[-1].data["train_mean_token_accuracy"] <= 1
    assert told[-1].data["full_valid_loss"] == told[-1].data["valid_loss"] < told[0].data["full_valid_loss"]
    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert {2, 4} <= {one.step_number for one in checkpoints}
    assert checkpoints[0].metrics.full_valid_loss == told[-1].data["full_valid_loss"]
    for name in (job.fine_tuned_model, checkpoints[-1].fine_tuned_model_checkpoint):
        answer = client.chat.completions.create(
            model=name, messages=[{"role": "user", "content": "Colour of apple?"}], max_tokens=16
        )
        assert answer.choices[0].finish_reason
    rows = list(csv.DictReader(io.StringIO(client.files.content(job.result_files[0]).text)))
    first = ["step", "train_loss", "train_accuracy", "valid_loss", "valid_mean_token_accuracy"]
    assert list(rows[0])[:5] == first and [row["step"] for row in rows] == ["1", "2", "3", "4"]


@check(
    same("tuning", "rows of `dpo`", "`input`, `preferred_output`, `non_preferred_output`"),
    same("tuning", "`beta`", "above 0 and up to 2, or `auto`, which is 0.1"),
    takes_long=True,
)
def trains_on_preferences(world: World) -> None:
    given: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2, "n_epochs": 2, "batch_size": 2}}}
    made = OpenAI().fine_tuning.jobs.create(
        model=world.model, training_file=upload([pair(word) for word in WORDS]), method=given
    )
    job = ended(made)
    assert job.status == "succeeded" and job.method.type == "dpo", job
    told = metrics(job)
    assert told[-1].data["train_loss"] < told[0].data["train_loss"] < 0.7, "it begins at the logarithm of two"
    assert told[-1].data["train_reward_margin"] > 0


@check(
    same("create", "no `method`; `hyperparameters` beside the file", "a supervised job; the second is deprecated"),
    takes_long=True,
)
def creates_a_job_as_long_ago(world: World) -> None:
    client = OpenAI()
    job = client.fine_tuning.jobs.create(
        model=world.model,
        training_file=upload([shown(word) for word in WORDS[:2]]),
        hyperparameters={"n_epochs": 1},
    )
    assert job.method.type == "supervised" and ended(job).hyperparameters.n_epochs == 1
    try:
        client.fine_tuning.jobs.create(
            model=world.model, training_file="file-x", method={"type": "supervised"}, hyperparameters={"n_epochs": 1}
        )
    except BadRequestError as error:
        assert error.param == "hyperparameters", error
    else:
        raise AssertionError("both were taken")
