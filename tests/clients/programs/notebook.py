"""A notebook from upload to trained model: files, a job in the API's own shape, polling until it has ended."""

import io
import json
import time

from openai import OpenAI

from tests.clients.checks import World, check, differs, ignored, same, until

WORDS = ["apple", "stone", "river", "cloud", "table", "horse", "glass", "music", "paper", "light"]
LOOKUP = {
    "type": "function",
    "function": {
        "name": "lookup",
        "description": "Look a word up.",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}
PYTHON = """
def grade(sample, item):
    return min(1.0, len(sample["output_text"]) / 20)
"""


def row(word: str) -> dict:
    return {
        "messages": [{"role": "user", "content": f"Colour of {word}?"}],
        "tools": [LOOKUP],
        "word": word,
        "rubric": f"Names a colour of {word}. PLAIN" if word in WORDS[::2] else f"Names a colour of {word}.",
    }


def graders(world: World) -> dict:
    """As saved from hosted: thresholds and `invalid_grade` included."""
    return {
        "type": "multi",
        "name": "both",
        "graders": {
            "length": {
                "type": "python",
                "name": "length",
                "source": PYTHON,
                "image_tag": "2025-05-08",
                "pass_threshold": 0.4,
            },
            "near": {
                "type": "text_similarity",
                "name": "near",
                "input": "{{sample.output_text}}",
                "reference": "very dark {{item.word}}",
                "evaluation_metric": "fuzzy_match",
                "pass_threshold": 0.3,
            },
            "remote": {
                "type": "endpoint",
                "name": "remote",
                "url": f"{world.endpoints}/grade",
                "headers": {"Authorization": "Bearer of-the-grader"},
            },
        },
        "calculate_output": "0.5 * length + 0.3 * near + 0.2 * remote",
        "invalid_grade": 0.0,
        "pass_threshold": 0.5,
    }


def tools(world: World) -> list[dict]:
    return [
        {
            "type": "function",
            "name": "lookup",
            "server_url": f"{world.endpoints}/lookup",
            "headers": {"Authorization": "Bearer of-the-tool"},
        }
    ]


def upload(client: OpenAI, name: str, rows: list[dict]) -> str:
    text = "".join(json.dumps(one) + "\n" for one in rows)
    made = client.files.create(file=(f"{name}.jsonl", io.BytesIO(text.encode())), purpose="fine-tune")
    processed = client.files.wait_for_processing(made.id, poll_interval=0.2)
    assert processed.status == "processed", processed.status_details
    return processed.id


@check(
    same("files", "`files.create`, `wait_for_processing`", "JSONL with purpose `fine-tune`, `status` then `processed`")
)
def uploads_its_rows(world: World) -> None:
    client = OpenAI()
    world.files["train"] = upload(client, "train", [row(word) for word in WORDS[:6]])
    world.files["validation"] = upload(client, "validation", [row(word) for word in WORDS[6:]])


@check(
    same("create", "`training_file`, `validation_file`", "ids of files"),
    same("create", "`suffix`, `metadata`", "1 to 64 characters; 16 pairs"),
    same("create", "`method`", "a dict with `type: reinforcement`, shown again whole"),
    same("method", "`tools`, `max_episode_steps`", "the tools' URLs and headers; turns of one rollout"),
    same("tools", "`type`", "`function`"),
    ignored(
        "hyperparameters",
        "`reasoning_effort`",
        "how much the model thinks",
        "unless the model's template has something that stands for it, which is then set as in chats; an event says so",
    ),
    same("graders", "`pass_threshold`", "on any grader; decides what passed, and changes no score"),
)
def creates_a_job_as_hosted_takes_it(world: World) -> None:
    client = OpenAI()
    method = {
        "type": "reinforcement",
        "reinforcement": {
            "grader": graders(world),
            "tools": tools(world),
            "max_episode_steps": 4,
            "hyperparameters": {
                "batch_size": 2,
                "compute_multiplier": 0.5,
                "eval_interval": 1,
                "eval_samples": 1,
                "learning_rate_multiplier": 5.0,
                "n_epochs": 1,
                "reasoning_effort": "medium",
            },
        },
    }
    job = client.fine_tuning.jobs.create(
        model=world.model,
        training_file=world.files["train"],
        validation_file=world.files["validation"],
        suffix="colours",
        seed=7,
        metadata={"team": "colours"},
        method=method,
    )
    world.job = job
    assert job.id.startswith("ftjob-") and job.status in ("validating_files", "queued", "running"), job.status
    assert job.metadata == {"team": "colours"} and job.seed == 7 and job.fine_tuned_model is None
    echoed = json.loads(client.fine_tuning.jobs.with_raw_response.retrieve(job.id).http_response.text)["method"]
    assert echoed["type"] == "reinforcement"
    inner = echoed["reinforcement"]
    assert inner["hyperparameters"]["reasoning_effort"] == "medium" and inner["max_episode_steps"] == 4
    assert inner["grader"]["pass_threshold"] == 0.5 and inner["grader"]["graders"]["length"]["pass_threshold"] == 0.4
    assert "of-the-tool" not in json.dumps(echoed) and "of-the-grader" not in json.dumps(echoed)


@check()
def asks_the_base_model_while_the_job_trains(world: World) -> None:
    question = row(WORDS[0])
    answer = OpenAI().chat.completions.create(
        model=world.model, messages=question["messages"], tools=question["tools"], max_completion_tokens=48
    )
    assert answer.model == world.model and answer.usage.prompt_tokens > 0


@check(
    same("jobs", "`status`", "pollers that wait for `succeeded`, `failed` or `cancelled`"),
    same(
        "jobs",
        "`fine_tuned_model`, `result_files`, `trained_tokens`, `finished_at`, `eval_id`",
        "there when it succeeded",
    ),
    same("jobs", "`error`", "null, or `code`, `message` and `param`"),
    differs(
        "jobs", "`estimated_finish`, `usage_metrics`", "when it will end; what it cost", "while it runs; not there"
    ),
)
def polls_until_the_job_has_ended(world: World) -> None:
    client = OpenAI()
    seen = []
    deadline = time.monotonic() + 400
    while world.job.status not in ("succeeded", "failed", "cancelled"):
        assert time.monotonic() < deadline, seen
        time.sleep(0.2)
        world.job = client.fine_tuning.jobs.retrieve(world.job.id)
        seen += [world.job.status] if world.job.status not in seen else []
    job = world.job
    assert job.status == "succeeded", (job.status, job.error)
    assert set(seen) <= {"validating_files", "queued", "running", "succeeded"}
    assert job.error is None or job.error.message is None
    assert job.fine_tuned_model.startswith(f"ft:{world.model}:") and ":colours:" in job.fine_tuned_model
    assert len(job.result_files) == 1 and job.trained_tokens > 0 and job.finished_at >= job.created_at
    assert job.eval_id and job.estimated_finish is None and getattr(job, "usage_metrics", None) is None
    assert job.hyperparameters.batch_size == 2 and job.hyperparameters.n_epochs == 1


@check(
    same("tools", "`name`, `server_url`, `headers`", "what each call is sent to and with"),
    same("tools", "the request", "`type`, `id`, `call_id`, `name`, `arguments`, `trace_id`, `item` (the whole row)"),
    same("tools", "the answer", "`type`, `call_id`, `output`; another 4xx is shown to the model"),
    differs(
        "tools",
        "before the job",
        "nothing is sent",
        "a connection is opened and closed; a tool with an `example` or `idempotent: true` gets one real call",
    ),
)
def its_tool_gets_what_it_got_from_hosted(world: World) -> None:
    calls = world.received("/lookup")
    assert calls
    for call in calls:
        body = call["body"]
        assert body["type"] == "function_call" and body["name"] == "lookup" and body["trace_id"].startswith("trace_")
        assert body["id"].startswith("fc_") and body["call_id"].startswith("call_")
        assert isinstance(json.loads(body["arguments"]), dict)
        assert call["headers"]["authorization"] == "Bearer of-the-tool"
        assert set(body["item"]) == {"messages", "tools", "word", "rubric"}, body["item"].keys()
        assert body["item"]["messages"][0]["role"] == "user"


@check(
    same(
        "graders",
        "`endpoint`: `url`, `name`, `headers`, `rate_limit`",
        "gets `sample`, `item` (the whole row), `trace_id`; answers `score`",
    ),
    same(
        "graders",
        "`sample`",
        "`output_text`, `output_json` (null where it is none), `output_tools`, `choices`, `finish_reason`",
    ),
)
def its_endpoint_grader_gets_what_it_got_from_hosted(world: World) -> None:
    asked = world.received("/grade")
    assert asked
    for one in asked:
        body = one["body"]
        assert {"sample", "item", "trace_id"} <= set(body)
        assert {"output_text", "output_json", "output_tools", "choices", "finish_reason"} <= set(body["sample"])
        assert body["sample"]["output_json"] is None and body["sample"]["finish_reason"] == "stop"
        assert set(body["item"]) == {"messages", "tools", "word", "rubric"}, body["item"].keys()
        assert one["headers"]["authorization"] == "Bearer of-the-grader"
    made = [call for one in asked for call in one["body"]["sample"]["output_tools"]]
    assert "lookup" in [call["function"]["name"] for call in made]


@check()
def the_job_is_found_again(world: World) -> None:
    client = OpenAI()
    found = client.fine_tuning.jobs.list(limit=1, metadata={"team": "colours"}).data
    assert [job.id for job in found] == [world.job.id]
    assert until(lambda: client.fine_tuning.jobs.retrieve(world.job.id).status == "succeeded", timeout_s=5)
