"""No error quotes what may be a secret, wherever it was put by mistake."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from agentrft.server.app import create_app
from agentrft.server.encryption.rotation import rotate
from agentrft.server.encryption.sealing import Sealer, load_key
from agentrft.server.records import Records
from agentrft.server.settings import Settings
from agentrft.store import JobStore

SECRET = "sk-planted-0123456789abcdef"
TOOL = {"name": "lookup", "server_url": "http://127.0.0.1:9/", "headers": {"Authorization": f"Bearer {SECRET}"}}
GRADER = {"type": "endpoint", "url": "http://127.0.0.1:9/", "headers": {"X-Key": SECRET}}
INNER = {"tools": [TOOL], "grader": GRADER}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(tmp_path_factory.mktemp("secrets"), max_running_jobs=0)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as one:
        yield one


@pytest.fixture(scope="module")
def file_id(client: TestClient) -> str:
    row = b'{"messages": [{"role": "user", "content": "hi"}]}\n'
    made = client.post("/v1/files", files={"file": ("a.jsonl", row)}, data={"purpose": "fine-tune"})
    return made.json()["id"]


METHODS: list[Any] = [
    {"type": "reinforcment", "reinforcement": INNER},
    {"type": f"Bearer {SECRET}", "reinforcement": INNER},
    {"kind": "reinforcement", "reinforcement": INNER},
    {"type": "reinforcement", "reinforcement": [INNER]},
    {"type": "reinforcement", "reinforcement": SECRET},
    {"type": "reinforcement", "reinforcement": INNER, f"Bearer {SECRET}": 1},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": SECRET}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [f"Bearer {SECRET}"]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [{**TOOL, "headers": SECRET}]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [{**TOOL, "headers": [SECRET]}]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [{**TOOL, "headers": {"a": {"b": SECRET}}}]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [{**TOOL, "timeout_s": SECRET}]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [{**TOOL, "server_url": f"ftp://a:{SECRET}@b"}]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "tools": [{**TOOL, "authorization": SECRET}]}},
    {"type": "reinforcement", "reinforcement": {**INNER, "grader": {**GRADER, "rate_limit": SECRET}}},
    {"type": "reinforcement", "reinforcement": {**INNER, "grader": SECRET}},
    {"type": "reinforcement", "reinforcement": {**INNER, "grader": {"type": SECRET}}},
    {"type": "reinforcement", "reinforcement": {**INNER, "hyperparameters": SECRET}},
    {"type": "reinforcement", "reinforcement": {**INNER, "hyperparameters": [SECRET], "max_episode_steps": 3}},
    {"type": "reinforcement", "reinforcement": {**INNER, "hyperparameters": {"n_epochs": SECRET}}},
    [INNER],
    SECRET,
]


@pytest.mark.parametrize("method", METHODS, ids=range(len(METHODS)))
def test_a_faulty_method_is_refused_without_its_values(client: TestClient, file_id: str, method: Any) -> None:
    answer = client.post(
        "/v1/fine_tuning/jobs", json={"model": "smollm2-135m", "training_file": file_id, "method": method}
    )
    assert answer.status_code == 400, answer.text
    assert SECRET not in answer.text


def test_a_mistyped_type_is_still_told_by_the_keys_that_are_there(client: TestClient, file_id: str) -> None:
    method = {"type": "reinforcment", "reinforcement": INNER}
    answer = client.post(
        "/v1/fine_tuning/jobs", json={"model": "smollm2-135m", "training_file": file_id, "method": method}
    )
    message = answer.json()["error"]["message"]
    assert "`type: reinforcement`, `supervised` or `dpo`, found a mapping with 'type', 'reinforcement'" in message


@pytest.mark.parametrize(
    "body",
    [
        {"training_file": {"Authorization": SECRET}},
        {"warm_start": {"training_file": {"Authorization": SECRET}}},
        {"warm_start": SECRET},
        {"hyperparameters": {"a": SECRET}},
        {f"Bearer {SECRET}": 1},
        {"metadata": {"a": [SECRET]}},
        {"rft": {"headers": SECRET}},
        {"engine": {"type": "vllm", "headers": SECRET}},
    ],
    ids=str,
)
def test_other_faulty_fields_are_refused_without_their_values(
    client: TestClient, file_id: str, body: dict[str, Any]
) -> None:
    method = {"type": "reinforcement", "reinforcement": INNER}
    whole = {"model": "smollm2-135m", "training_file": file_id, "method": method, **body}
    answer = client.post("/v1/fine_tuning/jobs", json=whole)
    assert answer.status_code == 400 and SECRET not in answer.text, answer.text


@pytest.mark.parametrize(
    "grader",
    [
        {**GRADER, "headers": SECRET},
        {**GRADER, "type": f"Bearer {SECRET}"},
        {**GRADER, "api_key": SECRET},
        {"type": "score_model", "model": "m", "input": "{{ sample.output_text }}", "api_key_env": SECRET},
        {**GRADER, "url": f"nohttp://{SECRET}@host"},
    ],
    ids=str,
)
def test_graders_and_tools_that_are_tried_are_refused_without_their_values(
    client: TestClient, grader: dict[str, Any]
) -> None:
    for path in ("validate", "run"):
        sent = {"grader": grader, "model_sample": "x", "item": {}}
        answer = client.post(f"/v1/fine_tuning/alpha/graders/{path}", json=sent)
        assert answer.status_code == 400 and SECRET not in answer.text, answer.text
    answer = client.post("/v1/fine_tuning/alpha/tool/run", json={**TOOL, "url": SECRET, f"Bearer {SECRET}": 1})
    assert answer.status_code == 400 and SECRET not in answer.text, answer.text


async def test_the_url_of_a_webhook_is_stored_sealed_and_resealed(tmp_path: Path) -> None:
    url = f"http://ana:{SECRET}@127.0.0.1:9/hook?token={SECRET}"
    app = create_app(Settings(tmp_path, max_running_jobs=0, webhook_url=url))
    context = app.state.context
    records: Records = context.records

    def stored() -> str:
        with context.store.database.read() as connection:
            return str(list(connection.execute(text("SELECT * FROM deliveries"))))

    records.add_delivery("evt_1", context.sealer.seal(url), "{}")
    assert SECRET not in stored()
    (row,) = records.due_deliveries()
    assert context.sealer.open(row["url"]) == url

    # As an older version left it.
    records.add_delivery("evt_0", url, "{}")
    context.store.close()
    again = create_app(Settings(tmp_path, max_running_jobs=0, webhook_url=url)).state.context
    assert [again.sealer.open(row["url"]) for row in again.records.due_deliveries()] == [url, url]
    again.store.close()


def test_a_new_key_seals_the_urls_of_webhooks_too(tmp_path: Path) -> None:
    store = JobStore(tmp_path / "jobs", database=None)
    records = Records(store)
    records.add_delivery("evt_1", Sealer(load_key(tmp_path)).seal("http://hook"), "{}")
    assert rotate(tmp_path, records) == 0
    (row,) = records.due_deliveries()
    assert Sealer(load_key(tmp_path)).open(row["url"]) == "http://hook"
