"""A notebook that tries its graders before training: `graders.validate`, then `graders.run` on answers at hand."""

import json
from typing import Any

from openai import BadRequestError, OpenAI

from tests.clients.checks import World, check, differs, ignored, same
from tests.clients.programs.notebook import tools

ITEM = {"messages": [{"role": "user", "content": "Colour of apple?"}], "word": "apple", "answer": "red"}


def run(grader: Any, answer: str = "red", item: dict | None = None, **more: Any) -> Any:
    return OpenAI().fine_tuning.alpha.graders.run(grader=grader, model_sample=answer, item=item or ITEM, **more)


def check_string(operation: str, reference: str = "{{item.answer}}", given: str = "{{sample.output_text}}") -> dict:
    return {"type": "string_check", "name": "check", "input": given, "reference": reference, "operation": operation}


def similar(metric: str) -> dict:
    return {
        "type": "text_similarity",
        "name": "near",
        "input": "{{sample.output_text}}",
        "reference": "{{item.answer}}",
        "evaluation_metric": metric,
        "pass_threshold": 0.5,
    }


def python(body: str, **more: Any) -> dict:
    return {"type": "python", "name": "code", "source": f"def grade(sample, item):\n    {body}\n", **more}


@check(
    same("graders", "`string_check`", "`eq`, `ne`, `like` (contains), `ilike`"),
    same(
        "graders",
        "templates",
        "`{{item.x}}`, `{{sample.output_text}}`, `…output_json.x`, `…output_tools[0].function.name`",
    ),
)
def checks_strings(world: World) -> None:
    rewards = [run(check_string(operation), "Red").reward for operation in ("eq", "ne", "like", "ilike")]
    assert rewards == [0, 1, 0, 1], rewards
    assert run(check_string("eq", given="{{sample.output_json.colour}}"), '{"colour": "red"}').reward == 1
    made = [{"id": "c", "type": "function", "function": {"name": "lookup", "arguments": "{}"}}]
    called = check_string("eq", "lookup", "{{sample.output_tools[0].function.name}}")
    assert run(called, extra_body={"output_tools": made}).reward == 1


@check(
    differs(
        "graders",
        "`text_similarity`",
        "`fuzzy_match`, `bleu`, `gleu`, `meteor`, `cosine`, `rouge_1` … `rouge_5`, `rouge_l`",
        "the same; `cosine` is of word counts, and `meteor` takes NLTK's WordNet on the server",
    ),
)
def compares_texts(world: World) -> None:
    for metric in ("fuzzy_match", "bleu", "gleu", "cosine", "rouge_1", "rouge_5", "rouge_l"):
        same_text = run(similar(metric), "a red apple on a tree", {"answer": "a red apple on a tree"}).reward
        other = run(similar(metric), "nothing", {"answer": "a red apple on a tree"}).reward
        assert same_text > 0.99 > other, (metric, same_text, other)
    assert run(similar("cosine"), "tree red", {"answer": "red tree"}).reward > 0.99
    try:
        assert run(similar("meteor"), "a red apple on a tree", {"answer": "a red apple on a tree"}).reward > 0.9
    except BadRequestError as error:
        assert "wordnet" in str(error).lower(), error


@check(
    same("graders", "`python`", "`grade(sample, item)` returns a number"),
    ignored(
        "graders",
        "`python`: `image_tag`",
        "the packages that the code finds",
        "accepted; the code runs with this server's Python and packages, in a sandbox without network",
    ),
    differs(
        "grader_runs",
        "a grader that raises",
        "0, with its flag; in training 0, too",
        "`graders.run`: the same. In training the rollout is `infra_failed`, which is never a reward",
    ),
)
def runs_code(world: World) -> None:
    assert run(python("return 0.5 * (item['answer'] in sample['output_text'])", image_tag="2025-05-08")).reward == 0.5
    assert run(python("return float(sample['output_json'] is None)")).reward == 1
    assert run(python("return float(item['messages'][0]['role'] == 'user')")).reward == 1
    failed = run(python("return 1 / 0"))
    assert failed.reward == 0 and failed.metadata.errors.python_grader_runtime_error
    assert "ZeroDivisionError" in failed.metadata.errors.python_grader_runtime_error_details


