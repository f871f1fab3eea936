"""The JSON of every answer is what the SDK's own models say: validated, not only built, and written without a warning.

The SDK's quirks aside: it has no type for an `endpoint` grader inside a job, nor for a `multi` one of a mapping, and
its file has no purpose `evals`, which its upload takes.
"""

from collections.abc import Callable
from typing import Any

import pytest
from openai import OpenAI

from tests.job.tiny_job import TOOL, prompt
from tests.server.live import MODEL, PYTHON_GRADER, QUICK, method, wait_for
from tests.server.sdk_answers import checked
from tests.traffic.chaos_server import ChaosServer

CHECK: Any = {
    "type": "string_check",
    "name": "right",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "operation": "ilike",
}
SIMILAR: Any = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "evaluation_metric": "fuzzy_match",
}
CHAT: Any = {"model": MODEL, "messages": prompt("apple"), "temperature": 0, "max_tokens": 32}
CHAT_TOOLS: Any = [{"type": "function", "function": TOOL}]


@pytest.fixture(scope="module")
def job(client: OpenAI, files: dict[str, str], tools: ChaosServer) -> Any:
    given = method(tools.url, hyperparameters={"max_steps": 1}, grader=SIMILAR)
    made = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        method=given,  # type: ignore[arg-type]
        seed=7,
        extra_body=QUICK,
    )
    return wait_for(client, made.id, "succeeded")


CALLS: dict[str, Callable[[OpenAI, Any, dict[str, str]], Any]] = {
    "files.create": lambda c, j, f: c.files.with_raw_response.create(file=("a.jsonl", b"{}"), purpose="user_data"),
    "files.list": lambda c, j, f: c.files.with_raw_response.list(purpose="fine-tune"),
    "files.retrieve": lambda c, j, f: c.files.with_raw_response.retrieve(f["train"]),
    "uploads.create": lambda c, j, f: c.uploads.with_raw_response.create(
        bytes=3, filename="a", mime_type="text/jsonl", purpose="evals"
    ),
    "jobs.retrieve": lambda c, j, f: c.fine_tuning.jobs.with_raw_response.retrieve(j.id),
    "jobs.list": lambda c, j, f: c.fine_tuning.jobs.with_raw_response.list(limit=1),
    "jobs.events": lambda c, j, f: c.fine_tuning.jobs.with_raw_response.list_events(j.id),
    "jobs.checkpoints": lambda c, j, f: c.fine_tuning.jobs.checkpoints.with_raw_response.list(j.id),
    "permissions.create": lambda c, j, f: c.fine_tuning.checkpoints.permissions.with_raw_response.create(
        j.fine_tuned_model, project_ids=["p"]
    ),
    "permissions.list": lambda c, j, f: c.fine_tuning.checkpoints.permissions.with_raw_response.list(
        j.fine_tuned_model
    ),
    "graders.run": lambda c, j, f: c.fine_tuning.alpha.graders.with_raw_response.run(
        grader=CHECK, model_sample="an apple", item={"word": "apple"}
    ),
    "graders.run with an error": lambda c, j, f: c.fine_tuning.alpha.graders.with_raw_response.run(
        grader=CHECK, model_sample="an apple", item={}
    ),
    "graders.validate": lambda c, j, f: c.fine_tuning.alpha.graders.with_raw_response.validate(grader=CHECK),
    "models.list": lambda c, j, f: c.models.with_raw_response.list(),
    "models.retrieve": lambda c, j, f: c.models.with_raw_response.retrieve(j.fine_tuned_model),
    "evals.list": lambda c, j, f: c.evals.with_raw_response.list(),
    "evals.retrieve": lambda c, j, f: c.evals.with_raw_response.retrieve(j.eval_id),
    "evals.runs": lambda c, j, f: c.evals.runs.with_raw_response.list(j.eval_id),
    "evals.run": lambda c, j, f: c.evals.runs.with_raw_response.retrieve(run_id(c, j), eval_id=j.eval_id),
    "evals.items": lambda c, j, f: c.evals.runs.output_items.with_raw_response.list(run_id(c, j), eval_id=j.eval_id),
    "evals.item": lambda c, j, f: c.evals.runs.output_items.with_raw_response.retrieve(
        c.evals.runs.output_items.list(run_id(c, j), eval_id=j.eval_id).data[0].id,
        eval_id=j.eval_id,
        run_id=run_id(c, j),
    ),
    "chat": lambda c, j, f: c.chat.completions.with_raw_response.create(**CHAT),
    "chat with a call": lambda c, j, f: c.chat.completions.with_raw_response.create(**CHAT, tools=CHAT_TOOLS),
    "responses.retrieve": lambda c, j, f: c.responses.with_raw_response.retrieve(
        c.responses.create(model=MODEL, input="Colour of apple?", max_output_tokens=32, temperature=0).id
    ),
    "responses": lambda c, j, f: c.responses.with_raw_response.create(
        model=MODEL, input="Colour of apple?", max_output_tokens=32, temperature=0
    ),
}


def run_id(client: OpenAI, job: Any) -> str:
    return client.evals.runs.list(job.eval_id).data[0].id


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_is_what_the_sdks_model_says(client: OpenAI, job: Any, files: dict[str, str], name: str) -> None:
    checked(CALLS[name](client, job, files))


def test_a_grader_that_fails_says_how_by_its_flag(client: OpenAI) -> None:
    def errors(grader: Any, item: dict[str, Any] | None = None) -> dict[str, Any]:
        run = client.fine_tuning.alpha.graders.run(grader=grader, model_sample="x", item=item or {})
        assert run.reward == 0
        return {name: value for name, value in run.metadata.errors.to_dict().items() if value}

    assert errors(CHECK) == {"invalid_variable_error": True}
    broken = {**PYTHON_GRADER, "source": "def grade(sample, item):\n    return 1 / 0"}
    assert errors(broken)["python_grader_runtime_error"] is True
    assert "ZeroDivisionError" in errors(broken)["python_grader_runtime_error_details"]
    judge = {
        "type": "score_model",
        "name": "j",
        "model": "m",
        "base_url": "http://127.0.0.1:9/v1",
        "retries": 0,
        "outage_deadline_s": 0,
        "input": [{"role": "user", "content": "{{ sample.output_text }}"}],
    }
    assert errors(judge)["model_grader_server_error"] is True


def test_graders_inside_multi_are_told_one_by_one(client: OpenAI) -> None:
    several: Any = {"type": "multi", "graders": {"a": CHECK, "b": SIMILAR}, "calculate_output": "0.5 * a + 0.5 * b"}
    run = client.fine_tuning.alpha.graders.run(grader=several, model_sample="apple", item={"word": "apple"})
    assert run.reward == 1.0 and run.sub_rewards == {"a": 1.0, "b": 1.0} and run.metadata.execution_time > 0
