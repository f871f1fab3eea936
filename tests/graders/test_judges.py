"""Judges over Chat Completions: what they are asked, what they may answer, and when that is no score."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from pydantic import TypeAdapter

from agentrft.data import Sample
from agentrft.errors import UserError
from agentrft.graders import Grader, GraderFailure, GraderSample, check_templates, create_grader
from agentrft.graders.label_model import LabelModelGrader
from agentrft.graders.model import ModelGrader
from agentrft.graders.score_model import ScoreModelGrader
from agentrft.spec.graders import GraderSpec, LabelModelGraderSpec, ModelGraderSpec, ScoreModelGraderSpec
from agentrft.traffic import waiting

SAMPLE = GraderSample("Paris")
ITEM = {"question": "Capital of France?", "ground_truth": "Paris"}
KEY = "sk-judge-0123456789"
# An error of which the server says that it will not pass.
LASTING = "lasting"
KINDS = {
    "score_model": (ScoreModelGraderSpec, ScoreModelGrader),
    "label_model": (LabelModelGraderSpec, LabelModelGrader),
    "model": (ModelGraderSpec, ModelGrader),
}
QUESTION = [
    {"role": "system", "content": "Judge."},
    {"role": "user", "content": {"type": "input_text", "text": "{{ item.question }} -> {{ sample.output_text }}"}},
]


def said(content: Any, **message: Any) -> dict[str, Any]:
    text = content if isinstance(content, str) else json.dumps(content)
    return {
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": "stop"}
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
        },
    }


@dataclass
class JudgeServer:
    """Answers in turn; the last one for ever. A number is a status."""

    answers: list[Any] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        answer = self.answers[min(len(self.bodies), len(self.answers)) - 1]
        if isinstance(answer, int):
            return web.Response(status=answer, text=f"no, {self.keys[-1]}")
        if answer is LASTING:
            return web.Response(status=500, text="not in the asked format", headers={"x-should-retry": "false"})
        return web.json_response(answer)


@pytest.fixture
async def server() -> AsyncIterator[JudgeServer]:
    server = JudgeServer()
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


@pytest.fixture
async def make(server: JudgeServer, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Grader]]:
    monkeypatch.setenv("JUDGE_KEY", KEY)
    graders: list[Grader] = []

    def _make(kind: str, **fields: Any) -> Grader:
        spec, grader = KINDS[kind]
        defaults = {"type": kind, "model": "judge", "base_url": server.url, "api_key_env": "JUDGE_KEY"}
        graders.append(grader(spec.model_validate({**defaults, **fields}), backoff_s=0.001))
        return graders[-1]

    yield _make
    for grader in graders:
        await grader.close()


async def failure(grader: Grader, item: dict[str, Any] = ITEM) -> GraderFailure:
    with pytest.raises(GraderFailure) as failed:
        await grader.grade(SAMPLE, item=item, trace_id="trace_1")
    assert KEY not in str(failed.value)
    return failed.value


async def test_a_score_model_is_asked_in_a_schema_and_its_result_read(server: JudgeServer, make) -> None:
    steps = [{"description": "compare", "conclusion": "equal"}]
    server.answers = [said({"steps": steps, "result": 0.75})]
    sampling = {"temperature": 0.5, "seed": 7, "max_completions_tokens": 100}
    grade = await make("score_model", input=QUESTION, sampling_params=sampling).grade(
        SAMPLE, item=ITEM, trace_id="trace_1"
    )
    assert (grade.score, grade.reason) == (0.75, "compare: equal")
    assert grade.usage == {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cached_tokens": 4}
    (body,) = server.bodies
    assert body["model"] == "judge"
    assert body["messages"] == [
        {"role": "system", "content": "Judge."},
        {"role": "user", "content": "Capital of France? -> Paris"},
    ]
    assert (body["temperature"], body["seed"], body["max_completion_tokens"]) == (0.5, 7, 100)
    assert "top_p" not in body
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["steps", "result"]
    assert server.keys == [f"Bearer {KEY}"]


@pytest.mark.parametrize(("result", "score"), [(11, 10.0), (-3, 0.0), (4, 4.0)])
async def test_a_result_outside_the_range_is_clipped(server: JudgeServer, make, result: float, score: float) -> None:
    server.answers = [said({"steps": [], "result": result})]
    grade = await make("score_model", input=QUESTION, range=[0, 10]).grade(SAMPLE, item=ITEM, trace_id="t")
    assert grade.score == score


async def test_nonsense_is_asked_for_again_with_another_seed(server: JudgeServer, make) -> None:
    server.answers = [said("I would say 7"), said({"result": "7"}), said({"steps": [], "result": 1})]
    grade = await make("score_model", input=QUESTION, sampling_params={"seed": 3}).grade(
        SAMPLE, item=ITEM, trace_id="t"
    )
    assert (grade.score, grade.faults) == (1.0, {"bad_answer": 2})
    assert [body["seed"] for body in server.bodies] == [3, 4, 5]
    assert grade.usage["total_tokens"] == 45


@pytest.mark.parametrize(
    "nonsense", [said("score: 1"), said(""), said({"result": None}), said({"result": True}), said('{"result": NaN}')]
)
async def test_nonsense_without_end_is_a_failure_and_no_score(server: JudgeServer, make, nonsense: Any) -> None:
    server.answers = [nonsense]
    failed = await failure(make("score_model", input=QUESTION))
    assert (failed.kind, failed.faults, len(server.bodies)) == ("bad_answer", {"bad_answer": 3}, 3)


@pytest.mark.parametrize(
    ("answer", "kind", "requests"),
    [
        (said("", refusal="I cannot judge this"), "refusal", 1),
        (400, "client_error", 1),
        (401, "credential_refused", 1),
        (500, "server_error", 4),
        (LASTING, "server_error", 1),
        ({"error": "x"}, "bad_answer", 4),
        ({"choices": []}, "bad_answer", 4),
        ([], "bad_answer", 4),
    ],
)
async def test_a_judge_that_gives_no_answer_is_a_failure(
    server: JudgeServer, make, answer: Any, kind: str, requests: int
) -> None:
    server.answers = [answer]
    failed = await failure(make("score_model", input=QUESTION))
    assert (failed.kind, len(server.bodies)) == (kind, requests)


async def test_a_judge_whose_key_expires_is_waited_for(
    server: JudgeServer, make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "FIRST_INTERVAL_S", 0.05)
    grader = make("score_model", input=QUESTION)
    good = said({"steps": [], "result": 0.5})
    # The second grade is refused three times.
    server.answers = [good, 401, 401, 401, good]
    for _ in range(2):
        assert (await grader.grade(SAMPLE, item=ITEM, trace_id="t")).score == 0.5
    assert len(server.bodies) == 5


async def test_a_label_passes_or_does_not(server: JudgeServer, make) -> None:
    grader = make("label_model", input=QUESTION, labels=["good", "fair", "bad"], passing_labels=["good", "fair"])
    server.answers = [said({"steps": [], "result": "fair"}), said({"steps": [], "result": "bad"})]
    assert (await grader.grade(SAMPLE, item=ITEM, trace_id="t")).score == 1.0
    grade = await grader.grade(SAMPLE, item=ITEM, trace_id="t")
    assert (grade.score, grade.reason) == (0.0, "label: bad")
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["result"]["enum"] == ["good", "fair", "bad"]


async def test_a_label_that_does_not_exist_is_nonsense(server: JudgeServer, make) -> None:
    server.answers = [said({"steps": [], "result": "excellent"})]
    failed = await failure(make("label_model", input=QUESTION, labels=["good", "bad"], passing_labels=["good"]))
    assert failed.kind == "bad_answer"


async def test_the_short_shape_fills_names_in_braces_and_reads_score(server: JudgeServer, make) -> None:
    server.answers = [said({"score": 0.5, "style": 0.25, "reason": "close", "sure": True})]
    prompt = 'Right: {ground_truth}. Given: {final_answer}. {question} Answer as {"score": number}.'
    grade = await make("model", prompt=prompt).grade(GraderSample("Lyon {question}"), item=ITEM, trace_id="t")
    assert (grade.score, grade.sub_scores, grade.reason) == (0.5, {"style": 0.25}, "close")
    asked = server.bodies[0]["messages"][0]["content"]
    assert asked == 'Right: Paris. Given: Lyon {question}. Capital of France? Answer as {"score": number}.'


async def test_the_short_shape_sends_the_response_format_that_it_was_given(server: JudgeServer, make) -> None:
    server.answers = [said({"score": 1})]
    schema = {"type": "object", "properties": {"score": {"type": "integer"}}}
    given = {"type": "json_schema", "json_schema": {"name": "mine", "schema": schema}}
    await make("model", prompt="{final_answer}", response_format=given).grade(SAMPLE, item=ITEM, trace_id="t")
    await make("model", prompt="{final_answer}", response_format=schema).grade(SAMPLE, item=ITEM, trace_id="t")
    assert server.bodies[0]["response_format"] == given
    assert server.bodies[1]["response_format"]["json_schema"]["schema"] == schema


async def test_a_key_that_the_row_lacks_is_a_failure_and_found_before_the_job(make) -> None:
    grader = make("model", prompt="{final_answer} {missing}")
    assert (await failure(grader)).kind == "missing_key"
    spec = TypeAdapter(GraderSpec).validate_python(
        {"type": "model", "model": "judge", "base_url": "http://127.0.0.1:1/v1", "prompt": "{final_answer} {missing}"}
    )
    with pytest.raises(UserError, match="missing"):
        check_templates(spec, [Sample("00001", [], item=ITEM)])


@pytest.mark.parametrize(
    ("kind", "fields", "cause"),
    [
        ("model", {"prompt": "Give 1."}, "names nothing of the rollout"),
        ("model", {"prompt": "{final_answer}", "response_format": {"type": "text"}}, "unknown type"),
        ("model", {"prompt": "{final_answer}", "response_format": {"type": "object"}}, "no property 'score'"),
        *(
            ("model", {"prompt": "{final_answer}", "response_format": {"type": "json_schema", **given}}, said)
            for given, said in [
                ({}, "no property 'score'"),
                ({"json_schema": 3}, "no property 'score'"),
                ({"json_schema": {"schema": {"properties": ["score"]}}}, "no property 'score'"),
                ({"json_schema": {"schema": {"properties": {"score": {"$ref": "#/missing"}}}}}, "leads nowhere"),
                ({"json_schema": {"schema": {"properties": {"score": {}}, "$ref": "#"}}}, "comes back to the place"),
            ]
        ),
        ("score_model", {"input": [{"role": "user", "content": "{{ nothing }}"}]}, r"input\.0"),
        ("score_model", {"input": QUESTION, "range": [1, 1]}, "the lower first"),
        ("label_model", {"input": QUESTION, "labels": ["a", "b"], "passing_labels": ["c"]}, "not among the labels"),
    ],
)
async def test_what_cannot_work_is_refused_at_once(make, kind: str, fields: dict[str, Any], cause: str) -> None:
    with pytest.raises((UserError, ValueError), match=cause):
        make(kind, **fields)


def test_the_default_server_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    spec = TypeAdapter(GraderSpec).validate_python({"type": "score_model", "model": "judge", "input": QUESTION})
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        create_grader(spec)
