"""What the tests of the finance example share: its generated data, its tools, and the tools' server."""

import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

pytest.importorskip("bm25s", reason="the examples' packages are in the extra `quickstart`")

import uvicorn

from examples.common.tool_server import Tool
from examples.finance.make_data import Dataset, make_dataset, write_data
from examples.finance.tools import finance_app, make_tools


@pytest.fixture(scope="session")
def dataset() -> Dataset:
    return make_dataset(seed=0)


@pytest.fixture(scope="session")
def tools(dataset: Dataset) -> Mapping[str, Tool]:
    return make_tools(dataset.filings)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files as `make_data` writes them."""
    out = tmp_path_factory.mktemp("finance") / "data"
    write_data(out, seed=0)
    return out


@pytest.fixture(scope="session")
def server_url(data: Path) -> Iterator[str]:
    """The tools over these files, on a real port of loopback."""
    server = uvicorn.Server(uvicorn.Config(finance_app(data), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)
