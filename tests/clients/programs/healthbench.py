"""A judge that reads the conversation and a rubric of each row, as HealthBench's notebooks have it."""

from typing import Any

from openai import OpenAI

from tests.clients.checks import World, check, differs, same
from tests.clients.programs.notebook import row

PROMPT = """Conversation:
{{item.messages}}
Answer:
{{sample.output_text}}
Rubric:
{{item.rubric}}
Say how far the answer meets the rubric."""


def judge(world: World, **more: Any) -> dict[str, Any]:
    return {
        "type": "score_model",
        "name": "rubric",
        "model": "gpt-4.1",
        "base_url": f"{world.endpoints}/v1",
        "input": [
            {"role": "developer", "content": "You grade answers.", "type": "message"},
            {"role": "user", "content": PROMPT, "type": "message"},
        ],
        "range": [0, 1],
        "sampling_params": {"temperature": 0, "seed": 42, "max_completions_tokens": 500},
        "pass_threshold": 0.5,
        **more,
    }


@check(
    same(
        "graders",
        "`score_model`: `input`, `range`, `sampling_params`, `pass_threshold`",
        "templates in roles; a number within the range",
    ),
    differs(
        "graders",
        "`score_model`, `label_model`: `model`",
        "a hosted model",
        "a model of this server where it has one of that name, [without a "
        "key](server.md#judges-that-are-models-of-the-server); else any server that speaks Chat Completions: "
        "`base_url`, OpenAI's by default, and `api_key_env`, which `--allow-env` names",
    ),
)
def judges_each_row_by_its_own_rubric(world: World) -> None:
    client = OpenAI()
    for word, expected in (("apple", 0.75), ("stone", 0.25)):
        ended = client.fine_tuning.alpha.graders.run(grader=judge(world), model_sample="red", item=row(word))
        assert ended.reward == expected, ended
        assert ended.model_grader_token_usage_per_model, "the judge's tokens are counted"
    asked = world.received("/v1/chat/completions")[-1]["body"]
    said = "\n".join(str(message["content"]) for message in asked["messages"])
    assert "Colour of stone?" in said and "Names a colour of stone" in said and asked["model"] == "gpt-4.1"
    assert asked["temperature"] == 0 and asked["seed"] == 42


@check(same("graders", "`label_model`", "`labels`, `passing_labels`: 1 where the judge's label passes"))
def labels_answers(world: World) -> None:
    label = {key: value for key, value in judge(world).items() if key in ("name", "model", "base_url", "input")}
    label |= {"type": "label_model", "labels": ["good", "bad"], "passing_labels": ["good"]}
    assert OpenAI().fine_tuning.alpha.graders.validate(grader=label).grader is not None


@check()
def a_model_of_this_server_judges_without_a_key(world: World) -> None:
    """The tiny model answers nonsense, and the flag says that it was asked for JSON and gave none."""
    grader = {**judge(world), "model": world.model}
    del grader["base_url"]
    ended = OpenAI().fine_tuning.alpha.graders.run(grader=grader, model_sample="red", item=row("apple"))
    flags = ended.metadata.errors
    assert ended.reward == 0 and "response_format_not_met" in str(flags.model_grader_server_error_details), flags
