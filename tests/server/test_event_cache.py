"""Events as clients get them: read and written out once, whoever asks in whatever order."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentrft.server.cache import events as event_cache
from agentrft.server.cache.events import EventCache
from agentrft.server.objects.jobs import event_object
from agentrft.store import JobStore
from tests.server.live import database_of


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    database = database_of(tmp_path) if os.environ.get("AGENTRFT_TEST_DATABASE") else None
    with JobStore(tmp_path, database=database) as store:
        yield store


@pytest.fixture
def job_id(store: JobStore) -> str:
    job_id = store.create_job({"job": {}}, model="weights", seed=0)
    for number in range(5):
        store.add_event(job_id, "info", f"naïve {number}", {"step": number, "scores": {}})
    return job_id


def said(texts: list[str]) -> list[str]:
    return [json.loads(text)["message"].split()[-1] for text in texts]


def test_texts_come_in_the_order_asked_for_and_are_those_of_the_events(store: JobStore, job_id: str) -> None:
    numbers = store.newest_events(job_id, limit=3)
    found = EventCache(store).of(numbers)
    assert said(found) == ["4", "3", "2"]
    assert [json.loads(text) for text in found] == [event_object(event) for event in store.events_of(numbers)][::-1]


def test_what_was_read_once_is_not_read_again(store: JobStore, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, read = EventCache(store), []
    events_of = store.events_of
    monkeypatch.setattr(store, "events_of", lambda numbers: [read.append(list(numbers)), events_of(numbers)][1])
    numbers = store.newest_events(job_id, limit=2)
    first = texts.of(numbers)
    store.add_event(job_id, "info", "and 5")
    newer = store.newest_events(job_id, limit=3)
    assert texts.of(newer)[1:] == first
    assert read == [numbers, newer[:1]]


def test_more_than_are_kept_are_all_told(store: JobStore, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_cache, "MOST_TEXTS", 1)
    texts = EventCache(store)
    for _ in range(3):
        for limit in (5, 1, 3):
            assert said(texts.of(store.newest_events(job_id, limit=limit))) == ["4", "3", "2", "1", "0"][:limit]


def test_a_job_without_events_has_no_texts(store: JobStore) -> None:
    empty = store.create_job({"job": {}}, model="weights", seed=0)
    assert EventCache(store).of(store.newest_events(empty, limit=5)) == []


def test_events_after_one_are_those_that_came_later(store: JobStore, job_id: str) -> None:
    numbers = [event.number for event in store.events(job_id)]
    assert [event.number for event in store.events(job_id, after=numbers[2])] == numbers[3:]
    assert store.newest_events(job_id, limit=5, before=numbers[2]) == numbers[:2][::-1]
