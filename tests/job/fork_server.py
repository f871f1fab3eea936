"""Runs jobs in processes of their own that can be killed at a named moment.

Importing torch and transformers takes seconds, so one process imports them once and forks a child for each run.
The child is a real process with its own files, threads and event loop, and the kill is a real SIGKILL to itself.

    python -m tests.job.fork_server      reads a request per line from stdin, writes a reply per line
"""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RUN_TIMEOUT_S = 300


class ForkServer:
    """The parent's side. Starts with the first run."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate(timeout=10)

    def run(self, job_file: Path, *, job_id: str | None = None, kill_at: str | None = None) -> int:
        """Run a new job, or resume `job_id`. Returns the exit code, -9 after a kill.

        Args:
            kill_at: a name of `kills.MOMENTS`.
        """
        if self._process is None:
            environment = {
                **os.environ,
                "OMP_NUM_THREADS": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}",
            }
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.job.fork_server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=ROOT,
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"job_file": str(job_file), "job_id": job_id, "kill_at": kill_at}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        reply = self._process.stdout.readline()
        return int(json.loads(reply)["code"])


def _serve() -> None:
    import torch

    import agentrft.job  # noqa: F401  (imported before forking, so that children need not)

    torch.set_num_threads(1)
    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run_child(request))
        _, status = os.waitpid(child, 0)
        sys.stdout.write(json.dumps({"code": os.waitstatus_to_exitcode(status)}) + "\n")
        sys.stdout.flush()


def _run_child(request: dict[str, Any]) -> int:
    from tests.job import kills

    signal.alarm(RUN_TIMEOUT_S)
    # Its output is the run's log; stdout belongs to the replies.
    job_file = Path(request["job_file"])
    log = os.open(job_file.with_name("log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        if request["kill_at"]:
            kills.arm(request["kill_at"])
        asyncio.run(_run_job(job_file, request["job_id"]))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        return 1
    return 0


async def _run_job(job_file: Path, job_id: str | None) -> None:
    from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
    from agentrft.spec import load_any_job
    from agentrft.store import JobStore

    if job_id is None:
        spec = load_any_job(job_file)
        store, job_id = create_job(spec, source=job_file)
    else:
        store = JobStore(job_file.parent / "runs", create=False)
        spec = resume_job(store, job_id)
    with store:
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())


if __name__ == "__main__":
    _serve()
