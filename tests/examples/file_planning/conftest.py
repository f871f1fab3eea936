"""The example's data, made once, and its tool server."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from examples.file_planning.make_data import write_data
from examples.file_planning.tools import app


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("file-planning") / "data"
    write_data(out, seed=0)
    return out


@pytest.fixture(scope="session")
def server_url(data: Path) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app(data / "repositories"), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)
