"""Scripts that create jobs in the shapes that are around, and steer them; each job is cancelled at once."""

import json
from typing import Any

from openai import BadRequestError, NotFoundError, OpenAI

from tests.clients.checks import World, check, differs, ignored, refused, same, until
from tests.clients.programs.notebook import tools

GRADER = {
    "type": "string_check",
    "name": "right",
    "input": "{{sample.output_text}}",
    "reference": "{{item.word}}",
    "operation": "ilike",
}


def create(world: World, reinforcement: dict | None = None, **fields: Any) -> Any:
    inner = {"grader": GRADER, "tools": tools(world), **(reinforcement or {})}
    given = {
        "model": world.model,
        "training_file": world.files["train"],
        "method": {"type": "reinforcement", "reinforcement": inner},
        **fields,
    }
    return OpenAI().fine_tuning.jobs.create(**given)


def cancel(job: Any) -> None:
    client = OpenAI()
    assert client.fine_tuning.jobs.cancel(job.id).id == job.id
    until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "cancelled", timeout_s=60)


def refusal(world: World, reinforcement: dict | None = None, **fields: Any) -> BadRequestError:
    try:
        job = create(world, reinforcement, **fields)
    except BadRequestError as error:
        return error
    cancel(job)
    raise AssertionError("taken")


@check(
    same("hyperparameters", "`batch_size`, `n_epochs`", "1 to 256, 1 to 50, or `auto`"),
    differs(
        "hyperparameters",
        "`learning_rate_multiplier`",
        "above 0, or `auto`",
        "the same, of 2e-4 for LoRA and 2e-5 for full weights",
    ),
    same(
        "hyperparameters", "`compute_multiplier`", "0.00001 to 10; here rollouts per sample = round(8 x it), at least 2"
    ),
    same(
        "hyperparameters",
        "`eval_interval`, `eval_samples`",
        "steps between validations; rollouts per validation sample",
    ),
    differs("create", "`seed`", "random without one", "0 without one"),
)
def everything_auto(world: World) -> None:
    names = ("batch_size", "compute_multiplier", "eval_interval", "eval_samples", "n_epochs", "reasoning_effort")
    auto = {name: "auto" for name in (*names, "learning_rate_multiplier") if name != "reasoning_effort"}
    job = create(world, {"hyperparameters": {**auto, "reasoning_effort": "default"}})
    assert job.method.reinforcement.hyperparameters.eval_interval == "auto" and job.seed == 0
    cancel(job)
    for name, value in (
        ("compute_multiplier", 11),
        ("batch_size", 257),
        ("n_epochs", 51),
        ("eval_samples", 0),
        ("eval_interval", 0),
        ("learning_rate_multiplier", 0),
    ):
        error = refusal(world, {"hyperparameters": {name: value}})
        assert error.param == "method" and name in str(error), error


@check(
    differs(
        "method",
        "`response_format`",
        "the model is held to it",
        "a final answer in another form is `model_failed` and not graded; say so in the prompt",
    )
)
def a_job_with_a_response_format(world: World) -> None:
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    wanted = {"type": "json_schema", "json_schema": {"name": "colour", "strict": True, "schema": schema}}
    reading = {**GRADER, "input": "{{sample.output_json.colour}}"}
    job = create(world, {"response_format": wanted, "grader": reading})
    raw = OpenAI().fine_tuning.jobs.with_raw_response.retrieve(job.id).http_response.text
    assert json.loads(raw)["method"]["reinforcement"]["response_format"] == wanted
    cancel(job)
    assert "response_format" in str(refusal(world, {"response_format": {"type": "xml"}}))


@check(
    ignored("method", "unknown keys", "kept or dropped", "kept and shown again; an event names them"),
    refused(
        "tools",
        "unknown keys",
        "dropped",
        "400 that names the field and what is accepted, as inside graders and hyperparameters",
    ),
)
def keys_that_nobody_knows(world: World) -> None:
    client = OpenAI()
    job = create(world, {"new_option": 3})
    told = until(
        lambda: [
            event
            for event in client.fine_tuning.jobs.list_events(job.id).data
            if event.level == "warn" and "new_option" in event.message
        ],
        timeout_s=60,
    )
    assert told
    cancel(job)
    error = refusal(world, {"tools": [{**tools(world)[0], "new_option": 3}]})
    assert "new_option" in str(error) and "server_url" in str(error), error
    error = refusal(world, {"hyperparameters": {"new_option": 3}})
    assert "reasoning_effort" in str(error), "the hint names what is accepted"


