"""Azure's clients, and that their paths are held to what the plain ones are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from openai import AzureOpenAI, OpenAI

from agentrft.server.app import create_app
from agentrft.server.context import Context
from agentrft.server.ignored_fields import WARNING_HEADER
from agentrft.server.request_limits import MB
from agentrft.server.settings import Settings
from tests.job.tiny_job import prompt
from tests.server.live import MODEL, PYTHON_GRADER, Live, method
from tests.traffic.chaos_server import ChaosServer

VERSION = "2025-04-01-preview"
ASKED: Any = {"model": MODEL, "messages": prompt("apple"), "temperature": 0, "max_tokens": 8}
FORMS = ["/v1", "/openai/v1", "/openai"]
JSON = {"Content-Type": "application/json"}
OWN = "http://localhost:8321"


def root(server: Live) -> str:
    return server.url.removesuffix("/v1")


def azure(server: Live, key: str = "none", **options: Any) -> AzureOpenAI:
    return AzureOpenAI(azure_endpoint=root(server), api_version=VERSION, api_key=key, max_retries=0, **options)


@pytest.fixture(params=["AzureOpenAI", "AzureOpenAI of a deployment", "OpenAI with /openai/v1"])
def any_client(request: pytest.FixtureRequest, server: Live) -> OpenAI:
    match request.param:
        case "AzureOpenAI":
            return azure(server)
        case "AzureOpenAI of a deployment":
            return azure(server, azure_deployment=MODEL)
        case _:
            return OpenAI(base_url=f"{root(server)}/openai/v1", api_key="none", default_query={"api-version": VERSION})


def test_a_job_and_its_model_by_each_of_azures_clients(
    any_client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    client = any_client
    assert MODEL in [model.id for model in client.models.list()]
    made = client.files.create(
        file=("rows.jsonl", b'{"messages": [{"role": "user", "content": "x"}]}'), purpose="user_data"
    )
    assert client.files.content(made.id).content.startswith(b"{")
    assert client.files.delete(made.id).deleted

    given: Any = {"model": MODEL, "training_file": files["train"], "method": method(tools.url)}
    answer = client.fine_tuning.jobs.with_raw_response.create(**given, extra_body={"trainingType": "GlobalStandard"})
    job: Any = answer.parse()
    try:
        assert answer.headers[WARNING_HEADER] == "ignored: trainingType"
        assert client.fine_tuning.jobs.retrieve(job.id).id == job.id
        events = client.fine_tuning.jobs.list_events(job.id).data
        assert any("trainingType" in event.message for event in events if event.level == "warn")
    finally:
        client.fine_tuning.jobs.cancel(job.id)
    graded = client.fine_tuning.alpha.graders.run(grader=PYTHON_GRADER, model_sample="0123456789", item={"word": "a"})  # type: ignore[arg-type]
    assert graded.reward == 0.5

    assert client.chat.completions.create(**ASKED).model == MODEL
    assert client.responses.create(model=MODEL, input="Colour of apple?", max_output_tokens=16).model == MODEL


def test_a_deployment_in_the_path_is_the_model_whatever_the_body_says(server: Live) -> None:
    url = f"{root(server)}/openai/deployments/{MODEL}/chat/completions?api-version={VERSION}"
    body = {name: value for name, value in ASKED.items() if name != "model"}
    for given in (body, {**body, "model": "gpt-4o"}):
        answer = httpx.post(url, json=given, timeout=60)
        assert answer.status_code == 200 and answer.json()["model"] == MODEL
    unknown = httpx.post(url.replace(f"/{MODEL}/", "/ft%3Anone%3A1/"), json=body)
    assert unknown.status_code == 404 and "ft:none:1" in unknown.json()["error"]["message"]
    for path in (
        "/openai/deployments/x/embeddings",
        "/openai/healthz",
        "/openai/openai/v1/models",
        "/openai/v1/v1/models",
    ):
        assert httpx.get(root(server) + path).status_code == 404, path


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(tmp_path_factory.mktemp("keyless"), max_running_jobs=0)
    with TestClient(create_app(settings), base_url=OWN) as client:
        yield client


@pytest.mark.parametrize("form", FORMS)
def test_web_pages_and_other_hosts_are_kept_away_from_every_form(keyless: TestClient, form: str) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"}):
        for method_, path in (("GET", "/models"), ("POST", "/files"), ("POST", "/chat/completions")):
            assert keyless.request(method_, form + path, headers=headers).status_code == 403
    assert keyless.get(f"{form}/models").status_code == 200


@pytest.mark.parametrize(
    "path", ["/openai/deployments/tiny/chat/completions", *(f"{one}/chat/completions" for one in FORMS)]
)
def test_a_chat_may_be_as_large_in_every_form_and_no_larger(keyless: TestClient, path: str) -> None:
    text = b'{"model": "none", "messages": [{"role": "user", "content": "%s"}]}'
    assert keyless.post(path, content=text % (b"x" * 5 * MB), headers=JSON).status_code == 404
    assert keyless.post(path, content=text % (b"x" * 8 * MB)).status_code == 413
    assert keyless.post(path.replace("/chat/completions", "/x"), content=b"x" * 5 * MB).status_code == 413
    assert keyless.get(f"{path}/%00").status_code == 400


@pytest.mark.parametrize("form", FORMS)
def test_every_form_wants_a_key_in_either_header_where_the_api_does(tmp_path: Path, form: str) -> None:
    app = create_app(Settings(tmp_path, max_running_jobs=0, needs_key=True))
    context: Context = app.state.context
    row, key = context.records.create_key("team")
    with TestClient(app, base_url="http://any.example") as client:
        for path in (f"{form}/models", f"{form}/fine_tuning/jobs/ftjob-1"):
            for headers in ({}, {"api-key": "sk-agentrft-other"}, {"Authorization": f"Basic {key}"}, {"api-key": " "}):
                refused = client.get(path, headers=headers)
                assert refused.status_code == 401 and "api-key" in refused.json()["error"]["message"]
            for headers in ({"api-key": key}, {"Authorization": f"Bearer {key}"}):
                assert client.get(path, headers=headers).status_code in (200, 404)
        context.records.revoke_key(row.key_id)
        assert client.get(f"{form}/models", headers={"api-key": key}).status_code == 401


def test_polled_answers_come_from_the_cache_in_every_form(keyless: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def served(self: Context, job_id: str) -> Any:
        asked.append(job_id)
        return {"id": job_id}

    monkeypatch.setattr(Context, "job_object", served)
    for form in FORMS:
        for query in ("", f"?api-version={VERSION}", f"?api%2Dversion={VERSION}") if form != "/v1" else ("",):
            assert keyless.get(f"{form}/fine_tuning/jobs/ftjob-1{query}").json() == {"id": "ftjob-1"}
    assert asked == ["ftjob-1"]
