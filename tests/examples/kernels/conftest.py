"""One bench for all tests of kernels, and the server of the example over it."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from agentrft.errors import UserError
from agentrft.graders.python_process import WORKER
from agentrft.graders.sandbox import working_jail
from examples.kernels.bench import Bench
from examples.kernels.make_data import write_data
from examples.kernels.tools import app


@pytest.fixture(scope="session")
def jail() -> None:
    """What kernels need of the machine."""
    if shutil.which("gcc") is None or shutil.which("readelf") is None:
        pytest.skip("kernels are compiled by gcc, which is not installed")
    try:
        working_jail(WORKER)
    except UserError as error:
        pytest.skip(f"kernels run in bubblewrap's jail, which cannot be made here: {error}")


@pytest.fixture(scope="session")
def bench(jail: None) -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


@pytest.fixture(scope="session")
def server_url(jail: None) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app(), log_level="error"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        # The listener queues what arrives while the jail is still being made.
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join(timeout=30)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small data of seed 0."""
    out = tmp_path_factory.mktemp("kernels") / "data"
    write_data(out, seed=0)
    return out
