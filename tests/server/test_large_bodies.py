"""Bodies that are too large, as a real server takes them: refused while they come, and kept nowhere."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.server.live import Live, live

MB = 1024 * 1024
JSON_TYPE = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    """A server that nobody else uses: what it takes of memory and disk is counted."""
    with live(tmp_path_factory.mktemp("bodies") / "data", tiny_model) as server:
        yield server


def chunks(count: int, head: bytes = b"") -> Iterator[bytes]:
    yield head
    for _ in range(count):
        yield b" " * MB


def most_memory_mb(server: Live) -> float:
    assert server.process is not None
    return psutil.Process(server.process.pid).memory_info().rss / MB


def stored_mb(server: Live) -> float:
    return sum(path.stat().st_size for path in server.data_dir.rglob("*") if path.is_file()) / MB


@pytest.mark.parametrize("path", ["fine_tuning/jobs", "chat/completions", "fine_tuning/alpha/graders/run", "uploads"])
def test_json_of_200_mb_takes_no_memory(alone: Live, path: str) -> None:
    before = most_memory_mb(alone)
    answer = httpx.post(f"{alone.url}/{path}", content=chunks(200), headers=JSON_TYPE, timeout=300)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
    assert most_memory_mb(alone) - before < 80


def test_a_length_that_is_too_large_is_refused_before_anything_came(alone: Live) -> None:
    head = f"POST /v1/files HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {700 * MB}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    with socket.create_connection(("127.0.0.1", alone.port), timeout=60) as connection:
        connection.sendall(head.encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_a_part_is_refused_when_more_came_than_it_may_have(alone: Live) -> None:
    upload = {"filename": "a", "purpose": "fine-tune", "bytes": 100 * MB, "mime_type": "text/plain"}
    upload_id = httpx.post(f"{alone.url}/uploads", json=upload, timeout=60).json()["id"]
    form = b'--b\r\nContent-Disposition: form-data; name="data"; filename="a"\r\n\r\n'
    sent = {"Content-Type": "multipart/form-data; boundary=b"}
    url = f"{alone.url}/uploads/{upload_id}/parts"
    answer = httpx.post(url, content=chunks(70, form), headers=sent, timeout=300)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "too_large"
    assert stored_mb(alone) < 20


def test_one_part_cannot_become_three_hundred(alone: Live) -> None:
    for size, part_ids in ((300 * MB, 300), (MB, 2), (2 * MB, 2)):
        upload = {"filename": "a", "purpose": "fine-tune", "bytes": size, "mime_type": "text/plain"}
        url = f"{alone.url}/uploads/" + httpx.post(f"{alone.url}/uploads", json=upload, timeout=60).json()["id"]
        part = httpx.post(f"{url}/parts", files={"data": ("a", b" " * MB)}, timeout=60).json()["id"]
        answer = httpx.post(f"{url}/complete", json={"part_ids": [part] * part_ids}, timeout=60)
        assert answer.status_code == 400 and "twice" in json.dumps(answer.json())
        assert httpx.post(f"{url}/complete", json={"part_ids": []}, timeout=60).status_code == 400
        assert httpx.post(f"{url}/cancel", timeout=60).status_code == 200
    assert stored_mb(alone) < 20
