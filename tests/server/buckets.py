"""A real S3 server on loopback, with a bucket, and a way to make it fail."""

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx

BUCKET = "team"
SECRET = "planted-secret-access-key-0123456789"
START_S = 60


def environment(url: str) -> dict[str, str]:
    """What a server is started with to reach it."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "planted-id",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


@contextmanager
def bucket(log: Path) -> Iterator[str]:
    """The address of an S3 server that has the bucket."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=file, stderr=file
        )
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                assert httpx.put(f"{url}/{BUCKET}", headers=SIGNED).status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline and process.poll() is None, log.read_text()
                time.sleep(0.1)
        yield url
    finally:
        process.kill()
        process.wait()


# moto looks at the region and the service in it, not at the signature.
SIGNED = {"Authorization": "AWS4-HMAC-SHA256 Credential=id/20260101/us-east-1/s3/aws4_request, Signature=0"}


class Flaky(ThreadingHTTPServer):
    """Passes requests on to an S3 server; fails some of them.

    Attributes:
        every: of how many requests one is answered by 503; 0 for none, 1 for all.
        failed: how many that were.
    """

    daemon_threads = True

    def __init__(self, target: str, *, every: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.target = target.removeprefix("http://")
        self.every = every
        self.seen = self.failed = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def is_to_fail(self) -> bool:
        with self.lock:
            self.seen += 1
            fails = self.every > 0 and self.seen % self.every == 0
            self.failed += fails
            return fails


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Flaky  # type: ignore[assignment]

    def _pass_on(self) -> None:
        body = self._body()
        if self.server.is_to_fail():
            self._answer(503, [], b"<Error><Code>ServiceUnavailable</Code><Message>down</Message></Error>")
            return
        connection = HTTPConnection(self.server.target, timeout=30)
        headers = {name: value for name, value in self.headers.items() if name.lower() != "transfer-encoding"}
        connection.request(self.command, self.path, body=body, headers={**headers, "Content-Length": str(len(body))})
        answer = connection.getresponse()
        content = answer.read()
        self._answer(answer.status, answer.getheaders(), content)
        connection.close()

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        raise AssertionError("chunked bodies are not passed on")

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length" and self.command == "HEAD":
                length = value
            elif name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def flaky(target: str, *, every: int) -> Iterator[Flaky]:
    server = Flaky(target, every=every)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
