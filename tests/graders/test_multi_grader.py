import asyncio
from typing import Any

import pytest

from agentrft.data import Sample
from agentrft.errors import UserError
from agentrft.graders import Grade, GraderFailure, GraderSample, GraderUse, check_templates, create_grader, score_range
from agentrft.graders.multi import MultiGrader, reward_weights
from agentrft.spec.graders import MultiGraderSpec, StringCheckGraderSpec

SAMPLE = GraderSample("the code is E11")


def string_check(reference: str = "{{ item.answer }}", operation: str = "like") -> dict[str, Any]:
    return {
        "type": "string_check",
        "input": "{{ sample.output_text }}",
        "reference": reference,
        "operation": operation,
    }


def python(source: str) -> dict[str, Any]:
    return {"type": "python", "trusted": True, "source": source, "timeout_s": 30}


def multi(formula: str, **graders: dict[str, Any]) -> MultiGraderSpec:
    return MultiGraderSpec.model_validate({"type": "multi", "graders": graders, "calculate_output": formula})


async def test_scores_are_combined_by_the_formula_and_kept_as_sub_scores() -> None:
    spec = multi(
        "0.75 * right + 0.25 * max(similar, short)",
        right=string_check(),
        similar={
            "type": "text_similarity",
            "input": "a b c d",
            "reference": "a b x d",
            "evaluation_metric": "rouge_1",
        },
        short=python("def grade(sample, item):\n    return 1 / (1 + len(sample['output_text']))"),
    )
    grader = create_grader(spec)
    try:
        grade = await grader.grade(SAMPLE, item={"answer": "E11"}, trace_id="t")
    finally:
        await grader.close()
    assert grade.score == pytest.approx(0.75 + 0.25 * 0.75)
    assert grade.sub_scores == {"right": 1.0, "similar": pytest.approx(0.75), "short": 1 / 16}
    assert grade.latency_s > 0


async def test_one_failing_grader_fails_the_whole_and_is_named() -> None:
    spec = multi("a + b", a=string_check("E11"), b=python("def grade(sample, item):\n    raise ValueError('no')"))
    grader = create_grader(spec)
    try:
        with pytest.raises(GraderFailure, match="ValueError: no") as error:
            await grader.grade(SAMPLE, item={}, trace_id="t")
    finally:
        await grader.close()
    assert (error.value.grader, error.value.kind) == ("b", "exception")


class Fixed:
    """A grader with an answer of our choice, to see how the multi grader treats it."""

    name = "fixed"

    def __init__(self, grade: Grade | GraderFailure, wait_s: float = 0.0) -> None:
        self._grade = grade
        self._wait_s = wait_s
        self.cancelled = False
        self.closed = False

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        try:
            await asyncio.sleep(self._wait_s)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        if isinstance(self._grade, GraderFailure):
            raise self._grade
        return self._grade

    async def close(self) -> None:
        self.closed = True


async def test_reasons_errors_and_inner_sub_scores_keep_their_graders_name() -> None:
    graders = {
        "a": Fixed(Grade(1.0, {"style": 0.5}, "good", ["one warning"])),
        "b": Fixed(Grade(0.0)),
    }
    grade = await MultiGrader(multi("a - b", a=string_check(), b=string_check()), graders).grade(
        SAMPLE, item={}, trace_id="t"
    )
    assert grade.sub_scores == {"a": 1.0, "a.style": 0.5, "b": 0.0}
    assert grade.reason == "a: good"
    assert grade.errors == ["a: one warning"]


async def test_what_each_grader_took_keeps_its_name() -> None:
    graders = {
        "a": Fixed(Grade(1.0, faults={"timeout": 1}, usage={"total_tokens": 5}, latency_s=0.5)),
        "b": Fixed(Grade(0.0, faults={"timeout": 2}, usage={"total_tokens": 7}, latency_s=0.25)),
    }
    grade = await MultiGrader(multi("a - b", a=string_check(), b=string_check()), graders).grade(
        SAMPLE, item={}, trace_id="t"
    )
    assert grade.uses("multi") == {
        "a": GraderUse({"timeout": 1}, {"total_tokens": 5}, 0.5),
        "b": GraderUse({"timeout": 2}, {"total_tokens": 7}, 0.25),
    }
    assert (grade.faults, grade.usage) == ({"timeout": 3}, {"total_tokens": 12})


