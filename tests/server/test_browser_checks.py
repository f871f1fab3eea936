"""A server that takes no key answers this machine's programs, and no web page."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from agentrft.server.app import create_app
from agentrft.server.records import Records
from agentrft.server.settings import Settings
from agentrft.store import JobStore

OWN = "http://localhost:8321"


def client(folder: Path, **settings: object) -> TestClient:
    return TestClient(create_app(Settings(folder, max_running_jobs=0, **settings)), base_url=OWN)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def keyless(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    return client(tmp_path_factory.mktemp("keyless"))


def make_key(folder: Path) -> tuple[str, str]:
    row, key = Records(JobStore(folder / "jobs", database=None)).create_key("team")
    return row.key_id, key


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8321", "LOCALHOST:8321", "127.0.0.1", "127.9.8.7:1", "[::1]:5"]
)
def test_names_of_loopback_are_answered(keyless: TestClient, host: str) -> None:
    assert keyless.get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8321",
        "127.0.0.1.evil.example",
        "localhost.evil.example:8321",
        "localhost@evil.example",
        "evil.example#localhost",
        "10.0.0.1",
        "0.0.0.0:8321",
        "[::]",
        "[fe80::1]",
        "[::1",
        "127.0.0.1:port",
        "локалхост",
        "",
    ],
)
def test_other_hosts_are_refused_whatever_they_ask(keyless: TestClient, host: str) -> None:
    sent = {b"Host": host.encode()}
    for answer in (
        keyless.get("/v1/models", headers=sent),
        keyless.post("/v1/files", headers=sent, files={"file": ("a", b"{}")}, data={"purpose": "fine-tune"}),
        keyless.get("/openapi.json", headers=sent),
    ):
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "host_not_trusted"
    assert keyless.get("/v1/files").json()["data"] == []


def test_two_hosts_are_none(keyless: TestClient) -> None:
    answer = keyless.get("/v1/models", headers=[("Host", "localhost"), ("Host", "evil.example")])
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://127.0.0.1:8321"},
        {"Origin": "http://localhost"},
        {"Origin": "localhost:8321"},
        {"Origin": "http://localhost:8321.evil.example"},
        {"Origin": "http://localhost:8321@evil.example"},
        {"Origin": "chrome-extension://abcdef"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "Cross-Site"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
    ],
)
def test_pages_of_other_origins_are_refused(keyless: TestClient, headers: dict[str, str]) -> None:
    for method in ("GET", "POST", "OPTIONS", "DELETE"):
        answer = keyless.request(method, "/v1/files", headers=headers)
        assert answer.status_code == 403 and answer.json()["error"]["code"] == "cross_origin"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": OWN, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "HTTP://LOCALHOST:8321"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost", "Origin": "http://localhost:80"},
    ],
)
def test_programs_and_its_own_pages_are_answered(keyless: TestClient, headers: dict[str, str]) -> None:
    assert keyless.get("/v1/models", headers=headers).status_code == 200


OPENED = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}


def test_a_link_of_any_site_leads_to_a_report_and_to_nothing_else(keyless: TestClient) -> None:
    report = "/evals/eval_1/runs/evalrun_1"
    # There is none; it was looked for.
    assert keyless.get(report, headers=OPENED).status_code == 404
    for headers in (
        {**OPENED, "Sec-Fetch-Dest": "iframe"},
        {**OPENED, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"},
        {**OPENED, "Origin": "http://evil.example"},
        {**OPENED, "Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
    ):
        assert keyless.get(report, headers=headers).status_code == 403
    for method, path in (("POST", report), ("GET", "/v1/models"), ("GET", f"/v1{report}"), ("GET", f"{report}/x")):
        assert keyless.request(method, path, headers=OPENED).status_code == 403


def test_a_browser_may_give_the_key_as_a_password_for_reports_alone(tmp_path: Path) -> None:
    with client(tmp_path) as one:
        _, key = make_key(tmp_path)
        report = "/evals/eval_1/runs/evalrun_1"
        asked = one.get(report)
        assert asked.status_code == 401 and asked.headers["www-authenticate"].startswith("Basic ")
        assert one.get(report, auth=("me", key)).status_code == 404
        for wrong in (("me", "sk-agentrft-1"), (key, ""), ("me", "")):
            assert one.get(report, auth=wrong).status_code == 401
        for malformed in ("Basic", "Basic !", "Basic /w==", f"Basic {key}"):
            assert one.get(report, headers={"Authorization": malformed}).status_code == 401
        for method, path in (("GET", "/v1/models"), ("POST", report), ("GET", f"/v1{report}")):
            answer = one.request(method, path, auth=("me", key))
            assert answer.status_code == 401 and "www-authenticate" not in answer.headers


def test_the_pages_are_behind_the_same_checks_and_take_the_key_as_a_password(tmp_path: Path) -> None:
    with client(tmp_path) as one:
        assert "There are no jobs here yet" in one.get("/dashboard/").text
        assert one.get("/dashboard/", headers=OPENED).status_code == 200
        assert one.get("/dashboard/index.json", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
        assert one.get("/dashboard/jobs/ftjob-none").status_code == 404
        assert one.post("/dashboard/").status_code == 405
        _, key = make_key(tmp_path)
        asked = one.get("/dashboard/")
        assert asked.status_code == 401 and asked.headers["www-authenticate"].startswith("Basic ")
        assert one.get("/dashboard/static/dashboard.css").status_code == 401
        for path in ("/dashboard/", "/dashboard/index.json", "/dashboard/static/dashboard.css"):
            assert one.get(path, auth=("me", key)).status_code == 200
        assert one.post("/dashboard/", auth=("me", key)).status_code == 401


def test_there_are_no_websockets(keyless: TestClient) -> None:
    with pytest.raises(WebSocketDisconnect), keyless.websocket_connect("/v1/models"):
        pass


def test_a_proxys_name_can_be_trusted(tmp_path: Path) -> None:
    behind = client(tmp_path, trusted_hosts=("rft.example",))
    assert behind.get("/v1/models", headers={"Host": "rft.example"}).status_code == 200
    own = {"Host": "rft.example", "Origin": "https://rft.example"}
    assert behind.get("/v1/models", headers=own).status_code == 200
    assert behind.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
    assert behind.get("/v1/models", headers={"Host": "rft.example", "Origin": "http://evil.example"}).status_code == 403


def test_once_there_is_a_key_loopback_takes_it_and_revoking_it_opens_nothing(tmp_path: Path) -> None:
    with client(tmp_path) as one:
        assert one.get("/v1/models").status_code == 200
        key_id, key = make_key(tmp_path)
        assert one.get("/v1/models").status_code == 401
        sent = {"Authorization": f"Bearer {key}"}
        assert one.get("/v1/models", headers=sent).status_code == 200
        # Whoever has a key is no page that somebody happened to open.
        assert one.get("/v1/models", headers={**sent, "Host": "rft.example"}).status_code == 200
        assert Records(JobStore(tmp_path / "jobs", database=None)).revoke_key(key_id)
        assert one.get("/v1/models", headers=sent).status_code == 401
        assert one.get("/v1/models").status_code == 401
        assert one.get("/healthz").status_code == 200


def test_without_keys_on_loopback_pages_are_still_refused(tmp_path: Path) -> None:
    make_key(tmp_path)
    with client(tmp_path, key_on_loopback=False) as one:
        assert one.get("/v1/models").status_code == 200
        assert one.get("/v1/models", headers={"Host": "evil.example"}).status_code == 403
