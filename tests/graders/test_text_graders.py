import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.corpus import wordnet

from agentrft.errors import UserError
from agentrft.graders import GraderFailure, GraderSample, create_grader
from agentrft.graders.scores import finite_score
from agentrft.graders.text_similarity import cosine
from agentrft.spec.graders import StringCheckGraderSpec, TextSimilarityGraderSpec

INPUT, REFERENCE = "{{ sample.output_text }}", "{{ item.answer }}"
METRICS = ["fuzzy_match", "bleu", "gleu", "cosine", *(f"rouge_{n}" for n in (1, 2, 3, 4, 5)), "rouge_l"]


async def check(operation: str, text: str, reference: str) -> float:
    spec = StringCheckGraderSpec(type="string_check", input=INPUT, reference=REFERENCE, operation=operation)
    grade = await create_grader(spec).grade(GraderSample(text), item={"answer": reference}, trace_id="t")
    assert grade.latency_s > 0
    return grade.score


async def similarity(metric: str, text: str, reference: str) -> float:
    spec = TextSimilarityGraderSpec(
        type="text_similarity", input=INPUT, reference=REFERENCE, evaluation_metric=metric, pass_threshold=0.5
    )
    grade = await create_grader(spec).grade(GraderSample(text), item={"answer": reference}, trace_id="t")
    assert grade.latency_s > 0
    return grade.score


@pytest.mark.parametrize(
    ("operation", "text", "reference", "score"),
    [
        ("eq", "E11", "E11", 1.0),
        ("eq", "E11 ", "E11", 0.0),
        ("eq", "e11", "E11", 0.0),
        ("ne", "E11", "E11", 0.0),
        ("ne", "E12", "E11", 1.0),
        ("neq", "E12", "E11", 1.0),
        ("like", "the code is E11.", "E11", 1.0),
        ("like", "the code is e11.", "E11", 0.0),
        ("like", "E11", "the code is E11.", 0.0),
        ("ilike", "the code is e11.", "E11", 1.0),
        ("ilike", "Straße", "STRASSE", 1.0),
        ("ilike", "E12", "E11", 0.0),
    ],
)
async def test_a_string_check_is_one_or_zero(operation: str, text: str, reference: str, score: float) -> None:
    assert await check(operation, text, reference) == score


async def test_a_number_in_the_row_compares_as_its_json_text() -> None:
    spec = StringCheckGraderSpec(type="string_check", input=INPUT, reference=REFERENCE, operation="eq")
    assert (await create_grader(spec).grade(GraderSample("42"), item={"answer": 42}, trace_id="t")).score == 1.0


async def test_a_key_that_the_row_lacks_is_a_failure_and_no_score() -> None:
    spec = StringCheckGraderSpec(
        type="string_check",
        name="code",
        input="{{ sample.output_json.code }}",
        reference="{{ item.code }}",
        operation="ne",
    )
    with pytest.raises(GraderFailure, match=r"item\.code") as error:
        await create_grader(spec).grade(GraderSample("no json"), item={}, trace_id="t")
    assert (error.value.kind, error.value.grader) == ("missing_key", "code")


@pytest.mark.parametrize("metric", METRICS)
async def test_equal_texts_score_one_and_texts_with_nothing_in_common_zero(metric: str) -> None:
    text = "the quick brown fox jumps over the lazy dog"
    assert await similarity(metric, text, text) == pytest.approx(1.0)
    assert await similarity(metric, "0123456789", text) == pytest.approx(0.0, abs=0.01)
    assert await similarity(metric, "", text) == 0.0
    assert 0.0 < await similarity(metric, "the quick brown fox jumps over a cat", text) < 1.0


@pytest.mark.parametrize(
    ("metric", "value"),
    [
        # By hand: 2 * (shared characters in order) / (all characters): 2 * 3 / 8.
        ("fuzzy_match", 0.75),
        # "a b c d" and "a b x d": 3 of 4 words shared, counts of one each.
        ("cosine", 0.75),
        ("rouge_1", 0.75),
        # One of three pairs of words.
        ("rouge_2", 1 / 3),
        ("rouge_3", 0.0),
        ("rouge_l", 0.75),
        # Of 4 + 3 + 2 + 1 n-grams: 3 words and 1 pair.
        ("gleu", 0.4),
    ],
)
async def test_metrics_have_the_values_that_their_definitions_give(metric: str, value: float) -> None:
    texts = ("abcd", "abxd") if metric == "fuzzy_match" else ("a b c d", "a b x d")
    assert await similarity(metric, *texts) == pytest.approx(value)


@pytest.mark.parametrize("metric", ["cosine", "rouge_1", "rouge_l", "gleu"])
async def test_letters_beyond_a_to_z_count(metric: str) -> None:
    assert await similarity(metric, "Übermäßig größer żółw тест", "Übermäßig größer żółw тест") == pytest.approx(1.0)
    assert await similarity(metric, "größer", "großer") == 0.0


@pytest.mark.parametrize("metric", METRICS)
@given(text=st.text(max_size=40), reference=st.text(max_size=40))
async def test_a_similarity_is_always_between_zero_and_one(metric: str, text: str, reference: str) -> None:
    assert 0.0 <= await similarity(metric, text, reference) <= 1.0


@given(st.text(), st.text())
def test_cosine_does_not_depend_on_the_order(text: str, reference: str) -> None:
    assert cosine(text, reference) == pytest.approx(cosine(reference, text))


def test_meteor_without_its_synonyms_is_refused_rather_than_wrong() -> None:
    spec = TextSimilarityGraderSpec(type="text_similarity", input=INPUT, reference="x", evaluation_metric="meteor")
    try:
        wordnet.ensure_loaded()
    except LookupError:
        with pytest.raises(UserError, match="WordNet") as error:
            create_grader(spec)
        assert "rouge_l" in error.value.remedy
    else:
        create_grader(spec)


def test_a_metric_whose_package_is_absent_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    # None in sys.modules is how Python marks a module that cannot be imported.
    monkeypatch.setitem(sys.modules, "rapidfuzz", None)
    spec = TextSimilarityGraderSpec(type="text_similarity", input="", reference="x", evaluation_metric="fuzzy_match")
    with pytest.raises(UserError, match="'rapidfuzz'") as error:
        create_grader(spec)
    assert "agentrft[graders]" in error.value.remedy


@pytest.mark.parametrize("value", [None, "1", float("nan"), float("inf"), [1.0], 10**400, 1j])
def test_what_is_not_a_finite_number_is_no_score(value: object) -> None:
    with pytest.raises(GraderFailure) as error:
        finite_score(value, grader="mine", what="the score")
    assert error.value.kind == "bad_answer"


def test_finite_numbers_are_scores() -> None:
    assert [finite_score(value, grader="mine", what="x") for value in (1, -2.5, 0)] == [1.0, -2.5, 0.0]


async def test_a_similarity_waits_for_none_of_the_threads_that_others_hold() -> None:
    loop, released = asyncio.get_running_loop(), threading.Event()
    loop.set_default_executor(ThreadPoolExecutor(1))
    held = loop.run_in_executor(None, released.wait)
    try:
        assert await asyncio.wait_for(similarity("fuzzy_match", "a", "a"), 60) == 1.0
    finally:
        released.set()
        await held
