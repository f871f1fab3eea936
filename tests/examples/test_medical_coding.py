"""The quickstart example: its data can be made again, its server speaks the tool format, its grader scores as told."""

import asyncio
import importlib
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import aiohttp
import pytest
import uvicorn

from agentrft.data.samples import load_demonstrations, load_samples
from agentrft.spec import load_job

pytest.importorskip("simple_icd_10_cm")
pytest.importorskip("bm25s")

EXAMPLE = Path(__file__).parents[2] / "examples" / "medical_coding"
MODULES = ("search_index", "terms", "transcripts", "demonstrations", "make_data", "server", "grader")
FILES = ("train", "validation", "demonstrations")


@pytest.fixture(scope="module")
def example() -> Iterator[dict[str, ModuleType]]:
    """The example's files as modules, as they import each other when run from their folder."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(EXAMPLE))
        for name in MODULES:
            sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def data(example: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("medical") / "data"
    example["make_data"].write_data(out, seed=0)
    return out


@pytest.fixture(scope="module")
def server_url(example: dict[str, ModuleType]) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(example["server"].app, log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        # The listener queues what arrives while the index is still being built.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_in_another_process(data: Path, tmp_path: Path) -> None:
    # Without the statistics, which take most of the time.
    source = (
        "import sys\nfrom pathlib import Path\nfrom make_data import write_data\nwrite_data(Path(sys.argv[1]), seed=0)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(EXAMPLE)}
    subprocess.run([sys.executable, "-c", source, tmp_path], check=True, env=environment, timeout=120)
    for name in FILES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (data / f"{name}.jsonl").read_bytes()


def test_the_files_load_and_have_the_promised_sizes(data: Path) -> None:
    assert len(load_samples(data / "train.jsonl")) == 200
    assert len(load_samples(data / "validation.jsonl")) == 120
    assert len(load_demonstrations(data / "demonstrations.jsonl")) == 110


@pytest.mark.parametrize("key", ["answer", "term"])
def test_no_code_and_no_term_is_used_twice(data: Path, key: str) -> None:
    values = [json.loads(line)[key].lower() for name in FILES for line in _lines(data, name)]
    assert len(values) == len(set(values))


def test_every_transcript_mentions_its_term_and_never_its_code(data: Path) -> None:
    for name in FILES:
        for row in map(json.loads, _lines(data, name)):
            transcript = row["messages"][1]["content"]
            assert row["term"] in transcript
            assert row["answer"] not in transcript


def test_demonstrations_search_once_or_twice_and_end_in_a_code_that_a_search_showed(data: Path) -> None:
    numbers_of_searches = set()
    for row in map(json.loads, _lines(data, "demonstrations")):
        results = [message["content"] for message in row["messages"] if message["role"] == "tool"]
        numbers_of_searches.add(len(results))
        shown = [line.split()[0] for result in results for line in result.splitlines()]
        assert row["messages"][-1]["content"] in shown
        assert row["messages"][-1]["content"] == row["answer"] or row["answer"] not in shown
    assert numbers_of_searches == {1, 2}


def test_the_bare_term_finds_far_more_codes_than_the_whole_transcript(
    example: dict[str, ModuleType], data: Path
) -> None:
    index = example["search_index"].load_index()
    rows = [json.loads(line) for line in _lines(data, "train")]

    def found(query: str, code: str) -> bool:
        return code in [hit.code for hit in index.search(query)]

    by_term = sum(found(row["term"], row["answer"]) for row in rows) / len(rows)
    by_transcript = sum(found(row["messages"][1]["content"], row["answer"]) for row in rows) / len(rows)
    assert by_term > 0.8
    assert by_transcript < 0.4


async def test_the_server_answers_a_function_call_with_four_short_lines(server_url: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        async with session.get("/healthz") as response:
            assert response.status == 200
        async with session.post("/tools/search", json=_call({"query": "typhoid fever with heart"})) as response:
            answer = await response.json()
    assert answer["type"] == "function_call_output"
    assert answer["call_id"] == "call_1"
    lines = answer["output"].splitlines()
    assert len(lines) == 4
    assert lines[0] == "A01.02 Typhoid fever with heart involvement"


@pytest.mark.parametrize("arguments", ["{", "[]", "{}", '{"query": 3}', '{"query": " "}'])
async def test_the_server_refuses_bad_arguments_with_a_text_the_model_can_read(server_url: str, arguments: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/tools/search", json=_call(arguments)) as response:
            assert response.status == 400
            assert "must be" in (await response.json())["error"]


async def test_fifty_calls_at_once_are_all_answered_alike(server_url: str) -> None:
    async def ask(session: aiohttp.ClientSession) -> str:
        async with session.post("/tools/search", json=_call({"query": "hepatic coma"})) as response:
            return (await response.json())["output"]

    async with aiohttp.ClientSession(server_url) as session:
        outputs = await asyncio.gather(*(ask(session) for _ in range(50)))
    assert len(set(outputs)) == 1


async def test_a_query_without_any_known_word_says_so(server_url: str) -> None:
    async with aiohttp.ClientSession(server_url) as session:
        async with session.post("/tools/search", json=_call({"query": "qqqq the"})) as response:
            assert (await response.json())["output"] == "no hits"


@pytest.mark.parametrize(
    ("text", "n_calls", "score"),
    [
        ("A01.02", 1, 1.0),
        (" a01.02\n", 1, 1.0),
        ("A01.02", 0, 1.0),
        ("A01.02", 2, 0.9),
        ("A01.02", 3, 0.8),
        ("A01.03", 1, 0.5),
        ("A01.1", 1, 0.25),
        ("A02.1", 1, 0.0),
        ("A02.1", 3, 0.0),
        ("The code is A01.02", 1, 0.0),
        ("", 1, 0.0),
    ],
)
def test_the_grade_is_closeness_less_the_cost_of_searches(
    example: dict[str, ModuleType], text: str, n_calls: int, score: float
) -> None:
    sample = {"output_text": text, "output_tools": [{}] * n_calls}
    assert example["grader"].grade(sample, {"answer": "A01.02"}) == pytest.approx(score)


def test_the_job_loads() -> None:
    job = load_job(EXAMPLE / "job.yaml")
    assert job.tools[0].name == "search"
    assert job.hyperparameters.max_episode_steps == 3


def _lines(data: Path, name: str) -> list[str]:
    return (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


def _call(arguments: dict[str, object] | str) -> dict[str, object]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "search", "arguments": text, "item": {}}
