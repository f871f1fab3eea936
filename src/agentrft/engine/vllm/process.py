"""A vLLM server that is ours to run: its command, its start, its end."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentrft.engine.vllm import guard

# Of a server that is asked to end.
PATIENCE_S = 10.0
LAST_CHARACTERS = 280
LOOPBACK = "127.0.0.1"
# What vLLM takes as --max-lora-rank.
LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)


class ServerProcess:
    """A command under a guard: it ends with this process, however this one ends.

    Args:
        environment: of the command, beside this process's own.
        log: where all that it writes is appended.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    @property
    def shown(self) -> str:
        """The command, as a shell takes it."""
        return shlex.join(self._command)

    def begin(self) -> None:
        """Start it; what it was before has ended."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # What Python finds for us is not what an environment of its own should find.
        environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        with self.log.open("ab") as log:
            log.write(f"\n{time.strftime('%F %T')} {self.shown}\n".encode())
            log.flush()
            self._process = subprocess.Popen(
                [sys.executable, "-I", str(Path(guard.__file__)), *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment | self._environment,
                start_new_session=True,
            )

    def how_it_ended(self) -> str | None:
        """Such as "ended with status 1"; None while it runs, and before it was begun."""
        code = None if self._process is None else self._process.poll()
        return None if code is None else f"ended with status {code}"

    def kill(self) -> None:
        """At once, with all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        # Also what is left of a group whose first has ended.
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            process.stdin.close()

    def end(self) -> None:
        """Ask it to end, and see that it does. It takes `PATIENCE_S` at most."""
        if self._process is not None:
            _signal_group(self._process.pid, signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_S
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
        self.kill()

    def last_words(self) -> str:
        """What it wrote at the end, `LAST_CHARACTERS` at most."""
        try:
            with self.log.open("rb") as log:
                log.seek(max(0, log.seek(0, os.SEEK_END) - 4 * LAST_CHARACTERS))
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return text.strip()[-LAST_CHARACTERS:]


def server_command(
    command: Sequence[str],
    *,
    model: str,
    served_as: str,
    port: int,
    host: str = LOOPBACK,
    context_tokens: int,
    lora_rank: int | None,
    dtype: str,
    sleeps: bool,
) -> list[str]:
    """A whole command, of one that leaves out what the job knows.

    Args:
        command: such as `["vllm", "serve", "--gpu-memory-utilization", "0.5"]`; what it says itself stays as it is.
        model: a folder or the hub's id.
        host: the address that it listens at.
        lora_rank: of the job's adapters; None where all weights are trained.
        dtype: of the policy, such as `bfloat16`.
        sleeps: whether the job lets it sleep.
    """
    words = list(command)
    given = {word.partition("=")[0] for word in words if word.startswith("--")}
    if "serve" not in words:
        words += [] if "--model" in given else ["--model", model]
    elif (after := words.index("serve") + 1) == len(words) or words[after].startswith("-"):
        words.insert(after, model)
    wanted = {
        "--served-model-name": served_as,
        "--host": host,
        "--port": str(port),
        "--max-model-len": str(context_tokens),
        "--dtype": dtype,
        # Log-probabilities at the temperature that is sampled at.
        "--logprobs-mode": "processed_logprobs",
    }
    flags: list[str] = ["--enable-sleep-mode"] if sleeps else []
    if lora_rank is not None:
        flags.append("--enable-lora")
        wanted["--max-lora-rank"] = str(next((rank for rank in LORA_RANKS if rank >= lora_rank), lora_rank))
        # The one that is sampled from, and the one that comes.
        wanted["--max-loras"] = "2"
    for name, value in wanted.items():
        words += [] if name in given else [name, value]
    return words + [flag for flag in flags if flag not in given]


def free_port(host: str) -> int:
    """One that nobody listens at."""
    with socket.socket() as free:
        free.bind((host, 0))
        return free.getsockname()[1]


def server_environment(*, lora: bool, sleeps: bool) -> dict[str, str]:
    """What makes vLLM take weights while it runs, and sleep."""
    environment = {"VLLM_NO_USAGE_STATS": "1", "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
    if sleeps or not lora:
        environment["VLLM_SERVER_DEV_MODE"] = "1"
    return environment


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return
