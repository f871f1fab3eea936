"""The trace grader: each measure on one rollout, and the line between best and worst."""

import pytest

from agentrft.graders import CallFact, GraderSample, TraceFacts, create_grader
from agentrft.spec.graders import MultiGraderSpec, StringCheckGraderSpec, TraceGraderSpec

CALLS = [
    CallFact("search", '{"q": "a", "n": 1}', "ok", 0.1, 0),
    CallFact("search", '{"n": 1, "q": "a"}', "ok", 0.1, 0),
    CallFact("fetch", '{"id": 1}', "client_error", 0.1, 1),
    CallFact("fetsch", "not json", "unknown_tool", 0.0, 1),
    CallFact("delete", "{}", "cut", 0.1, 3),
]
SAMPLE = GraderSample("answer", trace=TraceFacts(CALLS, turns=5, sampled_tokens=120, latency_s=3.0))


def grader(**fields: object) -> TraceGraderSpec:
    return TraceGraderSpec.model_validate({"type": "trace", "best": 0, "worst": 10, **fields})


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"measure": "tool_calls"}, 5),
        ({"measure": "tool_calls", "tools": ["search"]}, 2),
        ({"measure": "turns"}, 5),
        ({"measure": "sampled_tokens"}, 120),
        ({"measure": "latency_s"}, 3),
        ({"measure": "parallelism"}, 5 / 3),
        ({"measure": "failed_calls"}, 2),
        ({"measure": "repeated_calls"}, 1),
        ({"measure": "wrong_tools"}, 1),
        ({"measure": "wrong_tools", "tools": ["search", "fetch"]}, 2),
        ({"measure": "forbidden_tools", "tools": ["delete"]}, 1),
    ],
)
async def test_each_measure(fields: dict[str, object], value: float) -> None:
    grade = await create_grader(grader(**fields)).grade(SAMPLE, item={}, trace_id="t")
    assert grade.sub_scores == {"value": pytest.approx(value)}


@pytest.mark.parametrize(
    ("best", "worst", "score"), [(5, 8, 1.0), (0, 5, 0.0), (0, 10, 0.5), (6, 7, 1.0), (10, 0, 0.5), (4, 2, 1.0)]
)
async def test_the_score_is_linear_between_best_and_worst(best: float, worst: float, score: float) -> None:
    spec = grader(measure="tool_calls", best=best, worst=worst)
    assert (await create_grader(spec).grade(SAMPLE, item={}, trace_id="t")).score == pytest.approx(score)


async def test_half_the_calls_at_the_same_accuracy_is_one_line_of_a_formula() -> None:
    right = StringCheckGraderSpec(
        type="string_check", input="{{ sample.output_text }}", reference="answer", operation="eq"
    )
    multi = MultiGraderSpec(
        type="multi",
        graders={"right": right, "calls": grader(measure="tool_calls", best=0, worst=10)},
        calculate_output="right * (0.8 + 0.2 * calls)",
    )
    assert (await create_grader(multi).grade(SAMPLE, item={}, trace_id="t")).score == pytest.approx(0.9)


@pytest.mark.parametrize("fields", [{"measure": "turns", "best": 1, "worst": 1}, {"measure": "forbidden_tools"}])
def test_what_makes_no_sense_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must differ|forbidden"):
        grader(**fields)
