"""Answers that are polled are given again, and never once they are out of date."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import AuthenticationError

from agentrft.server.cache.responses import ResponseCache, answer_from_cache
from agentrft.store import JobStore
from tests.server.live import QUICK, database_of, live, method, open_store, upload
from tests.traffic.chaos_server import ChaosServer


class CountingApp:
    """Answers with how often it was asked."""

    def __init__(self, status: int = 200, content_type: bytes = b"application/json") -> None:
        self.asked = 0
        self._status = status
        self._content_type = content_type

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        scope["route"] = "the route"
        headers = [(b"content-type", self._content_type)]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(self.asked).encode()})


@pytest.fixture
def store(tmp_path: Path):
    with JobStore(tmp_path, database=database_of(tmp_path)) as opened:
        yield opened


async def ask(app: CountingApp, memory: ResponseCache, query: bytes = b"") -> tuple[bytes, Any]:
    """The body, and the route that it is counted under."""
    scope: dict[str, Any] = {"type": "http", "path": "/polled", "query_string": query}
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    await answer_from_cache(app, await memory.now(), scope, receive, send)
    return sent[1]["body"], scope["route"]


async def test_the_same_question_is_worked_on_once_until_something_is_committed(store: JobStore):
    app, memory = CountingApp(), ResponseCache(store.database.changes)
    job_id = store.create_job({}, model="tiny", seed=0)
    assert [await ask(app, memory) for _ in range(3)] == [(b"1", "the route")] * 3
    store.add_event(job_id, "info", "something new")
    assert [await ask(app, memory) for _ in range(3)] == [(b"2", "the route")] * 3


async def test_other_questions_have_their_own_answers(store: JobStore):
    app, memory = CountingApp(), ResponseCache(store.database.changes)
    assert [(await ask(app, memory, query))[0] for query in (b"limit=1", b"limit=2", b"limit=1")] == [b"1", b"2", b"1"]


@pytest.mark.parametrize("app", [CountingApp(status=404), CountingApp(content_type=b"text/event-stream")])
async def test_errors_and_streams_are_made_anew(app: CountingApp, store: JobStore):
    memory = ResponseCache(store.database.changes)
    assert [(await ask(app, memory))[0] for _ in range(2)] == [b"1", b"2"]


class SlowApp(CountingApp):
    """Takes until it is let; the first answer of a stream takes for ever."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_in_time(message: Any) -> None:
            is_stream = self._content_type != b"application/json"
            if message["type"] == "http.response.body" and self.asked == 1 and is_stream:
                await asyncio.Event().wait()
            await send(message)

        await self.may_answer.wait()
        await super().__call__(scope, receive, send_in_time)


async def ask_at_once(app: SlowApp, memory: ResponseCache, clients: int) -> list[asyncio.Task[tuple[bytes, Any]]]:
    asking = [asyncio.create_task(ask(app, memory)) for _ in range(clients)]
    await asyncio.sleep(0.05)
    app.may_answer.set()
    await asyncio.wait(asking, timeout=0.5)
    return asking


async def test_those_who_ask_at_once_share_the_work(store: JobStore):
    app = SlowApp()
    asking = await ask_at_once(app, ResponseCache(store.database.changes), 20)
    assert [one.result() for one in asking] == [(b"1", "the route")] * 20
    assert app.asked == 1


async def test_an_error_is_shared_with_nobody(store: JobStore):
    asking = await ask_at_once(SlowApp(status=404), ResponseCache(store.database.changes), 5)
    assert sorted(one.result()[0] for one in asking) == [b"1", b"2", b"3", b"4", b"5"]


async def test_a_stream_holds_up_nobody_else(store: JobStore):
    first, *others = await ask_at_once(
        SlowApp(content_type=b"text/event-stream"), ResponseCache(store.database.changes), 4
    )
    assert not first.done()
    assert sorted(one.result()[0] for one in others) == [b"2", b"3", b"4"]
    first.cancel()


async def test_one_who_is_cut_off_while_others_wait_leaves_them_their_answer(store: JobStore):
    app, memory = SlowApp(), ResponseCache(store.database.changes)
    first = asyncio.create_task(ask(app, memory))
    await asyncio.sleep(0.05)
    others = [asyncio.create_task(ask(app, memory)) for _ in range(3)]
    await asyncio.sleep(0.05)
    first.cancel()
    app.may_answer.set()
    assert len(await asyncio.wait_for(asyncio.gather(*others), 5)) == 3


async def test_a_database_that_does_not_answer_costs_the_memory_and_no_request(store: JobStore):
    class Silent:
        is_instant = False

        def stamp(self) -> object:
            from sqlalchemy.exc import OperationalError

            raise OperationalError("SELECT", {}, Exception("gone"))

    app, memory = CountingApp(), ResponseCache(Silent())  # type: ignore[arg-type]
    assert [(await ask(app, memory))[0] for _ in range(2)] == [b"1", b"2"]


def test_a_key_that_is_revoked_by_another_process_is_refused_at_once(
    tmp_path: Path, tiny_model: Path, tools: ChaosServer
):
    from agentrft.server.records import Records

    data_dir = tmp_path / "data"
    data_dir.mkdir()
    with JobStore(data_dir / "jobs", database=database_of(data_dir)) as store:
        row, key = Records(store).create_key("somebody")
    with live(data_dir, tiny_model, "--require-key") as server:
        client = server.client(key)
        files = upload(client, tmp_path / "rows")
        job = client.fine_tuning.jobs.create(
            model="tiny",
            training_file=files["train"],
            method=method(tools.url),
            extra_body=QUICK,  # type: ignore[arg-type]
        )
        polled = f"{server.url}/fine_tuning/jobs/{job.id}"
        for _ in range(3):
            assert httpx.get(polled, headers={"Authorization": f"Bearer {key}"}).status_code == 200
            assert httpx.get(polled, headers={"Authorization": "Bearer sk-agentrft-other"}).status_code == 401
        with open_store(server) as store:
            Records(store).revoke_key(row.key_id)
        with pytest.raises(AuthenticationError):
            client.fine_tuning.jobs.retrieve(job.id)
