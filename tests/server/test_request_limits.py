"""What no request may be: text that cannot be stored, numbers that fit no database, bodies without a bound."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from agentrft.server import request_limits
from agentrft.server.app import create_app
from agentrft.server.settings import Settings

KEY_MESSAGE = "Give an API key"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    settings = Settings(tmp_path_factory.mktemp("limits"), max_running_jobs=0)
    with TestClient(create_app(settings), base_url="http://localhost", raise_server_exceptions=False) as one:
        yield one


PATHS = ["files", "files/{}", "files/{}/content", "uploads/{}/cancel", "models/{}", "models/{}/adapter", "evals/{}"]
PATHS += ["fine_tuning/jobs/{}", "fine_tuning/jobs/{}/events", "fine_tuning/checkpoints/{}/permissions"]


@pytest.mark.parametrize("text", ["%00", "a%00b", "%ed%a0%80", "%ed%a0%bd%20", "%ff", "%c3", "%c0%80"])
@pytest.mark.parametrize("path", PATHS)
def test_paths_and_queries_are_text_that_can_be_stored(client: TestClient, path: str, text: str) -> None:
    for method in ("GET", "POST", "DELETE"):
        if "{}" in path:
            answer = client.request(method, f"/v1/{path.format(text)}")
            assert answer.status_code == 400, (method, answer.text)
        for query in (f"after={text}", f"purpose={text}", f"metadata[{text}]=a", f"{text}", f"limit={text}"):
            answer = client.request(method, f"/v1/{path.format('a')}?{query}")
            assert answer.status_code == 400 and answer.json()["error"]["code"] == "invalid_value"


@pytest.mark.parametrize("digits", ["9" * 50, "9" * 10, "9" * 5000, "٣", "-1"])
def test_a_step_of_many_digits_is_a_model_that_is_not_there(client: TestClient, digits: str) -> None:
    name = f"ft:smollm2-135m:local::abc:ckpt-step-{digits}"
    for path in (f"models/{name}", f"models/{name}/adapter", f"fine_tuning/checkpoints/{name}/permissions"):
        assert client.get(f"/v1/{path}").status_code == 404
    assert client.delete(f"/v1/models/{name}").status_code == 404
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
    assert client.post("/v1/chat/completions", json=body).status_code == 404


@pytest.mark.parametrize("number", ["9" * 30, "9" * 5000, "-" + "9" * 30, "1e999", "0x10", "٣٣"])
def test_numbers_that_fit_no_database_are_refused(client: TestClient, number: str) -> None:
    for path in ("files", "fine_tuning/jobs", "evals", "models/x/adapter"):
        assert client.get(f"/v1/{path}", params={"limit": number}).status_code in (400, 404)
    for after in (f"ftevent-{number}", number):
        assert client.get("/v1/fine_tuning/jobs", params={"after": after}).status_code == 200
        assert client.get("/v1/files", params={"after": after}).status_code == 200


@pytest.mark.parametrize(
    "value", [b"\xc3\xa9\xc3\xa9 x", b"B\xe9arer x", b"\xff", b"Bearer \xff\xfe", b"Bearer", b"Basic YTpi", b"bearer  "]
)
def test_a_credential_of_any_bytes_is_a_wrong_one(tmp_path: Path, value: bytes) -> None:
    app = create_app(Settings(tmp_path, max_running_jobs=0, needs_key=True))
    with TestClient(app, base_url="http://localhost", raise_server_exceptions=False) as one:
        answer = one.get("/v1/models", headers={b"Authorization": value})
    assert answer.status_code == 401 and KEY_MESSAGE in answer.json()["error"]["message"]


@pytest.mark.parametrize("name", ["\ud83d ", "a\0b", "\udcff.jsonl", "x" * 5000, "../../etc/passwd"])
def test_a_file_of_any_name_is_kept_or_refused(client: TestClient, name: str) -> None:
    made = client.post(
        "/v1/uploads",
        content=b'{"filename": %s, "purpose": "fine-tune", "bytes": 3, "mime_type": "text/plain"}' % ascii_json(name),
        headers={"Content-Type": "application/json"},
    )
    assert made.status_code in (200, 400)
    raw = name.encode("utf-8", "surrogatepass").replace(b"\0", b"%00")
    form = b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nfine-tune\r\n'
    form += b'--b\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n{}\r\n--b--\r\n' % raw
    sent = {"Content-Type": "multipart/form-data; boundary=b"}
    assert client.post("/v1/files", content=form, headers=sent).status_code in (200, 400)
    assert client.get("/v1/files").status_code == 200


def ascii_json(text: str) -> bytes:
    return ('"' + "".join(f"\\u{ord(character):04x}" for character in text) + '"').encode()


def chunks(size: int, most: int, came: list[int]) -> Iterator[bytes]:
    while size > 0:
        came.append(most)
        yield b" " * most
        size -= most


@pytest.mark.parametrize("path", ["fine_tuning/jobs", "chat/completions", "uploads", "fine_tuning/alpha/graders/run"])
def test_a_body_too_large_is_refused_by_what_it_says_and_by_what_comes(client: TestClient, path: str) -> None:
    most = request_limits.most_bytes(f"/v1/{path}")
    sent = {"Content-Type": "application/json"}
    for headers in ({**sent, "Content-Length": str(most + 1)}, {**sent, "Content-Length": "9" * 40}):
        answer = client.post(f"/v1/{path}", content=b"{}", headers=headers)
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
    answer = client.post(f"/v1/{path}", content=chunks(most + 1, 1 << 20, []), headers=sent)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
    assert client.post(f"/v1/{path}", content=b"{", headers=sent).status_code in (400, 422)


def test_a_file_too_large_is_refused_while_it_comes(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_limits, "MOST_FILE_BYTES", 1 << 20)
    files = {"file": ("a.jsonl", b"\n" * (2 << 20))}
    for headers in ({}, {"Transfer-Encoding": "chunked"}):
        answer = client.post("/v1/files", files=files, data={"purpose": "fine-tune"}, headers=headers)
        assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