@check(
    differs(
        "create",
        "`integrations`",
        "Weights & Biases, with a key from the settings",
        "the same with the server's own WANDB_API_KEY, and MLflow, TensorBoard and Trackio (integrations.md)",
    ),
)
def where_metrics_go(world: World) -> None:
    error = refusal(world, integrations=[{"type": "comet", "comet": {"project": "p"}}])
    assert error.param == "integrations" and "'tensorboard'" in str(error), error
    job = create(world, integrations=[{"type": "tensorboard"}])
    assert [one.type for one in job.integrations] == ["tensorboard"]
    cancel(job)
    cancel(create(world, integrations=[]))


@check(
    differs(
        "create",
        "`model`",
        "a model or a snapshot of it",
        "a name from `models.list()`; a fine-tuned model or a checkpoint is trained further",
    )
)
def a_model_that_is_not_here(world: World) -> None:
    try:
        create(world, model="o9-mini")
    except NotFoundError as error:
        assert error.code == "model_not_found" and world.model in str(error) and "agentrft models add" in str(error)
    else:
        raise AssertionError("a model that nobody named was taken")
    cancel(create(world, model=world.job.fine_tuned_model))
    checkpoints = OpenAI().fine_tuning.jobs.checkpoints.list(world.job.id).data
    cancel(create(world, model=checkpoints[-1].fine_tuned_model_checkpoint))


@check(
    refused("create", "any other field", "400", "400 `unknown_parameter`, with what is accepted"),
    same("errors", "`error`", "`message`, `type`, `param`, `code`; the SDK's exceptions by status"),
    same("errors", "`x-request-id`, `x-should-retry`", "on every answer; `false` where no repetition helps"),
    refused("errors", "batches, embeddings, assistants, vector stores …", "taken", "404 `unknown_url`"),
)
def reads_what_was_wrong(world: World) -> None:
    error = refusal(world, extra_body={"new_option": 3})
    assert error.code == "unknown_parameter" and error.param == "new_option" and "suffix" in str(error), error
    assert error.body["type"] == "invalid_request_error" and error.body["message"]
    assert error.response.headers["x-should-retry"] == "false" and error.request_id
    try:
        OpenAI().embeddings.create(model=world.model, input="a")
    except NotFoundError as unknown:
        assert unknown.code == "unknown_url"
    else:
        raise AssertionError("there are embeddings")


@check(same("create", "`Idempotency-Key`; a create that the SDK repeats", "one job"))
def repeats_a_create(world: World) -> None:
    key = {"Idempotency-Key": f"shapes-{world.seed}"}
    first, again = (create(world, extra_headers=key) for _ in range(2))
    assert first.id == again.id
    cancel(first)


@check(
    same("jobs", "`list`, `retrieve`, `cancel`", "newest first, by `after`, `limit`, `metadata[k]=v`"),
    differs(
        "jobs",
        "`pause`, `resume`",
        "`pausing`, then `paused`",
        "`paused` only, once it has stopped; a failed job that had begun can be resumed, too",
    ),
)
def steers_jobs(world: World) -> None:
    client = OpenAI()
    job = create(world, metadata={"of": f"shapes {world.seed}"}, extra_body={"priority": -5})
    assert client.fine_tuning.jobs.list(limit=1).data[0].id == job.id
    assert [one.id for one in client.fine_tuning.jobs.list(metadata={"of": f"shapes {world.seed}"})] == [job.id]
    until(lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running"), timeout_s=60)
    client.fine_tuning.jobs.pause(job.id)
    until(lambda: client.fine_tuning.jobs.retrieve(job.id).status == "paused", timeout_s=60)
    client.fine_tuning.jobs.resume(job.id)
    assert client.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running")
    cancel(job)
