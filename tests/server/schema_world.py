"""What a server has when generated requests come: jobs in every state and all that belongs to one that succeeded."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openai import OpenAI

from tests.job.tiny_job import TOOL, prompt, serving
from tests.server.eval_requests import CONFIG, items_of, jsonl, make_eval, ours, run_to_end, sampled, start_run
from tests.server.live import MODEL, PYTHON_GRADER, live, method, upload, wait_for
from tests.traffic.chaos_server import ChaosServer, hang

CHECK: dict[str, Any] = {
    "type": "string_check",
    "input": "{{ sample.output_text }}",
    "reference": "{{ item.word }}",
    "operation": "ilike",
}
SIMILAR = {**CHECK, "type": "text_similarity", "evaluation_metric": "fuzzy_match"}
del SIMILAR["operation"]
MULTI = {"type": "multi", "graders": {"a": CHECK, "b": PYTHON_GRADER}, "calculate_output": "a / b"}
FUNCTION = {"type": "function", "function": TOOL}
ROW = json.dumps({"messages": prompt("apple"), "word": "apple"}).encode() + b"\n"


@dataclass
class World:
    """A server that is left to generated requests.

    Attributes:
        places: path parameters that belong together.
        after: ids that pages may begin behind.
        bodies: requests that would do, by operation.
        streaming: jobs whose stream of events would not end.
    """

    url: str
    client: OpenAI
    places: list[dict[str, str]]
    after: list[str]
    bodies: dict[str, list[dict[str, Any]]]
    streaming: set[str] = field(default_factory=set)


@contextmanager
def world(folder: Path, model: Path) -> Iterator[World]:
    with serving(ChaosServer()) as tools, serving(ChaosServer(default=hang())) as hanging:
        with live(folder / "data", model) as server:
            client = server.client()
            files = upload(client, folder / "rows")
            yield _filled(server.url.removesuffix("/v1"), client, files, tools.url, hanging.url)


def _filled(url: str, client: OpenAI, files: dict[str, str], tool_url: str, hanging_url: str) -> World:
    def create(grader: Any = CHECK, tool: str = tool_url, **given: Any) -> str:
        short = method(tool, grader=grader, hyperparameters={"max_steps": 1})
        short["reinforcement"]["tools"][0]["timeout_s"] = 600
        request = {"model": MODEL, "training_file": files["train"], "method": short, **given}
        return client.fine_tuning.jobs.create(**request).id

    trained = wait_for(
        client,
        create(
            PYTHON_GRADER,
            validation_file=files["validation"],
            metadata={"kind": "done"},
            extra_body={"dtype": "float32"},
        ),
        "succeeded",
    )
    failed = wait_for(client, create({**CHECK, "reference": "{{ item.none }}"}), "failed").id
    running = wait_for(client, create(tool=hanging_url, extra_body={"dtype": "float32"}), "running").id
    # The only place is taken from here on.
    queued, paused, cancelled = (wait_for(client, create(), "queued").id for _ in range(3))
    client.fine_tuning.jobs.pause(paused)
    client.fine_tuning.jobs.cancel(cancelled)
    jobs = [trained.id, failed, running, queued, paused, cancelled]

    checkpoint = client.fine_tuning.jobs.checkpoints.list(trained.id).data[0]
    models = [MODEL, trained.fine_tuned_model, checkpoint.fine_tuned_model_checkpoint]
    permission = client.fine_tuning.checkpoints.permissions.create(models[1], project_ids=["p"]).data[0].id
    runs = client.evals.runs.list(trained.eval_id).data
    items = client.evals.runs.output_items.list(runs[0].id, eval_id=trained.eval_id).data
    evals = [make_eval(client, extra_body=ours(tool_url)) for _ in range(3)]
    made = run_to_end(client, evals[0], jsonl())
    ended = start_run(client, evals[0], jsonl())
    client.evals.runs.cancel(ended, eval_id=evals[0])
    bad = client.files.create(file=("bad.jsonl", b"{}\n"), purpose="fine-tune").id
    spare = [client.files.create(file=("spare.jsonl", ROW), purpose="user_data").id for _ in range(8)]
    uploads, parts = _uploads(client)
    given = [files["train"], files["validation"], bad, *spare, *trained.result_files]
    return World(
        url,
        client,
        places=[
            *({"fine_tuning_job_id": job} for job in jobs),
            *({"file_id": file} for file in given),
            *({"upload_id": one} for one in uploads),
            *({"model": name} for name in models),
            *({"checkpoint": name, "permission_id": permission} for name in models),
            *({"eval_id": f"eval_{job.removeprefix('ftjob-')}"} for job in jobs),
            *({"eval_id": trained.eval_id, "run_id": runs[0].id, "output_item_id": item.id} for item in items),
            *({"eval_id": one} for one in evals),
            *(
                {"eval_id": made.eval_id, "run_id": made.id, "output_item_id": item.id}
                for item in items_of(client, made)
            ),
            {"eval_id": evals[0], "run_id": ended},
        ],
        after=[
            trained.id,
            running,
            files["train"],
            checkpoint.id,
            runs[0].id,
            items[0].id,
            permission,
            trained.eval_id,
            evals[0],
            made.id,
        ],
        bodies=_bodies(files, bad, tool_url, models, parts),
        streaming={running, queued, paused},
    )


def _uploads(client: OpenAI) -> tuple[list[str], list[str]]:
    """Pending ones, each with one part that is the whole, and one of each other state."""
    made = [
        client.uploads.create(bytes=len(ROW), filename="a", mime_type="text/jsonl", purpose="fine-tune")
        for _ in range(5)
    ]
    parts = [client.uploads.parts.create(one.id, data=ROW).id for one in made]
    client.uploads.cancel(made[0].id)
    client.uploads.complete(made[1].id, part_ids=[parts[1]])
    return [one.id for one in made], parts


def _bodies(
    files: dict[str, str], bad: str, tool_url: str, models: list[str], parts: list[str]
) -> dict[str, list[dict[str, Any]]]:
    job = {
        "model": MODEL,
        "training_file": files["train"],
        "validation_file": files["validation"],
        "seed": 1,
        "suffix": "mine",
        "metadata": {"a": "b"},
        "method": method(tool_url),
        "warm_start": {"training_file": files["demonstrations"]},
        "priority": 1,
    }
    graders = [CHECK, SIMILAR, PYTHON_GRADER, MULTI]
    chats = [
        {
            "model": name,
            "messages": prompt("apple"),
            "max_tokens": 8,
            "tools": [FUNCTION],
            "n": 2,
            "logprobs": True,
            "stream": stream,
            "temperature": 0.5,
            "stop": ["x"],
            "tool_choice": "auto",
        }
        for name in models
        for stream in (False, True)
    ]
    responses = [
        {
            "model": name,
            "input": "Colour of apple?",
            "max_output_tokens": 8,
            "stream": stream,
            "instructions": "Short.",
            "tools": [{"type": "function", "strict": False, **TOOL}],
            "metadata": {"a": "b"},
        }
        for name in models
        for stream in (False, True)
    ]
    tool = {
        **TOOL,
        "server_url": tool_url,
        "arguments": {"word": "apple"},
        "item": {"word": "apple"},
        "timeout_s": 5,
        "outage_deadline_s": 0,
    }
    return {
        "POST /v1/fine_tuning/jobs": [job, {**job, "training_file": bad}],
        "POST /v1/fine_tuning/alpha/graders/validate": [{"grader": grader} for grader in graders],
        "POST /v1/fine_tuning/alpha/graders/run": [
            {"grader": grader, "model_sample": text, "item": item}
            for grader in graders
            for text, item in (("an apple", {"word": "apple"}), ("", {}))
        ],
        "POST /v1/fine_tuning/alpha/tool/run": [tool],
        "POST /v1/chat/completions": chats,
        "POST /v1/responses": responses,
        "POST /v1/fine_tuning/checkpoints/{checkpoint}/permissions": [{"project_ids": ["p", "q"]}],
        "POST /v1/evals": [
            {"name": "e", "data_source_config": CONFIG, "testing_criteria": [CHECK, SIMILAR, MULTI], **ours(tool_url)}
        ],
        "POST /v1/evals/{eval_id}": [{"name": "other", "metadata": {"a": "b"}}],
        "POST /v1/evals/{eval_id}/runs": [
            {"data_source": source, "metadata": {"a": "b"}}
            for source in (
                jsonl(),
                sampled(models[1], "apple", tools=[FUNCTION], response_format={"type": "json_object"}),
                {"type": "jsonl", "source": {"type": "file_id", "id": files["validation"]}},
            )
        ],
        "POST /v1/uploads/{upload_id}/complete": [{"part_ids": [part]} for part in parts],
    }
