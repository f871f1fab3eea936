"""A user's tool, grader and judge in one plain server: it takes what it is documented to get, and nothing else.

It has no code for odd requests on purpose: a body without `arguments` is a KeyError, which drops the connection.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoints(ThreadingHTTPServer):
    daemon_threads = True
    received: list[dict[str, Any]]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of what a handler raised."""


class Handler(BaseHTTPRequestHandler):
    server: Endpoints

    def do_GET(self) -> None:
        self.answer(self.server.received)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append({"path": self.path, "headers": headers, "body": body})
        self.answer({"/lookup": lookup, "/grade": grade, "/v1/chat/completions": judge}[self.path](body))

    def answer(self, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the tests' output clean."""


def lookup(body: dict[str, Any]) -> dict[str, Any]:
    assert isinstance(json.loads(body["arguments"])["word"], str)
    return {"type": "function_call_output", "call_id": body["call_id"], "id": body["id"], "output": "fine"}


def grade(body: dict[str, Any]) -> dict[str, Any]:
    return {"score": min(1.0, len(body["sample"]["output_text"]) / 20 + 0.1 * (len(body["item"]["word"]) == 5))}


def judge(body: dict[str, Any]) -> dict[str, Any]:
    """Gives more where the rubric's word is in the conversation."""
    text = "\n".join(str(message["content"]) for message in body["messages"])
    said = {"steps": [{"description": "Compared.", "conclusion": "Fits."}], "result": 0.75 if "PLAIN" in text else 0.25}
    message = {"role": "assistant", "content": json.dumps(said)}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 40, "completion_tokens": 8, "total_tokens": 48},
    }


@contextmanager
def endpoints() -> Iterator[str]:
    """The server's URL."""
    server = Endpoints(("127.0.0.1", 0), Handler)
    server.received = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
