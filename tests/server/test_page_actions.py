"""What the pages of a server ask of its API: a request looked at, secrets taken from another job, single calls of a
job's tools, and a changed grader on stored rollouts.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from agentrft.data import load_samples
from agentrft.rollout.record import Rollout, ToolCallRecord, Turn
from agentrft.server.app import create_app
from agentrft.server.records import Records
from agentrft.server.settings import Settings
from agentrft.store import rollout_row, write_rollouts
from agentrft.store.layout import TRAIN, rollouts_file
from tests.job.tiny_job import TOOL, serving
from tests.traffic.chaos_server import ChaosServer

OWN = "http://localhost:8321"
SECRET = "Bearer sk-for-the-tool-alone"
PAGE = {"X-AgentRFT-Page": "1"}
ROW = {"messages": [{"role": "user", "content": "Colour of sand?"}], "word": "sand"}
# What only a whole record has: calls with their status, and the conversation.
TRACE = {"type": "python", "name": "turns", "trusted": True}
SOURCE = "def grade(sample, item):\n    return len(sample['messages']) + len(sample['output_tools']) / 10\n"


@pytest.fixture
def tools() -> Iterator[ChaosServer]:
    with serving(ChaosServer()) as server:
        yield server


@pytest.fixture
def api(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(tmp_path, max_running_jobs=0, allow_code=True)), base_url=OWN) as client:
        yield client


def request(api: TestClient, tools: ChaosServer, **changes: Any) -> dict[str, Any]:
    rows = {"file": ("rows.jsonl", json.dumps(ROW) + "\n")}
    file = api.post("/v1/files", data={"purpose": "fine-tune"}, files=rows).json()["id"]
    tool = {**TOOL, "server_url": f"{tools.url}?team=secret", "headers": {"Authorization": SECRET}}
    grader = {"type": "string_check", "name": "exact", "input": "{{ sample.output_text }}", "operation": "eq"}
    inner = {"tools": [tool], "grader": {**grader, "reference": "{{ item.word }}"}}
    method = {"type": "reinforcement", "reinforcement": inner}
    return {"model": "smollm2-135m", "training_file": file, "method": method, **changes}


def created(api: TestClient, asked: dict[str, Any]) -> dict[str, Any]:
    answer = api.post("/v1/fine_tuning/jobs", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(answer: Any) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    return answer.json()["error"]


@pytest.mark.parametrize("form", ["object", "yaml", "json"])
def test_a_request_is_looked_at_as_creating_it_would(api: TestClient, tools: ChaosServer, form: str) -> None:
    asked = request(api, tools, suffix="mine", warm_start={"training_file": "file-none"})
    write = {"object": lambda value: value, "yaml": yaml.safe_dump, "json": json.dumps}[form]

    def look(value: dict[str, Any]) -> Any:
        return api.post("/v1/fine_tuning/alpha/jobs/validate", json={"job": write(value)})

    first = refusal(look(asked))
    assert first == refusal(api.post("/v1/fine_tuning/jobs", json=asked))
    assert first["param"] == "warm_start.training_file"
    del asked["warm_start"]
    found = look({**asked, "trainingType": "standard"}).json()
    assert found["type"] == "reinforcement" and found["job"]["suffix"] == "mine"
    assert found["warnings"] == ["trainingType: has no meaning here, and changes nothing"]
    assert api.get("/v1/fine_tuning/jobs").json()["data"] == []


@pytest.mark.parametrize("job", [None, 1, "[]", "model: [", "a: &a [*a]", "x" * (1024 * 1024 + 1)])
def test_what_is_no_request_is_refused_by_its_field(api: TestClient, job: Any) -> None:
    assert refusal(api.post("/v1/fine_tuning/alpha/jobs/validate", json={"job": job}))["param"] == "job"


def test_what_was_hidden_is_never_sent_and_comes_from_the_job_that_has_it(api: TestClient, tools: ChaosServer) -> None:
    first = created(api, request(api, tools))
    shown = first["method"]["reinforcement"]["tools"][0]
    assert shown["headers"] == {"Authorization": "***"} and shown["server_url"].endswith("?***")
    again = request(api, tools, method=first["method"])
    assert refusal(api.post("/v1/fine_tuning/jobs", json=again))["code"] == "hidden_value"
    second = created(api, {**again, "secrets_from": first["id"]})
    third = created(api, {**again, "secrets_from": second["id"]})
    context = api.app.state.context  # type: ignore[attr-defined]
    for job in (first, second, third):
        (tool,) = context.secrets_of(job["id"])["tools"]
        assert tool["headers"] == {"Authorization": SECRET} and tool["server_url"].endswith("?team=secret")
    assert SECRET not in json.dumps([second, third])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"name": "other"}, "tool other"),
        ({"server_url": "http://127.0.0.1:1/elsewhere"}, "127.0.0.1:1/elsewhere"),
        ({"headers": {"X-Other": "***"}}, "X-Other"),
    ],
)
def test_a_secret_goes_to_the_part_that_had_it_and_to_no_other(
    api: TestClient, tools: ChaosServer, change: dict[str, Any], says: str
) -> None:
    first = created(api, request(api, tools))
    again = request(api, tools, method=first["method"], secrets_from=first["id"])
    again["method"]["reinforcement"]["tools"][0] |= change
    error = refusal(api.post("/v1/fine_tuning/jobs", json=again))
    assert error["param"] == "secrets_from" and says in error["message"] and SECRET not in error["message"]
    unknown = api.post("/v1/fine_tuning/jobs", json={**again, "secrets_from": "ftjob-none"})
    assert unknown.status_code == 404
    assert refusal(api.post("/v1/fine_tuning/jobs", json={**again, "secrets_from": 1}))["param"] == "secrets_from"


def test_tools_of_a_job_are_listed_and_called_with_its_own_headers(api: TestClient, tools: ChaosServer) -> None:
    job = created(api, request(api, tools))["id"]
    (listed,) = api.get(f"/v1/fine_tuning/jobs/{job}/tools").json()["data"]
    assert listed["function"]["name"] == "lookup" and listed["function"]["parameters"] == TOOL["parameters"]
    body = {"arguments": {"word": "sand"}, "item": ROW, "trace_id": "trace_mine"}
    answer = api.post(f"/v1/fine_tuning/jobs/{job}/tools/lookup/run", json=body).json()
    assert answer["status"] == "ok" and answer["trace_id"] == "trace_mine"
    (received,) = tools.received
    assert received.headers["Authorization"] == SECRET and received.body["item"] == ROW
    assert json.loads(received.body["arguments"]) == {"word": "sand"}
    for path in (f"{job}/tools/none/run", "ftjob-none/tools/lookup/run"):
        assert api.post(f"/v1/fine_tuning/jobs/{path}", json=body).status_code == 404
    assert refusal(api.post(f"/v1/fine_tuning/jobs/{job}/tools/lookup/run", json={"item": 1}))["param"] == "item"


def test_a_changed_grader_sees_a_stored_rollout_as_the_job_did(api: TestClient, tools: ChaosServer) -> None:
    job = created(api, request(api, tools))["id"]
    context = api.app.state.context  # type: ignore[attr-defined]
    call = ToolCallRecord("call_1", "lookup", '{"word": "sand"}', "fine", "ok", 0.1, 1)
    messages = [*ROW["messages"], {"role": "assistant", "content": "sand"}]  # type: ignore[misc]
    turn = Turn([1], [2], [-1.0], "stop", 0, tool_calls=[call])
    path = Path(context.store.get_job(job).setting("training_file"))
    sample = load_samples(path)[0].sample_id
    one = Rollout("trace_1", 1, sample, 1, 0, "graded", [turn], messages, output_text="sand", reward=1.0)
    folder = context.store.job_folder(job)
    write_rollouts(rollouts_file(folder, TRAIN, 1), [rollout_row(one.as_dict(), phase=TRAIN)])
    place = {"job_id": job, "phase": TRAIN, "step": 1, "trace_id": "trace_1"}

    def run(**body: Any) -> Any:
        return api.post("/v1/fine_tuning/alpha/graders/run", json=body)

    own = api.get(f"/v1/fine_tuning/jobs/{job}").json()["method"]["reinforcement"]["grader"]
    assert run(grader=own, rollout=place).json()["reward"] == 1.0
    as_yaml = yaml.safe_dump({**TRACE, "source": SOURCE})
    assert run(grader=as_yaml, rollout=place).json()["reward"] == pytest.approx(2.1)
    assert refusal(run(grader=own, rollout=place, model_sample="x"))["param"] == "model_sample"
    for wrong in ({**place, "phase": "elsewhere"}, {**place, "step": -1}, {**place, "step": "1"}, {"job_id": job}, "x"):
        assert refusal(run(grader=own, rollout=wrong))["param"] == "rollout"
    for gone in ({**place, "trace_id": "trace_2"}, {**place, "step": 2}, {**place, "job_id": "ftjob-none"}):
        assert run(grader=own, rollout=gone).status_code == 404
    path.unlink()
    assert run(grader=own, rollout=place).status_code == 404


def test_a_script_of_our_own_pages_may_use_the_password_and_no_other_page(tmp_path: Path) -> None:
    app = create_app(Settings(tmp_path, max_running_jobs=0))
    _, key = Records(app.state.context.store).create_key("team")
    with TestClient(app, base_url=OWN) as api:
        asked = api.get("/v1/files", headers=PAGE)
        # So that a browser sends what it was given for the pages.
        assert asked.status_code == 401 and asked.headers["www-authenticate"].startswith("Basic ")
        own = {**PAGE, "Origin": OWN, "Sec-Fetch-Site": "same-origin"}
        for headers in (PAGE, own):
            assert api.get("/v1/files", headers=headers, auth=("me", key)).status_code == 200
            assert api.get("/v1/files", headers=headers, auth=("me", "sk-agentrft-1")).status_code == 401
        for headers in (
            {},
            {**own, "Origin": "http://evil.example"},
            {**own, "Origin": "http://localhost:1"},
            {**own, "Sec-Fetch-Site": "cross-site"},
            {**own, "Sec-Fetch-Site": "same-site"},
            {**own, "Origin": "null"},
        ):
            answer = api.get("/v1/files", headers=headers, auth=("me", key))
            assert answer.status_code == 401 and "www-authenticate" not in answer.headers
        # No page of another origin may send such a header: a browser asks first, and is not told that it may.
        before = {"Origin": "http://evil.example", "Access-Control-Request-Headers": "x-agentrft-page"}
        assert "access-control-allow-headers" not in api.options("/v1/files", headers=before).headers


def test_the_pages_offer_what_can_be_done_with_a_job_now(api: TestClient, tools: ChaosServer) -> None:
    job = created(api, request(api, tools))["id"]
    store, records = (getattr(api.app.state.context, name) for name in ("store", "records"))  # type: ignore[attr-defined]

    def offered() -> list[str]:
        page = api.get(f"/dashboard/jobs/{job}").text
        return [name for name in ("pause", "resume", "cancel", "clone") if f'id="{name}-{job}"' in page]

    for status, expected in (
        ("queued", ["pause", "cancel", "clone"]),
        ("running", ["pause", "cancel", "clone"]),
        ("paused", ["resume", "cancel", "clone"]),
    ):
        if status != store.get_job(job).status:
            store.set_status(job, status)
        assert offered() == expected
        if status == "running":
            records.wish(job, "pause")
            assert offered() == ["resume", "cancel", "clone"]
            records.wish(job, None)
    store.set_status(job, "cancelled")
    assert offered() == ["clone"]
    assert api.get("/dashboard/new?from=ftjob-none").status_code == 404
    values = api.get(f"/dashboard/new.json?from={job}").json()
    assert yaml.safe_load(values["text"])["secrets_from"] == job and SECRET not in values["text"]
