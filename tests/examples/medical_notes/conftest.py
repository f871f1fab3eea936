"""A small code set, data made of it, and the real tool server over it."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

pytest.importorskip("simple_icd_10_cm")  # the extra `quickstart`
pytest.importorskip("bm25s")  # the extra `quickstart`

from examples.medical_coding.search_index import SearchIndex
from examples.medical_notes.codes import CodeSet, load_codes
from examples.medical_notes.make_data import write_data
from examples.medical_notes.search import SearchTool
from examples.medical_notes.tools import make_app

# Diseases of the respiratory, the digestive and the reproductive systems: some 1,700 codes, indexed in no time.
CATEGORIES = {f"{chapter}{number:02d}" for chapter in "JK" for number in range(100)}
CATEGORIES |= {f"N{number}" for number in range(40, 99)}


@pytest.fixture(scope="session")
def codes() -> CodeSet:
    return load_codes(CATEGORIES)


@pytest.fixture(scope="session", params=["small", "large"])
def difficulty(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def data(codes: CodeSet, difficulty: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the files of one difficulty."""
    out = tmp_path_factory.mktemp("notes") / difficulty
    write_data(out, 0, difficulty, codes)
    return out


@pytest.fixture(scope="session")
def tool(codes: CodeSet) -> SearchTool:
    return SearchTool(SearchIndex(codes.hits))


@pytest.fixture(scope="session")
def small_data(codes: CodeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("notes") / "data"
    write_data(out, 0, "small", codes)
    return out


@pytest.fixture(scope="session")
def server_url(codes: CodeSet) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(make_app(codes=codes), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        # The listener queues what arrives while the index is still being built.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)