@check(
    differs(
        "graders",
        "`multi`",
        "`graders`, `calculate_output`",
        "the same; as a mapping, a list or one, at most 64, whose names are words, none a `multi`. A formula without a "
        "value gives `invalid_grade`; a grader that broke never does",
    ),
)
def combines_graders(world: World) -> None:
    both = {"same": check_string("eq"), "near": similar("fuzzy_match")}
    multi = {
        "type": "multi",
        "name": "m",
        "graders": both,
        "calculate_output": "min(same, near) ^ 2",
        "invalid_grade": 0.0,
    }
    ended = run(multi)
    assert ended.reward == 1 and ended.sub_rewards == {"same": 1, "near": 1}
    listed = {**multi, "graders": [{**both["same"], "name": "same"}, {**both["near"], "name": "near"}]}
    assert run(listed).reward == 1
    one = {**multi, "graders": {**both["same"], "name": "same"}, "calculate_output": "same"}
    assert run(one).reward == 1
    try:
        run({**multi, "graders": {"inner": multi}})
    except BadRequestError as error:
        assert "inner" in f"{error.param} {error}", error
    else:
        raise AssertionError("a multi inside a multi was taken")


@check(
    same("grader_runs", "`run`", "`reward`, `sub_rewards`, `metadata` with scores, execution time and error flags"),
    same("grader_runs", "a template without a value", "0 and `invalid_variable_error` or `sample_parse_error`"),
    differs(
        "grader_runs",
        "`model_sample`",
        "a text",
        "a text, and beside it `output_tools` (by `extra_body`): calls that were made before",
    ),
)
def reads_why_a_grade_is_what_it_is(world: World) -> None:
    ended = run(check_string("eq"))
    assert ended.reward == 1 and ended.metadata.name == "check" and ended.metadata.type == "string_check"
    assert ended.metadata.scores and ended.metadata.execution_time >= 0
    assert not any(value for name, value in ended.metadata.errors.to_dict().items() if isinstance(value, bool))
    assert run(check_string("eq", "{{item.nowhere}}")).metadata.errors.invalid_variable_error
    assert run(check_string("eq", given="{{sample.output_json.a}}"), "no JSON").metadata.errors.sample_parse_error


@check(
    differs(
        "grader_runs",
        "`POST /fine_tuning/alpha/tool/run`",
        "one call of a tool",
        "the tool's fields, and `arguments`, `item`, `trace_id`, `call_id`; a tool that fails is 424",
    )
)
def tries_a_tool(world: World) -> None:
    body = {**tools(world)[0], "arguments": {"word": "apple"}, "item": ITEM, "trace_id": "trace_mine"}
    said = json.loads(OpenAI().post("/fine_tuning/alpha/tool/run", body=body, cast_to=bytes))
    assert (said["type"], said["output"], said["trace_id"]) == ("function_call_output", "fine", "trace_mine"), said
    assert world.received("/lookup")[-1]["body"]["item"] == ITEM


@check(
    same("grader_runs", "`validate`", "the grader, or 400"),
    differs(
        "grader_runs",
        "`validate`: a python grader's imports",
        "not looked at",
        "run in the sandbox; a package that is missing is named, with how to install it",
    ),
    differs("grader_runs", "`validate`: header values", "shown", "`***`"),
)
def validates_graders(world: World) -> None:
    graders = OpenAI().fine_tuning.alpha.graders
    for grader in (check_string("eq"), similar("bleu"), python("return 1.0", pass_threshold=0.5)):
        assert graders.validate(grader=grader).grader.type == grader["type"]
    remote = {"type": "endpoint", "url": f"{world.endpoints}/grade", "headers": {"Authorization": "Bearer x-secret"}}
    answer = graders.with_raw_response.validate(grader=remote).http_response.text
    assert "x-secret" not in answer and "***" in answer
    for broken, word in (
        (
            {
                "type": "python",
                "name": "c",
                "source": "import nowhere_to_be_found\ndef grade(sample, item):\n    return 1",
            },
            "nowhere_to_be_found",
        ),
        ({"type": "python", "name": "c", "source": "def grade(sample, item)\n    return 1"}, "line 1"),
        ({**check_string("eq"), "operation": "equals"}, "operation"),
        (
            {"type": "python", "name": "c", "source": "def grade(sample, item):\n    return 1", "sources": 1},
            "image_tag",
        ),
    ):
        try:
            graders.validate(grader=broken)
        except BadRequestError as error:
            assert word in f"{error.param} {error}", (word, error)
        else:
            raise AssertionError(f"taken: {broken}")
