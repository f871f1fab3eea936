"""A server on loopback that speaks as much of Weights & Biases as a run needs: its GraphQL, and the stream of files."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

ENTITY = {"id": "1", "name": "team"}


@dataclass
class WandbServer:
    """What it was told.

    Attributes:
        history: the rows of the one run, by their offset.
        runs: the ids under which a run was begun or changed.
        bodies: everything that came, as text.
        ends: exit codes.
    """

    url: str = ""
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    runs: set[str] = field(default_factory=set)
    bodies: list[str] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def answer(self, path: str, body: bytes) -> Any:
        self.bodies.append(f"{path} {body.decode(errors='replace')}")
        if path == "/graphql":
            return {"data": self._graphql(json.loads(body))}
        if path.endswith("/file_stream"):
            told = json.loads(body)
            rows = told.get("files", {}).get("wandb-history.jsonl", {})
            for place, line in enumerate(rows.get("content", ())):
                self.history[rows["offset"] + place] = json.loads(line)
            if told.get("complete"):
                self.ends.append(told["exitcode"])
        return {}

    def _graphql(self, asked: dict[str, Any]) -> Any:
        name, variables = asked.get("operationName", ""), asked.get("variables", {})
        if name == "RunResumeStatus":
            bucket = self._bucket(variables["name"]) if variables["name"] in self.runs else None
            return {"model": {"id": "p", "name": variables["project"], "entity": ENTITY, "bucket": bucket}}
        if name == "UpsertBucket":
            is_new = variables["name"] not in self.runs
            self.runs.add(variables["name"])
            return {"upsertBucket": {"bucket": self._bucket(variables["name"]), "inserted": is_new}}
        if name == "CreateRunFiles":
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{file}"} for file in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {}

    def _bucket(self, name: str) -> dict[str, Any]:
        tail = [json.dumps(self.history[max(self.history)])] if self.history else []
        return {
            "id": "1",
            "name": name,
            "displayName": name,
            "project": {"id": "p", "name": "agents", "entity": ENTITY},
            "config": "{}",
            "summaryMetrics": "{}",
            "historyLineCount": len(self.history),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps(tail),
            "eventsTail": "[]",
            "tags": [],
            "notes": "",
            "sweepName": None,
            "wandbConfig": '{"t": 1}',
        }


@contextmanager
def wandb_server() -> Iterator[WandbServer]:
    told = WandbServer()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            answer = json.dumps(told.answer(urlsplit(self.path).path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