async def test_a_failure_says_what_the_other_graders_took_by_then() -> None:
    failure = GraderFailure("broken", "bad_answer", "nonsense", faults={"bad_answer": 3}, usage={"total_tokens": 45})
    graders = {
        "quick": Fixed(Grade(1.0, usage={"total_tokens": 5}, latency_s=0.5)),
        "slow": Fixed(Grade(1.0), 60),
        "broken": Fixed(failure, 0.05),
    }
    grader = MultiGrader(multi("quick + slow + broken", **dict.fromkeys(graders, string_check())), graders)
    with pytest.raises(GraderFailure) as failed:
        await grader.grade(SAMPLE, item={}, trace_id="t")
    assert failed.value.uses == {
        "quick": GraderUse({}, {"total_tokens": 5}, 0.5),
        "broken": GraderUse({"bad_answer": 3}, {"total_tokens": 45}),
    }


async def test_a_formula_without_a_value_is_the_multi_graders_own_fault() -> None:
    graders = {"a": Fixed(Grade(0.0, usage={"total_tokens": 5}, latency_s=0.5))}
    with pytest.raises(GraderFailure) as failed:
        await MultiGrader(multi("1 / a", a=string_check()), graders).grade(SAMPLE, item={}, trace_id="t")
    assert failed.value.uses == {"a": GraderUse({}, {"total_tokens": 5}, 0.5), "multi": GraderUse({"formula": 1}, {})}


async def test_graders_run_at_the_same_time() -> None:
    barrier = asyncio.Barrier(3)

    class WaitsForTheOthers(Fixed):
        async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
            await barrier.wait()
            return await super().grade(sample, item=item, trace_id=trace_id)

    graders = {key: WaitsForTheOthers(Grade(1.0)) for key in ("a", "b", "c")}
    grader = MultiGrader(multi("a + b + c", **{key: string_check() for key in graders}), graders)
    async with asyncio.timeout(10):
        assert (await grader.grade(SAMPLE, item={}, trace_id="t")).score == 3.0


async def test_after_a_failure_the_others_are_cancelled_and_close_closes_all() -> None:
    slow = Fixed(Grade(1.0), 60)
    graders = {"slow": slow, "broken": Fixed(GraderFailure("broken", "timeout", "late"))}
    grader = MultiGrader(multi("slow + broken", slow=string_check(), broken=string_check()), graders)
    with pytest.raises(GraderFailure, match="late"):
        await grader.grade(SAMPLE, item={}, trace_id="t")
    assert slow.cancelled
    await grader.close()
    assert all(one.closed for one in graders.values())


@pytest.mark.parametrize("formula", ["1 / a", "log(a)", "sqrt(a - 1)", "10 ^ (400 + a)"])
async def test_a_formula_without_a_value_is_a_failure_and_no_score(formula: str) -> None:
    grader = create_grader(multi(formula, a=string_check("absent")))
    with pytest.raises(GraderFailure) as error:
        await grader.grade(SAMPLE, item={}, trace_id="t")
    assert error.value.kind == "formula"


@pytest.mark.parametrize("formula", ["1 / a", "log(a)", "1 / a + b"])
async def test_an_invalid_grade_is_the_score_where_the_formula_has_none_and_is_counted(formula: str) -> None:
    spec = multi(formula, a=string_check("absent"), b=string_check("E11")).model_copy(update={"invalid_grade": -0.5})
    grade = await create_grader(spec).grade(SAMPLE, item={}, trace_id="t")
    assert (grade.score, grade.faults, grade.missing) == (-0.5, {"formula": 1}, [])
    assert grade.uses("multi")["multi"].faults == {"formula": 1}
    assert grade.errors[0].startswith("formula: ")
    assert score_range(spec) is None or (score_range(spec) or (0, 0))[0] <= -0.5


async def test_an_invalid_grade_is_the_score_of_an_answer_that_lacks_what_is_read() -> None:
    lacking = {**string_check("x"), "input": "{{ sample.output_json.k }}"}
    spec = multi("a - 2 * b", a=string_check("E11"), b=lacking)
    assert (await create_grader(spec).grade(SAMPLE, item={}, trace_id="t")).score == -1.0
    spec = spec.model_copy(update={"invalid_grade": 0.0})
    grade = await create_grader(spec).grade(SAMPLE, item={}, trace_id="t")
    assert (grade.score, grade.missing) == (0.0, ["sample.output_json.k"])
    assert score_range(spec) == (-2.0, 1.0)
    assert score_range(multi("a", a=string_check()).model_copy(update={"invalid_grade": -3.0})) == (-3.0, 1.0)


