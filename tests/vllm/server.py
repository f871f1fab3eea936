"""A real vLLM server on loopback, from an environment of its own."""

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

START_TIMEOUT_S = 600.0


class VllmServer:
    """Serves a model by vLLM's CPU build; everything that it starts ends with it.

    Args:
        python: of the environment that has vLLM.
        log: where it writes to.
    """

    def __init__(
        self, python: Path, model: Path, name: str, log: Path, *, dtype: str = "float32", context: int = 1024
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        cores = ",".join(map(str, sorted(os.sched_getaffinity(0))))
        self._environment = os.environ | {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_SERVER_DEV_MODE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": cores,
            "LD_PRELOAD": str(python.parent.parent / "lib" / "libiomp5.so"),
            "KMP_BLOCKTIME": "5",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": "",
        }
        self._command = [str(python), "-m", "vllm.entrypoints.openai.api_server"]
        self._command += ["--model", str(model), "--served-model-name", name, "--dtype", dtype]
        self._command += ["--max-model-len", str(context), "--max-num-seqs", "64", "--enforce-eager"]
        self._command += ["--enable-lora", "--max-lora-rank", "16", "--max-loras", "2"]
        self._command += ["--logprobs-mode", "processed_logprobs", "--host", "127.0.0.1", "--port", str(self._port)]

    @property
    def own_command(self) -> list[str]:
        """What a job would be given as `engine.command`: without what it adds itself."""
        names = ("LD_PRELOAD", "KMP_BLOCKTIME", "VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "HF_HUB_OFFLINE")
        settings = [f"{name}={self._environment[name]}" for name in names]
        return ["env", *settings, *self._command[:3], "--max-num-seqs", "64", "--enforce-eager"]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> "VllmServer":
        """Start it, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=log, stderr=log, start_new_session=True
            )
        self.wait()
        return self

    def wait(self) -> None:
        """Until it answers."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise RuntimeError(f"vLLM ended: {self._log.read_text(errors='replace')[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.5)
        raise RuntimeError(f"vLLM did not start: {self._log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """At once, with all that it started."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
