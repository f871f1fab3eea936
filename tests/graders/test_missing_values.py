"""What a template reads and a rollout lacks: the agent's fault, scored lowest, and never a failure of the grader."""

from typing import Any

import pytest
from pydantic import TypeAdapter

from agentrft.errors import UserError
from agentrft.graders import Grade, GraderFailure, GraderSample, create_grader
from agentrft.spec import GraderSpec

CALL = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": '{"q": "a"}'}}
# References that these answers have no value for.
LACKING = [
    ("sample.output_json", "no JSON at all"),
    ("sample.output_json.k", "no JSON at all"),
    ("sample.output_json.k", ""),
    ("sample.output_json.k", '{"k": 1'),
    ("sample.output_json.k", '{"other": 1}'),
    ("sample.output_json.k", "[1, 2]"),
    ("sample.output_json.k", "42"),
    ("sample.output_json.k", "null"),
    ("sample.output_json.k.deeper[3]", '{"k": {"deeper": [1, 2, 3]}}'),
    ("sample.output_json[0]", '{"0": 1}'),
    ('sample.output_json["a key"]', "{}"),
    ("sample.output_tools[0].function.name", "answered at once"),
    ("sample.output_tools[-1].function.arguments", "answered at once"),
    ("sample.choices[0].message.tool_calls[0].function.name", "answered at once"),
    ("sample.messages[0].content", "answered at once"),
    ("sample.trace.calls[0].name", "answered at once"),
]
UNREACHABLE = {"model": "judge", "base_url": "http://127.0.0.1:9/v1", "retries": 0}


def judge_input(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def checked(text: str, operation: str = "eq") -> dict[str, Any]:
    return {"type": "string_check", "input": text, "reference": "search", "operation": operation}


async def grade(spec: dict[str, Any], sample: GraderSample, item: dict[str, Any] | None = None) -> Grade:
    grader = create_grader(TypeAdapter(GraderSpec).validate_python(spec))
    try:
        return await grader.grade(sample, item=item or {}, trace_id="t")
    finally:
        await grader.close()


@pytest.mark.parametrize(("reference", "answer"), LACKING)
@pytest.mark.parametrize("operation", ["eq", "ne", "neq", "like", "ilike"])
async def test_a_string_check_of_what_is_not_there_is_zero_whatever_it_compares(
    reference: str, answer: str, operation: str
) -> None:
    found = await grade(checked(f"{{{{ {reference} }}}}", operation), GraderSample(answer))
    assert (found.score, found.missing, found.faults) == (0.0, [reference], {"missing_sample_key": 1})
    assert found.reason is not None
    assert reference in found.reason


async def test_a_missing_reference_counts_as_much_as_a_missing_input() -> None:
    spec = {**checked("search", "ne"), "reference": "{{ sample.output_json.k }}"}
    assert (await grade(spec, GraderSample("text"))).score == 0.0


@pytest.mark.parametrize(
    ("spec", "lowest"),
    [
        ({"type": "text_similarity", "reference": "a", "evaluation_metric": "fuzzy_match"}, 0.0),
        ({"type": "score_model", **UNREACHABLE, "range": [-2, 3]}, -2.0),
        ({"type": "score_model", **UNREACHABLE, "range": [1, 10]}, 1.0),
        ({"type": "label_model", **UNREACHABLE, "labels": ["a", "b"], "passing_labels": ["a"]}, 0.0),
    ],
)
async def test_every_grader_with_templates_gives_its_lowest_and_asks_no_judge(
    spec: dict[str, Any], lowest: float
) -> None:
    text = "{{ sample.output_tools[0].function.name }}"
    given = text if spec["type"] == "text_similarity" else judge_input(text)
    found = await grade({**spec, "input": given}, GraderSample("answered at once"))
    assert (found.score, found.missing) == (lowest, ["sample.output_tools[0].function.name"])


async def test_in_a_multi_the_grader_that_lacks_something_gives_its_lowest_and_the_others_count() -> None:
    name = "{{ sample.output_tools[0].function.name }}"
    spec = {
        "type": "multi",
        "graders": {
            "called": checked(name),
            "judged": {"type": "score_model", **UNREACHABLE, "range": [-1, 1], "input": judge_input(name)},
            "said": checked("{{ sample.output_text }}"),
        },
        "calculate_output": "said + called + 0.25 * judged",
    }
    found = await grade(spec, GraderSample("search"))
    assert (found.score, found.sub_scores) == (0.75, {"called": 0.0, "judged": -1.0, "said": 1.0})
    assert found.faults == {"missing_sample_key": 2}
    assert found.missing == ["sample.output_tools[0].function.name"]
    assert found.parts["called"].faults == {"missing_sample_key": 1}
    assert "called:" in str(found.reason)


@pytest.mark.parametrize(
    ("formula", "lowest"),
    [("1 - a", 0.0), ("ok * (1 - a)", 0.0), ("-a", -1.0), ("1 / a", 0.0), ("1 / (0.5 - a)", 0.0), ("2 - a + ok", 2.0)],
)
async def test_lacking_something_never_pays_where_the_formula_falls_with_a_score(formula: str, lowest: float) -> None:
    graders = {"a": checked("{{ sample.output_json.k }}"), "ok": checked("{{ sample.output_text }}")}
    found = await grade({"type": "multi", "graders": graders, "calculate_output": formula}, GraderSample("search"))
    assert (found.score, found.faults) == (lowest, {"missing_sample_key": 1})


async def test_lacking_something_never_pays_where_the_range_is_not_known() -> None:
    graders = {
        "a": checked("{{ sample.output_json.k }}"),
        "p": {"type": "python", "trusted": True, "source": "def grade(sample, item):\n    return -0.5"},
    }
    found = await grade({"type": "multi", "graders": graders, "calculate_output": "1 - a + p"}, GraderSample("search"))
    assert found.score == -0.5


async def test_what_is_there_is_compared_as_before() -> None:
    found = await grade(checked("{{ sample.output_tools[0].function.name }}"), GraderSample("", [CALL]))
    assert (found.score, found.missing, found.faults) == (1.0, [], {})
    assert (await grade(checked("{{ sample.output_json.k }}"), GraderSample('{"k": "search"}'))).score == 1.0


async def test_a_row_that_lacks_something_is_a_failure_even_where_the_rollout_does_too() -> None:
    for spec in (
        {**checked("{{ sample.output_json.k }}"), "reference": "{{ item.answer }}"},
        checked("{{ sample.output_json.k }} {{ item.answer }}"),
        checked("{{ item.answer }} {{ sample.output_json.k }}"),
    ):
        with pytest.raises(GraderFailure, match=r"item\.answer") as failure:
            await grade(spec, GraderSample("text"))
        assert failure.value.kind == "missing_key"


@pytest.mark.parametrize(
    "reference",
    [
        "sample.output",
        "sample.output_jsn.k",
        "sample[0]",
        "sample.output_text.k",
        "sample.output_text[0]",
        "sample.output_tools.function",
        "sample.output_tools[0].name",
        "sample.output_tools[0].function.arguments.q",
        "sample.choices.message",
        "sample.trace.tool_calls",
    ],
)
def test_what_no_rollout_can_have_is_refused_when_the_grader_is_made(reference: str) -> None:
    with pytest.raises(UserError, match="sample"):
        create_grader(TypeAdapter(GraderSpec).validate_python(checked(f"{{{{ {reference} }}}}")))
