"""The API's doors: bodies of requests, uploads, chat, and records that were stored; each against a server in a process
of its own, which is restarted after every batch and has to list everything.
"""

import asyncio
import itertools
import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import aiohttp
from hypothesis import strategies as st

from tests.job.tiny_job import make_model, one_thread
from tests.server.inference_models import weights
from tests.server.inference_server import headers, running
from tests.strangers.doors import CALL, GRADER, JOBS, ROWS, SIMILARITY, TOOL, USER, Door, unforeseen
from tests.strangers.odd_documents import odd_bytes, odd_documents

AT_ONCE = 8
# Whoever asks for no limit gets what fits: not much, so that many can ask.
CHAT_CONTEXT_TOKENS = 96
ROWS_OF_A_FILE = 25
SETTLE_S = 120
LISTS = ("/files", "/fine_tuning/jobs", "/models", "/evals")
UNSETTLED = ("uploaded", "validating_files")
FILE_ID = "FILE-ID"


def _method(**changes: Any) -> dict[str, Any]:
    inner = {**JOBS[0]["method"]["reinforcement"], **changes}
    return {"type": "reinforcement", "reinforcement": inner}


CREATE = {
    "model": "smollm2-135m",
    "training_file": FILE_ID,
    "validation_file": FILE_ID,
    "suffix": "a",
    "seed": 1,
    "metadata": {"team": "a"},
    "method": _method(),
}
PYTHON = {"type": "python", "name": "length", "source": "def grade(sample, item):\n    return 1.0"}
BODIES: dict[str, list[Any]] = {
    "/fine_tuning/jobs": [
        CREATE,
        {**CREATE, "validation_file": None, "method": _method(unknown={"kept": [1.5]}), "priority": 3},
        {**CREATE, "method": "rft", "rft": JOBS[1]["rft"], "warm_start": {"training_file": FILE_ID}},
        {**CREATE, "method": _method(grader=PYTHON, response_format={"type": "json_object"})},
    ],
    "/fine_tuning/alpha/graders/run": [
        {"grader": GRADER, "model_sample": '{"code": "A01"}', "item": {"answer": "red"}},
        {"grader": {**GRADER, "input": "{{ sample.output_json.code }}"}, "model_sample": "plain", "item": {}},
        {"grader": SIMILARITY, "model_sample": "red and green", "item": {"answer": "red"}, "trace_id": "trace_1"},
        {"grader": JOBS[1]["rft"]["grader"], "model_sample": "red", "item": {"answer": "red"}},
    ],
    "/fine_tuning/alpha/graders/validate": [{"grader": GRADER}, {"grader": JOBS[1]["rft"]["grader"]}],
    "/uploads": [{"bytes": 20, "filename": "a.jsonl", "mime_type": "text/jsonl", "purpose": "fine-tune"}],
    "/fine_tuning/checkpoints/ft:a:b::c/permissions": [{"project_ids": ["proj_1"]}],
}
CHAT: dict[str, list[Any]] = {
    "/chat/completions": [
        {"model": "tiny", "messages": [USER], "max_tokens": 1, "temperature": 0.5, "seed": 1},
        {"model": "tiny", "max_tokens": 1, "messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}]},
        {"model": "tiny", "messages": [USER], "tools": [TOOL], "tool_choice": "auto", "max_completion_tokens": 1},
        {
            "model": "tiny",
            "max_tokens": 1,
            "messages": [
                USER,
                {"role": "assistant", "content": "", "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "call_1", "content": "fine"},
            ],
        },
    ],
    "/responses": [
        {"model": "tiny", "input": "Colour of apple?", "max_output_tokens": 1},
        {"model": "tiny", "input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}], "top_p": 0.5},
    ],
}


Send = Callable[[str, Sequence[Any]], Awaitable[list[str]]]


class Served:
    """A server of `serving.py`, started and ended as often as needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.strangers.serving", str(self.folder)]
        log = (self.folder / "log").open("a")
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("agentrft serves "), f"the server does not start: {self.log()[-2000:]}"
        self.url = line.split()[-1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def log(self) -> str:
        return (self.folder / "log").read_text()


async def _post_all(url: str, requests: Sequence[tuple[str, dict[str, Any]]], shown: Sequence[Any]) -> list[str]:
    """Send requests, `AT_ONCE` at a time; each must be answered in JSON, and not with a fault of the server's."""
    faults: list[str] = []
    places = asyncio.Semaphore(AT_ONCE)

    async def one(session: aiohttp.ClientSession, path: str, options: dict[str, Any], given: Any) -> None:
        async with places:
            try:
                async with session.post(f"{url}{path}", **options) as answer:
                    text = await answer.text()
                    if answer.status >= 500:
                        faults.append(unforeseen(given, what=f"POST {path}: {answer.status} {text[:500]}"))
                    elif "json" in answer.content_type:
                        json.loads(text)
            except (aiohttp.ClientError, TimeoutError, ValueError, RecursionError) as error:
                faults.append(unforeseen(given, error))

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(120)) as session:
        await asyncio.gather(*(one(session, *request, given) for request, given in zip(requests, shown, strict=True)))
    return faults


async def _listed(url: str, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    async with aiohttp.ClientSession() as session:
        while True:
            query = {"limit": "100", **({"after": found[-1]["id"]} if found else {})}
            async with session.get(f"{url}{path}", params=query) as answer:
                body = await answer.json()
                assert answer.status == 200, f"GET {path}: {answer.status} {str(body)[:300]}"
            found += body["data"]
            if not body.get("has_more"):
                return found


async def _all_is_listed(url: str) -> list[str]:
    """Every list is answered, and nothing waits for ever to be looked at."""
    try:
        deadline, fewest = time.monotonic() + SETTLE_S, sys.maxsize
        while True:
            lists = {path: await _listed(url, path) for path in LISTS}
            stuck = [
                one["id"]
                for path in LISTS
                for one in lists[path]
                if one.get("status") in ("uploaded", "validating_files")
            ]
            if not stuck:
                return []
            if len(stuck) < fewest:
                # A slow machine is no fault, as long as it goes on.
                fewest, deadline = len(stuck), time.monotonic() + SETTLE_S
            if time.monotonic() > deadline:
                return [f"stuck: {stuck[:5]} and {max(0, len(stuck) - 5)} more"]
            await asyncio.sleep(0.2)
    except AssertionError as error:
        return [str(error)]


def _with_server(
    send: Callable[[str, Sequence[Any]], Awaitable[list[str]]],
) -> Callable[[Sequence[Any], Path], list[str]]:
    """One batch: send it, list everything, end the server by either signal, and list everything again."""
    batches = itertools.count()

    def run(inputs: Sequence[Any], folder: Path) -> list[str]:
        server = Served(folder)
        server.start()
        try:
            faults = asyncio.run(send(server.url, inputs))
            faults += asyncio.run(_all_is_listed(server.url))
            server.end(signal.SIGKILL if next(batches) % 2 else signal.SIGTERM)
            server.start()
            faults += [f"after a restart: {fault}" for fault in asyncio.run(_all_is_listed(server.url))]
        except (AssertionError, aiohttp.ClientError) as error:
            return [str(error)]
        finally:
            server.end()
        return faults + (["a traceback in the server's log"] if "Traceback" in server.log() else [])

    return run


async def _uploaded_file(url: str) -> str:
    rows = "".join(json.dumps(row) + "\n" for row in ROWS[:2])
    form = aiohttp.FormData({"purpose": "fine-tune"})
    form.add_field("file", rows.encode(), filename="train.jsonl")
    async with aiohttp.ClientSession() as session, session.post(f"{url}/files", data=form) as answer:
        return (await answer.json())["id"]


async def _send_bodies(url: str, inputs: Sequence[tuple[str, bytes]]) -> list[str]:
    file_id = (await _uploaded_file(url)).encode()
    json_type = {"Content-Type": "application/json"}
    requests = [
        (path, {"data": body.replace(FILE_ID.encode(), file_id), "headers": json_type}) for path, body in inputs
    ]
    return await _post_all(url, requests, inputs)


async def _send_files(url: str, inputs: Sequence[bytes]) -> list[str]:
    requests = []
    for start in range(0, len(inputs), ROWS_OF_A_FILE):
        form = aiohttp.FormData({"purpose": "fine-tune"})
        form.add_field("file", b"\n".join(inputs[start : start + ROWS_OF_A_FILE]), filename="odd.jsonl")
        requests.append(("/files", {"data": form}))
    return await _post_all(url, requests, [f"a file of rows from {number}" for number, _ in enumerate(requests)])


def _chat(inputs: Sequence[tuple[str, bytes]], folder: Path) -> list[str]:
    with one_thread():
        model = make_model(folder / "tiny") if not (folder / "tiny").exists() else folder / "tiny"
    with running(model) as server:
        asked = weights(model).model_copy(update={"max_context_tokens": CHAT_CONTEXT_TOKENS})
        options = {**headers(asked), "Content-Type": "application/json"}
        requests = [(path, {"data": body, "headers": options}) for path, body in inputs]
        return asyncio.run(_post_all(server.url, requests, inputs))


def _stored(inputs: Sequence[tuple[str, str]], folder: Path) -> list[str]:
    """Records as an older version, or a hand, may have left them in the database: one in each of many jobs."""
    server = Served(folder)
    server.start()
    try:
        asyncio.run(_send_bodies(server.url, [("/fine_tuning/jobs", json.dumps(CREATE).encode())]))
        asyncio.run(_all_is_listed(server.url))
    finally:
        server.end()
    with sqlite3.connect(folder / "jobs" / "agentrft.db") as database:
        jobs = [f"ftjob-{next(_numbers):012d}" for _ in inputs]
        for job_id, (column, text) in zip(jobs, inputs, strict=True):
            _copy_newest_job(database, job_id)
            table, _, name = column.partition(".")
            # SQLite takes no half surrogate pairs itself.
            stored = text.encode("utf-8", "replace").decode()
            database.execute(f'UPDATE {table} SET "{name}" = ? WHERE job_id = ?', (stored, job_id))
            database.execute("UPDATE jobs SET status = 'created' WHERE job_id = ? AND number % 3 = 0", (job_id,))
    server.start()
    try:
        faults = asyncio.run(_all_is_listed(server.url))
        return faults + asyncio.run(_events_are_listed(server.url, jobs))
    except AssertionError as error:
        return [str(error)]
    finally:
        server.end()


_numbers = itertools.count()


def _copy_newest_job(database: sqlite3.Connection, job_id: str) -> None:
    """A job like the newest, with its rows in all tables."""
    (newest,) = database.execute("SELECT job_id FROM jobs ORDER BY number DESC LIMIT 1").fetchone()
    template = _templates.setdefault(str(database.execute("PRAGMA database_list").fetchone()[2]), newest)
    for table in ("jobs", "served_jobs", "events"):
        names = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        copied = [f'"{name}"' for name in names if name not in ("number", "job_id", "idempotency_key")]
        database.execute(
            f"INSERT INTO {table} (job_id, {', '.join(copied)}) "
            f"SELECT ?, {', '.join(copied)} FROM {table} WHERE job_id = ?",
            (job_id, template),
        )


# The job that is copied, by database: one that was made through the API.
_templates: dict[str, str] = {}


async def _events_are_listed(url: str, jobs: Sequence[str]) -> list[str]:
    faults: list[str] = []
    places = asyncio.Semaphore(AT_ONCE)

    async def one(job_id: str) -> None:
        async with places:
            try:
                await _listed(url, f"/fine_tuning/jobs/{job_id}/events")
            except AssertionError as error:
                faults.append(str(error))

    await asyncio.gather(*(one(job_id) for job_id in jobs))
    return faults


def _at(bodies: dict[str, list[Any]]) -> st.SearchStrategy[tuple[str, bytes]]:
    return st.one_of(*(st.tuples(st.just(path), odd_bytes(odd_documents(bases))) for path, bases in bodies.items()))


STORED = {
    "jobs.spec": [{"source": None, "files": {}, "job": {**JOBS[0], "validation_file": None, "dtype": "auto"}}],
    "jobs.hyperparameters": [{"batch_size": 2, "n_epochs": 1, "learning_rate_multiplier": 1.5}],
    "served_jobs.request": [CREATE],
    "events.data": [{"step": 1, "scores": {"train_reward_mean": 0.5}}, {}],
}
API_DOORS = [
    Door("API bodies", _at(BODIES), _with_server(_send_bodies)),
    Door("uploads", odd_bytes(odd_documents(ROWS, one_line=True)), _with_server(_send_files)),
    Door("chat requests", _at(CHAT), _chat),
    Door(
        "stored records",
        st.one_of(*(st.tuples(st.just(column), odd_documents(bases)) for column, bases in STORED.items())),
        _stored,
    ),
]
