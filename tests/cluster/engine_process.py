"""A stand-in for a vLLM server in a process of its own, so that it can be killed.

python -m tests.cluster.engine_process MODEL PORT
"""

import asyncio
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType

from transformers import AutoModelForCausalLM

from tests.cluster.ray_jobs import wait_for
from tests.engine.vllm_stand_in import StandIn

ROOT = Path(__file__).parents[2]
# So that a turn is under way when something is killed.
PAUSE_S = 0.05


class EngineProcess:
    """Runs while it is entered; `kill` ends it, and `start` starts it again behind the same URL."""

    def __init__(self, model: Path) -> None:
        self._model = model
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> "EngineProcess":
        self.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.kill()

    def start(self) -> None:
        self.begin()
        wait_for(self.answers, self.url)

    def begin(self) -> None:
        """Start it, and do not wait until it answers."""
        command = [sys.executable, "-m", "tests.cluster.engine_process", str(self._model), str(self._port)]
        self._process = subprocess.Popen(command, cwd=ROOT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def answers(self) -> bool:
        assert self._process.poll() is None, "the engine ended"
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                return True
        except OSError:
            return False


async def serve(model: Path, port: int) -> None:
    server = StandIn(AutoModelForCausalLM.from_pretrained(model), name=str(model), port=port)
    server.pause_s = PAUSE_S
    await server.start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
