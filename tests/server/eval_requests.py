"""Requests about evals, and waiting for runs."""

from typing import Any

from openai import OpenAI

from tests.job.tiny_job import prompt
from tests.server.live import until

CONFIG: Any = {
    "type": "custom",
    "item_schema": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    "include_sample_schema": True,
}
RIGHT: Any = {
    "type": "string_check",
    "name": "right",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "operation": "ilike",
}
NEAR: Any = {
    "type": "text_similarity",
    "name": "near",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "evaluation_metric": "fuzzy_match",
    "pass_threshold": 0.5,
}
GIVEN: list[Any] = [
    {"item": {"word": "apple"}, "sample": {"output_text": "apple"}},
    {"item": {"word": "stone"}, "sample": {"output_text": "stones"}},
    {"item": {"word": "river"}, "sample": {"output_text": "no"}},
]
OVER = ("completed", "failed", "canceled")


def make_eval(client: OpenAI, *criteria: Any, **given: Any) -> str:
    """The id of a new eval, with two graders where none are given."""
    request = {"data_source_config": CONFIG, "testing_criteria": list(criteria) or [RIGHT, NEAR], **given}
    return client.evals.create(**request).id


def rows_of(*words: str) -> list[Any]:
    return [{"item": {"messages": prompt(word), "word": word}} for word in words]


def inline(rows: list[Any]) -> Any:
    return {"type": "file_content", "content": rows}


def jsonl(rows: list[Any] | None = None) -> Any:
    return {"type": "jsonl", "source": inline(GIVEN if rows is None else rows)}


def sampled(model: str, *words: str, kind: str = "completions", **sampling: Any) -> Any:
    """A data source whose rows a model answers."""
    return {
        "type": kind,
        "model": model,
        "source": inline(rows_of(*words)),
        "input_messages": {"type": "item_reference", "item_reference": "item.messages"},
        "sampling_params": {"seed": 7, "max_completion_tokens": 48, **sampling},
    }


def ours(tool_url: str | None = None, **given: Any) -> dict[str, Any]:
    """`extra_body` for the tiny model."""
    from tests.job.tiny_job import TOOL

    tools = [{**TOOL, "server_url": tool_url, "timeout_s": 20, "outage_deadline_s": 3}] if tool_url else []
    return {"agentrft": {"tools": tools, "max_episode_steps": 4, "max_context_tokens": 256, **given}}


def start_run(client: OpenAI, eval_id: str, data_source: Any, **given: Any) -> str:
    return client.evals.runs.create(eval_id, data_source=data_source, **given).id


def run_to_end(client: OpenAI, eval_id: str, data_source: Any, **given: Any) -> Any:
    """The run, once it is over."""
    run_id = start_run(client, eval_id, data_source, **given)
    return over(client, eval_id, run_id)


def over(client: OpenAI, eval_id: str, run_id: str) -> Any:
    def ended() -> Any:
        run = client.evals.runs.retrieve(run_id, eval_id=eval_id)
        return run if run.status in OVER else None

    return until(ended, f"{run_id} ends", timeout_s=1800)


def items_of(client: OpenAI, run: Any, **given: Any) -> list[Any]:
    return list(client.evals.runs.output_items.list(run.id, eval_id=run.eval_id, **given))