async def test_an_invalid_grade_is_no_score_for_a_grader_that_broke() -> None:
    spec = multi("a", a=python("def grade(sample, item):\n    return 1 / 0")).model_copy(update={"invalid_grade": 0.0})
    grader = create_grader(spec)
    with pytest.raises(GraderFailure, match="ZeroDivisionError"):
        await grader.grade(SAMPLE, item={}, trace_id="t")
    await grader.close()


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (multi("a + c", a=string_check(), b=string_check()), "unknown grader 'c'; graders here: a, b"),
        (multi("a +", a=string_check()), "position 4"),
        (multi("max", max=string_check()), "'max' cannot stand in a formula"),
        (multi("x", **{"my-grader": string_check()}), "'my-grader' cannot stand in a formula"),
        (multi("1"), "there are none"),
        (multi("a", a=string_check("{{ item.answer")), "grader 'a': reference: template, line 1"),
        (multi("a", a=python("x = 1")), "grader 'a': source"),
        (StringCheckGraderSpec(type="string_check", input="{{ x }}", reference="", operation="eq"), "input: template"),
    ],
)
def test_a_spec_that_cannot_work_is_refused_at_creation(spec: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        create_grader(spec)


def rows(*items: dict[str, Any]) -> list[Sample]:
    return [Sample(f"{number:05d}-x", [], item=item) for number, item in enumerate(items, start=1)]


def test_rows_that_lack_what_the_templates_read_are_all_listed() -> None:
    spec = multi("a + b", a=string_check(), b=string_check("{{ item.meta['code'][0] }} {{ sample.output_json.x }}"))
    good = {"answer": "x", "meta": {"code": ["E11"]}}
    check_templates(spec, rows(good, good))
    with pytest.raises(UserError) as error:
        check_templates(spec, rows(good, {"answr": "x", "meta": {"code": []}}, {"answer": "x", "meta": "?"}))
    cause = error.value.cause
    assert "3 fault(s)" in cause
    assert "row 00002-x: grader 'a', reference: item.answer" in cause and "'answr'" in cause
    assert "row 00002-x: grader 'b', reference: item.meta.code[0]" in cause
    assert "row 00003-x: grader 'b'" in cause
    assert "row 00001" not in cause


def test_many_faulty_rows_are_counted_and_the_first_are_shown() -> None:
    spec = multi("a", a=string_check())
    with pytest.raises(UserError, match="and 80 more"):
        check_templates(spec, rows(*[{}] * 100))


def test_graders_without_templates_need_nothing_of_the_rows() -> None:
    check_templates(multi("a", a=python("def grade(sample, item):\n    return 1")), rows({}))


@pytest.mark.parametrize(
    "spec",
    [
        multi("1e10 * a", a=string_check("E11")),
        multi("-1e39 * a", a=string_check("E11")),
        multi("a", a=python("def grade(sample, item):\n    return 1e39")),
        multi("a", a=python("def grade(sample, item):\n    return -2_000_000_000")),
    ],
)
async def test_a_number_that_is_too_large_is_no_score(spec: MultiGraderSpec) -> None:
    grader = create_grader(spec)
    try:
        with pytest.raises(GraderFailure, match="must lie between -1000000000 and 1000000000") as error:
            await grader.grade(SAMPLE, item={}, trace_id="t")
    finally:
        await grader.close()
    assert error.value.kind == "bad_answer"


@pytest.mark.parametrize(
    ("formula", "weights"),
    [
        ("0.8 * a + 0.2 * b", {"a": 0.8, "b": 0.2}),
        ("a - b / 4 + 3", {"a": 1.0, "b": -0.25}),
        ("2 * (a + b) - b", {"a": 2.0, "b": 1.0}),
        ("a", {"a": 1.0}),
        ("a * b", None),
        ("min(a, b)", None),
        ("a + abs(b)", None),
        ("a / b", None),
        ("max(a, 0.5) + b", None),
    ],
)
def test_graders_are_compared_apart_only_where_the_formula_adds_them_up(
    formula: str, weights: dict[str, float] | None
) -> None:
    check = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}
    spec = MultiGraderSpec.model_validate(
        {
            "type": "multi",
            "graders": {name: {**check, "name": name} for name in ("a", "b")},
            "calculate_output": formula,
            "normalise": "each",
        }
    )
    parts = {name: create_grader(one) for name, one in spec.graders.items()}
    if weights is None:
        with pytest.raises(UserError, match="must add them up"):
            MultiGrader(spec, parts)
    else:
        assert reward_weights(MultiGrader(spec, parts)) == pytest.approx(weights)
    plain = spec.model_copy(update={"normalise": "sum"})
    assert reward_weights(MultiGrader(plain, parts)) == {}
