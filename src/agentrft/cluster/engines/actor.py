"""The process beside a vLLM server, on whatever machine of the cluster Ray found a place for it."""

import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from agentrft.cluster.engines.shipments import Shipment
from agentrft.engine.vllm.installed import installed_command
from agentrft.engine.vllm.process import ServerProcess, free_port, server_command, server_environment
from agentrft.errors import UserError
from agentrft.models.catalog import ModelSource

# Versions of the policy that are kept: the one that is sampled from, and the one before, which turns may still be of.
KEPT = 2


@dataclass(frozen=True)
class EngineSetup:
    """Of all servers of a job.

    Attributes:
        command: that starts one; empty for what is installed on its machine.
        source: of the model, which each machine has, or fetches for itself.
        served_as, context_tokens, lora_rank, dtype: see `server_command`.
        environment: of the command, beside what makes vLLM take weights; it has the key that requests need.
    """

    command: tuple[str, ...]
    source: ModelSource
    served_as: str
    context_tokens: int
    lora_rank: int | None
    dtype: str
    environment: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Begun:
    """Of a server that was started: where it will answer, by what command, and where it writes to."""

    url: str
    shown: str
    log: str


@dataclass(frozen=True)
class Refused:
    """Why a server was not started, or weights are not on a machine."""

    why: str


class EngineActor:
    """Runs one server; all its methods may block. The server ends with this process, however that ends."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="agentrft-engine-"))
        # The server may run as another user.
        self._folder.chmod(0o755)
        self._process: ServerProcess | None = None
        self._receiving = threading.Lock()

    def start(self, setup: EngineSetup) -> Begun | Refused:
        """Start it, listening at this machine's address in the cluster."""
        import ray.util

        # Only here: it imports transformers, which the job's process has long done.
        from agentrft.models.load import model_folder

        host = ray.util.get_node_ip_address()
        command = setup.command or installed_command()
        if not command:
            return Refused(
                f"cannot be started on {host}: none was installed there. Give engine.command, or run "
                "`agentrft engines install vllm` on each machine"
            )
        try:
            model = str(model_folder(setup.source))
        except UserError as error:
            return Refused(f"cannot be started on {host}: {error.cause}")
        words = server_command(
            command,
            model=model,
            served_as=setup.served_as,
            host=host,
            port=free_port(host),
            context_tokens=setup.context_tokens,
            lora_rank=setup.lora_rank,
            dtype=setup.dtype,
            sleeps=False,
        )
        environment = server_environment(lora=setup.lora_rank is not None, sleeps=False) | dict(setup.environment)
        self._process = ServerProcess(words, environment, self._folder / "vllm.log")
        self._process.begin()
        port = words[words.index("--port") + 1]
        return Begun(f"http://{host}:{port}", self._process.shown, f"{self._process.log} on {host}")

    def how_it_ended(self) -> str | None:
        """See `ServerProcess`."""
        return None if self._process is None else self._process.how_it_ended()

    def last_words(self) -> str:
        """See `ServerProcess`."""
        return "" if self._process is None else self._process.last_words()

    def receive(self, shipment: Shipment) -> str | Refused:
        """Write a version of the policy's weights, unless it is here; the folder that it is in. Older ones go."""
        with self._receiving:
            folder = self._folder / shipment.name
            if folder.is_dir():
                return str(folder)
            coming = self._folder / f".{shipment.name}"
            try:
                _write(shipment, coming)
            except OSError as error:
                shutil.rmtree(coming, ignore_errors=True)
                return Refused(f"{error.strerror} in {self._folder} of {socket.gethostname()}")
            coming.rename(folder)
            versions = sorted((one for one in self._folder.iterdir() if one.is_dir()), key=_made_at)
            for old in versions[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)
            return str(folder)

    def end(self) -> None:
        """Ask the server to end, see that it does, and leave nothing of it here."""
        if self._process is not None:
            self._process.end()
        shutil.rmtree(self._folder, ignore_errors=True)


def _write(shipment: Shipment, folder: Path) -> None:
    import ray

    for path, pieces in shipment.files:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as written:
            for piece in pieces:
                written.write(ray.get(piece))


def _made_at(folder: Path) -> int:
    return os.stat(folder).st_mtime_ns
