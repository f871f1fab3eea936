"""A script that chooses the best checkpoint, talks to it, shares it, and takes its weights home."""

import io
import json
import zipfile

from openai import BadRequestError, OpenAI

from tests.clients.checks import World, check, differs, same
from tests.clients.programs.notebook import LOOKUP

QUESTION = [{"role": "user", "content": "Colour of apple?"}]


@check(
    differs(
        "checkpoints", "`checkpoints.list`", "the best three by validation reward", "every validated step, newest first"
    ),
    same(
        "checkpoints",
        "`metrics`",
        "`train_mean_reward`, `full_valid_mean_reward`, `completion_tokens_mean`; `step_number` beside them",
    ),
    same("checkpoints", "`fine_tuned_model_checkpoint`", "`ft:BASE:ORGANIZATION:SUFFIX:ID:ckpt-step-N`"),
)
def chooses_the_best_checkpoint_and_talks_to_it(world: World) -> None:
    client = OpenAI()
    page = client.fine_tuning.jobs.checkpoints.list(world.job.id)
    assert [one.step_number for one in page.data] == [3, 2, 1] and not page.has_more
    for one in page.data:
        assert {"train_mean_reward", "full_valid_mean_reward", "completion_tokens_mean"} <= set(one.metrics.to_dict())
        assert one.fine_tuned_model_checkpoint == f"{world.job.fine_tuned_model}:ckpt-step-{one.step_number}"
    best = max(page.data, key=lambda one: one.metrics.full_valid_mean_reward)
    answer = client.chat.completions.create(
        model=best.fine_tuned_model_checkpoint, messages=QUESTION, tools=[LOOKUP], temperature=0, max_tokens=48
    )
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "lookup" and isinstance(json.loads(call.function.arguments), dict)


@check(
    differs(
        "checkpoints",
        "the model's name without a step",
        "the last checkpoint",
        "the last checkpoint, unless an earlier validated step is better on the same samples by more than chance",
    )
)
def the_model_itself_is_the_last_step_or_one_that_is_better(world: World) -> None:
    client = OpenAI()
    asked = {"messages": QUESTION, "tools": [LOOKUP], "temperature": 0, "max_tokens": 48, "logprobs": True}
    said = client.chat.completions.create(model=world.job.fine_tuned_model, **asked).choices[0]
    rewards = {
        one.step_number: one.metrics.full_valid_mean_reward
        for one in client.fine_tuning.jobs.checkpoints.list(world.job.id)
    }
    last = max(rewards)
    answers = {}
    for step in (last, *(step for step, reward in rewards.items() if reward > rewards[last])):
        model = f"{world.job.fine_tuned_model}:ckpt-step-{step}"
        answers[step] = client.chat.completions.create(model=model, **asked).choices[0].message.tool_calls[0].function
    assert said.message.tool_calls[0].function in answers.values()


@check(
    same(
        "checkpoints",
        "`models.list`, `retrieve`, `delete`",
        "base models, fine-tuned ones and their checkpoints; base models cannot be deleted",
    ),
)
def finds_its_models(world: World) -> None:
    client = OpenAI()
    names = [model.id for model in client.models.list()]
    assert {world.model, world.job.fine_tuned_model, f"{world.job.fine_tuned_model}:ckpt-step-1"} <= set(names)
    assert client.models.retrieve(world.job.fine_tuned_model).object == "model"
    try:
        client.models.delete(world.model)
    except BadRequestError as refused:
        assert refused.status_code == 400
    else:
        raise AssertionError("a base model was deleted")
    step = f"{world.job.fine_tuned_model}:ckpt-step-1"
    assert client.models.delete(step).deleted
    assert step not in [model.id for model in client.models.list()]


@check(
    differs(
        "checkpoints",
        "`checkpoints.permissions`",
        "share a checkpoint with projects",
        "kept and listed; there are no projects, so they permit nothing",
    )
)
def shares_a_checkpoint(world: World) -> None:
    client = OpenAI()
    name = f"{world.job.fine_tuned_model}:ckpt-step-3"
    (made,) = client.fine_tuning.checkpoints.permissions.create(name, project_ids=["proj_1"]).data
    assert made.id in [one.id for one in client.fine_tuning.checkpoints.permissions.retrieve(name).data]
    assert client.fine_tuning.checkpoints.permissions.delete(made.id, fine_tuned_model_checkpoint=name).deleted


@check(
    differs(
        "checkpoints",
        "weights",
        "never",
        "`GET /v1/models/NAME/adapter` and `…/merged`: zips for PEFT, transformers and vLLM",
    )
)
def takes_the_weights_home(world: World) -> None:
    got = OpenAI().get(f"/models/{world.job.fine_tuned_model}/adapter", cast_to=bytes)
    with zipfile.ZipFile(io.BytesIO(got)) as zipped:
        assert any(name.endswith("adapter_model.safetensors") for name in zipped.namelist()), zipped.namelist()
