"""A stand-in for a vLLM server in a process of its own, so that it can be killed.

python engine_process.py serve MODEL --port PORT [--record FILE], and others of vLLM's options
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from transformers import AutoModelForCausalLM  # noqa: E402  # our own modules are found only now

from tests.cluster.ray_jobs import wait_for  # noqa: E402
from tests.engine.vllm_stand_in import StandIn  # noqa: E402

COMMAND = [sys.executable, str(Path(__file__).absolute()), "serve"]
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
        self._process = subprocess.Popen([*COMMAND, str(self._model), "--port", str(self._port)])

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


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--served-model-name")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--record", type=Path)
    arguments, _ = parser.parse_known_args()
    asyncio.run(serve(arguments))


async def serve(arguments: argparse.Namespace) -> None:
    """Until it is killed; what it was started with, and then each folder of weights that it reads, is a line of the
    record."""
    server = StandIn(
        AutoModelForCausalLM.from_pretrained(arguments.model),
        name=arguments.served_model_name or arguments.model,
        host=arguments.host,
        port=arguments.port,
    )
    server.pause_s = PAUSE_S
    server.key = os.environ.get("VLLM_API_KEY")
    server.is_developed = "VLLM_SERVER_DEV_MODE" in os.environ
    await server.start()

    def write(**line: object) -> None:
        if arguments.record is not None:
            with arguments.record.open("a", encoding="utf-8") as record:
                record.write(json.dumps({"pid": os.getpid(), **line}) + "\n")

    environment = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "VLLM_API_KEY")}
    write(url=server.url, environment=environment)
    told = 0
    while True:
        await asyncio.sleep(0.02)
        for folder in server.read[told:]:
            write(read=str(folder), answered=len(server.bodies))
            told += 1


if __name__ == "__main__":
    main()
