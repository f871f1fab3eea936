"""Tool and grader servers as people write them for hosted Agent RFT: each handles the request that comes, and no other.

`POST /tool` is called with a function call, `POST /grade` with an answer. What lacks a field that they read is an
exception of theirs. Each keeps all that reaches it in a list, whatever its method and path.
"""

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Body, FastAPI
from flask import Flask, jsonify, request
from pydantic import BaseModel
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

WORDS = {"apple": "a fruit", "colour": "red"}
NODE_SCRIPT = Path(__file__).with_name("plain_server.js")


@dataclass
class Seen:
    """What reached a server: (method, path, body), and with it the headers."""

    requests: list[tuple[str, str, Any]] = field(default_factory=list[tuple[str, str, Any]])
    headers: list[dict[str, str]] = field(default_factory=list[dict[str, str]])

    def note(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        self.requests.append((method, path, json.loads(body) if body else None))
        self.headers.append({name.lower(): value for name, value in headers.items()})


class _Plain(BaseHTTPRequestHandler):
    """Bare `http.server`: an exception drops the connection, without an answer."""

    seen: Seen

    def parse_request(self) -> bool:
        is_one = super().parse_request()
        if is_one:
            self.text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.seen.note(self.command, self.path, dict(self.headers.items()), self.text)
        return is_one

    def do_POST(self) -> None:
        body = json.loads(self.text)
        answer = self.grade(body) if self.path == "/grade" else self.call(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def call(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"output": WORDS[json.loads(body["arguments"])["word"]]}

    def grade(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"score": float(body["sample"]["output_text"] == body["item"]["answer"])}

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Echoing(_Plain):
    """Answers with the call's own id, as hosted's examples do."""

    def call(self, body: dict[str, Any]) -> dict[str, Any]:
        output = WORDS[json.loads(body["arguments"])["word"]]
        return {"type": "function_call_output", "call_id": body["call_id"], "id": body["id"], "output": output}


class _Quiet(HTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def _threaded(serve: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(10)


@contextmanager
def _http_server(handler: type[_Plain], seen: Seen) -> Iterator[str]:
    server = _Quiet(("127.0.0.1", 0), type("Handler", (handler,), {"seen": seen}))
    with _threaded(lambda: server.serve_forever(poll_interval=0.05), server.shutdown):
        yield f"http://127.0.0.1:{server.server_port}"
    server.server_close()


@contextmanager
def _wsgi(app: Any, seen: Seen) -> Iterator[str]:
    def noting(environ: dict[str, Any], start_response: Any) -> Any:
        came = Request(environ)
        body = came.get_data()
        seen.note(came.method, came.path, dict(came.headers), body)
        environ["wsgi.input"] = BytesIO(body)
        return app(environ, start_response)

    server = make_server("127.0.0.1", 0, noting, threaded=True)
    with _threaded(server.serve_forever, server.shutdown):
        yield f"http://127.0.0.1:{server.server_port}"


def flask_plain() -> Flask:
    app = Flask("plain")

    @app.post("/tool")
    def call() -> Any:
        data = request.get_json()
        return jsonify(output=WORDS[json.loads(data["arguments"])["word"]], call_id=data["call_id"])

    @app.post("/grade")
    def grade() -> Any:
        data = request.get_json()
        return {"score": 1.0 if data["sample"]["output_text"] == data["item"]["answer"] else 0.0}

    return app


class Call(BaseModel):
    """A function call as hosted sends it."""

    type: str
    id: str
    call_id: str
    name: str
    arguments: str
    trace_id: str
    item: dict[str, Any]


class Answer(BaseModel):
    output_text: str
    choices: list[dict[str, Any]]


class ToGrade(BaseModel):
    sample: Answer
    item: dict[str, Any]
    trace_id: str


def flask_models() -> Flask:
    app = Flask("models")

    @app.post("/tool")
    def call() -> Any:
        one = Call(**request.json)  # pyright: ignore[reportOptionalMemberAccess, reportCallIssue]
        return {"output": WORDS[json.loads(one.arguments)["word"]]}

    @app.post("/grade")
    def grade() -> Any:
        one = ToGrade.model_validate(request.json)
        return {"score": float(one.sample.output_text == one.item["answer"])}

    return app


def fastapi_plain() -> FastAPI:
    app = FastAPI()

    @app.post("/tool")
    async def call(body: dict[str, Any] = Body()) -> Any:
        return {"call_id": body["call_id"], "output": WORDS[json.loads(body["arguments"])["word"]]}

    @app.post("/grade")
    async def grade(body: dict[str, Any] = Body()) -> Any:
        return {"score": float(body["sample"]["output_text"] == body["item"]["answer"])}

    return app


def fastapi_models() -> FastAPI:
    app = FastAPI()

    @app.post("/tool")
    def call(one: Call) -> dict[str, str]:
        return {
            "type": "function_call_output",
            "call_id": one.call_id,
            "output": WORDS[json.loads(one.arguments)["word"]],
        }

    @app.post("/grade")
    def grade(one: ToGrade) -> dict[str, float]:
        return {"score": float(one.sample.output_text == one.item["answer"])}

    return app


def azure_style(environ: dict[str, Any], start_response: Any) -> Any:
    """A function that gets a request and returns a response; the host makes a 500 of its exceptions."""

    def main(req: Request) -> Response:
        body: Any = req.get_json()
        if req.path == "/grade":
            score = float(body["sample"]["output_text"] == body["item"]["answer"])
            return Response(json.dumps({"score": score}), mimetype="application/json")
        answer = {"call_id": body["call_id"], "output": WORDS[json.loads(body["arguments"])["word"]]}
        return Response(json.dumps(answer), mimetype="application/json", status=200)

    try:
        response = main(Request(environ))
    except Exception:
        response = Response("", status=500)
    return response(environ, start_response)


@contextmanager
def _asgi(app: FastAPI, seen: Seen) -> Iterator[str]:
    async def noting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        parts = [await receive()]
        while parts[-1].get("more_body"):
            parts.append(await receive())
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        seen.note(scope["method"], scope["path"], headers, b"".join(part["body"] for part in parts))
        rest = iter(parts)

        async def again() -> Any:
            return next(rest, None) or await receive()

        with suppress(KeyError):  # uvicorn has sent the 500 by then, and would log it
            await app(scope, again, send)

    server = uvicorn.Server(uvicorn.Config(noting, interface="asgi3", port=0, log_level="critical", lifespan="off"))

    def stop() -> None:
        server.should_exit = True

    with _threaded(server.run, stop):
        while not server.started:
            threading.Event().wait(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@contextmanager
def _node(kind: str, seen: Seen) -> Iterator[str]:
    process = subprocess.Popen(["node", str(NODE_SCRIPT), kind], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = process.stdout
    port = int(lines.readline())

    def read() -> None:
        for line in lines:
            one = json.loads(line)
            seen.note(one["method"], one["path"], one["headers"], one["body"].encode())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        reader.join(10)


SERVERS: dict[str, Callable[[Seen], Any]] = {
    "http.server": lambda seen: _http_server(_Plain, seen),
    "http.server that echoes ids": lambda seen: _http_server(_Echoing, seen),
    "Flask": lambda seen: _wsgi(flask_plain(), seen),
    "Flask with models": lambda seen: _wsgi(flask_models(), seen),
    "FastAPI": lambda seen: _asgi(fastapi_plain(), seen),
    "FastAPI with models": lambda seen: _asgi(fastapi_models(), seen),
    "Azure function": lambda seen: _wsgi(azure_style, seen),
    "Node": lambda seen: _node("http", seen),
    "Express": lambda seen: _node("express", seen),
}
