"""Azure's two clients: `AzureOpenAI` with its paths and `api-version`, and the stock client with `/openai/v1`."""

import json

from openai import AzureOpenAI, OpenAI

from tests.clients.checks import World, check, differs, ignored, same
from tests.clients.programs.notebook import LOOKUP, tools
from tests.clients.programs.shapes import GRADER, cancel

QUESTION = [{"role": "user", "content": "Colour of apple?"}]


def clients(world: World) -> list[OpenAI]:
    return [
        AzureOpenAI(azure_endpoint=world.server, api_key="unused", api_version="2025-04-01-preview"),
        OpenAI(
            base_url=f"{world.server}/openai/v1/",
            api_key="unused",
            default_headers={"api-key": "unused"},
            default_query={"api-version": "preview"},
        ),
    ]


@check(
    same(
        "azure", "`AzureOpenAI(azure_endpoint=…)`: `/openai/…?api-version=…`", "the same operations; any `api-version`"
    ),
    same("azure", "`/openai/v1/…`", "the same operations"),
    same("azure", "header `api-key`", "the key, as `Authorization` takes it"),
    ignored("azure", "`trainingType`", "where the job is trained", "it is trained here"),
)
def runs_a_job_by_azures_paths(world: World) -> None:
    for client in clients(world):
        assert [one.purpose for one in client.files.list(purpose="fine-tune", limit=1).data] == ["fine-tune"]
        job = client.fine_tuning.jobs.create(
            model=world.model,
            training_file=world.files["train"],
            method={"type": "reinforcement", "reinforcement": {"grader": GRADER, "tools": tools(world)}},
            extra_body={"trainingType": "Standard"},
        )
        assert client.fine_tuning.jobs.list_events(job.id).data
        cancel(job)
        checkpoints = client.fine_tuning.jobs.checkpoints.list(world.job.id).data
        assert checkpoints and client.files.content(world.job.result_files[0]).text.startswith("step")


@check(
    differs(
        "azure",
        "deployments: `/openai/deployments/NAME/chat/completions`",
        "a model is deployed before it answers",
        "each model's name is its deployment; nothing is deployed",
    )
)
def chats_with_a_deployment(world: World) -> None:
    for client in clients(world):
        answer = client.chat.completions.create(
            model=world.job.fine_tuned_model, messages=QUESTION, tools=[LOOKUP], temperature=0, max_tokens=48
        )
        (call,) = answer.choices[0].message.tool_calls
        assert isinstance(json.loads(call.function.arguments), dict)
