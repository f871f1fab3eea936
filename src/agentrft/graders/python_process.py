"""One worker process of a python grader, seen from outside. `python_worker.py` is what runs inside.

Whatever a worker writes may be forged by the code that runs in it, so nothing of it is believed: its length is bounded,
it is read by `wire`, and a reply counts only if it bears the random id of the request.
"""

import asyncio
import json
import logging
import os
import re
import secrets
import shutil
import signal
import struct
import sys
import tempfile
from pathlib import Path
from typing import Any

from agentrft.graders.base import GraderFailure
from agentrft.graders.packages import what_to_install
from agentrft.graders.sandbox import Jail
from agentrft.graders.worker_budget import WorkerBudget
from agentrft.wire import WireError, clean_text, parse

logger = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("python_worker.py")
# Importing a large library in the grader's module may take this long; `timeout_s` is for the calls.
START_TIMEOUT_S = 120.0
KILL_TIMEOUT_S = 10.0
MAX_REPLY_BYTES = 64 * 1024
MAX_MESSAGE_CHARACTERS = 4000
STDERR_TAIL_BYTES = 1000
# What a grader prints beyond this is read slowly: it keeps the grader waiting and not this process busy.
FREE_STDERR_BYTES = 4 * 1024**2
STDERR_PAUSE_S = 0.01
FAILURE_KINDS = ("exception", "bad_answer", "sandbox")
FOLDER = "agentrft-grader-"


class PythonProcess:
    """A process with its process group and its place in the budget, and a private folder where there is no jail."""

    def __init__(
        self, grader: str, process: asyncio.subprocess.Process, folder: str | None, budget: WorkerBudget
    ) -> None:
        self._grader = grader
        self._process = process
        self._folder = folder
        self._budget: WorkerBudget | None = budget
        self._stderr_tail = b""
        self._killed = False
        self._drain = asyncio.create_task(self._drain_stderr())

    @classmethod
    async def start(
        cls, grader: str, source: str, *, jail: Jail | None, budget: WorkerBudget
    ) -> "tuple[PythonProcess, bool]":
        """Start a worker and load the grader's source. Its place in the budget is taken already, and is given back when
        the worker is gone, also when this fails.

        Returns:
            The worker, and whether the kernel keeps it off the network.

        Raises:
            GraderFailure: "crashed", "timeout", or what the source raised.
        """
        command = [sys.executable, "-I", "-B", "-X", "utf8", str(WORKER)]
        message: dict[str, Any] = {"source": source, "name": grader}
        if jail is not None:
            try:
                launch = jail.launch(command, WORKER)
            except OSError as error:
                budget.give_back()
                raise GraderFailure(grader, "crashed", f"its sandbox cannot be made: {error}") from error
            command, message["jail"] = launch.command, launch.orders
        worker = await cls._spawn(grader, command, budget, has_folder=jail is None)
        is_ready = False
        try:
            reply = await worker._exchange_within(message, START_TIMEOUT_S)
            if "error" in reply:
                kind, text = _failure(reply)
                raise GraderFailure(grader, kind, f"while loading: {text}", remedy=what_to_install(text))
            is_ready = True
        finally:
            if not is_ready:
                worker.kill()
                await worker.reap()
        return worker, reply.get("network") == "namespace"

    @classmethod
    async def _spawn(
        cls, grader: str, command: list[str], budget: WorkerBudget, *, has_folder: bool
    ) -> "PythonProcess":
        folder = None
        is_started = False
        try:
            if has_folder:
                _remove_left_folders()
                folder = tempfile.mkdtemp(prefix=f"{FOLDER}{os.getpid()}-")
            spawning = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.PIPE,
                    cwd=folder or "/",
                    env={},
                    start_new_session=True,
                )
            )
            try:
                process = await asyncio.shield(spawning)
            except asyncio.CancelledError:
                # asyncio would end the process alone, not its group, and then wait for what that left.
                worker = cls(grader, await spawning, folder, budget)
                is_started = True
                await worker.reap()
                raise
            is_started = True
        except OSError as error:
            raise GraderFailure(grader, "crashed", f"its process did not start: {error}") from error
        finally:
            if not is_started:
                budget.give_back()
                if folder is not None:
                    shutil.rmtree(folder, ignore_errors=True)
        return cls(grader, process, folder, budget)

    @property
    def pid(self) -> int:
        """Of the process that was started: the worker, or bubblewrap outside its jail."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        return not self._killed and self._process.returncode is None

    async def grade(self, sample: dict[str, Any], item: dict[str, Any], timeout_s: float) -> float:
        """One call of `grade`: the finite number that it returned. The process is ended when the call is cancelled, and
        whenever it fails other than by the grader's own exception or answer.

        Raises:
            GraderFailure: "exception", "timeout", "crashed" or "bad_answer".
        """
        number = secrets.token_hex(16)
        reply = await self._exchange_within({"id": number, "sample": sample, "item": item}, timeout_s)
        score, error = reply.get("score"), reply.get("error")
        if reply.get("id") == number:
            if error in FAILURE_KINDS:
                kind, text = _failure(reply)
                raise GraderFailure(self._grader, kind, text, remedy=what_to_install(text, hosted_alone=True))
            if error is None and isinstance(score, float):
                return score
        # The worker itself writes nothing else.
        self.kill()
        raise GraderFailure(self._grader, "bad_answer", "the grader's code wrote a reply of its own")

    def kill(self) -> None:
        """End the process and what it started in its group, which outlives a process that died by itself."""
        if self._killed:
            return
        self._killed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # What has left the group already, and does not die with its parent yet, reads the end of its requests.
        if self._process.stdin is not None:
            self._process.stdin.close()

    async def reap(self) -> None:
        """End and collect the process, remove its folder, give its place back. May be called more than once."""
        # The number of a process that ended a while ago may belong to another one by now.
        if self._process.returncode is None:
            self.kill()
        self._killed = True
        try:
            await asyncio.wait_for(self._process.wait(), KILL_TIMEOUT_S)
        except TimeoutError:
            logger.warning("grader '%s': process %d did not end after SIGKILL", self._grader, self._process.pid)
        finally:
            self._drain.cancel()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            budget, self._budget = self._budget, None
            if budget is not None:
                budget.busy(self)
                budget.give_back()

    async def _exchange_within(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        replied = False
        try:
            async with asyncio.timeout(timeout_s):
                reply = await self._exchange(message)
            replied = True
        except TimeoutError as error:
            raise GraderFailure(self._grader, "timeout", f"no score within {timeout_s} s") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise GraderFailure(self._grader, "crashed", await self._death()) from error
        finally:
            if not replied:
                self.kill()
        return reply

    async def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        body = json.dumps(message).encode()
        try:
            stdin.write(struct.pack(">I", len(body)) + body)
            await stdin.drain()
        except RuntimeError as error:  # what uvloop says of a pipe that is closed
            raise ConnectionResetError(str(error)) from error
        (length,) = struct.unpack(">I", await stdout.readexactly(4))
        if length > MAX_REPLY_BYTES:
            raise GraderFailure(self._grader, "bad_answer", "the worker's reply is too long")
        try:
            reply = parse(await stdout.readexactly(length), lossy=True)
        except WireError as error:
            raise GraderFailure(self._grader, "bad_answer", f"the worker's reply is refused: {error}") from error
        if not isinstance(reply, dict):
            raise GraderFailure(self._grader, "bad_answer", "the worker's reply is not an object")
        return reply

    async def _death(self) -> str:
        """How the process ended, with the last it wrote to stderr."""
        try:
            await asyncio.wait_for(asyncio.gather(self._process.wait(), asyncio.shield(self._drain)), 1.0)
        except TimeoutError:
            self.kill()
        code = self._process.returncode
        ended = f"ended by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
        tail = self._stderr_tail.decode(errors="replace").strip()
        return f"the grader's process died ({ended})" + (f"; its last output: {tail}" if tail else "")

    async def _drain_stderr(self) -> None:
        assert self._process.stderr is not None
        n_read = 0
        while chunk := await self._process.stderr.read(65536):
            n_read += len(chunk)
            self._stderr_tail = (self._stderr_tail + chunk)[-STDERR_TAIL_BYTES:]
            printed = chunk[-STDERR_TAIL_BYTES:].decode(errors="replace").rstrip()
            logger.debug("grader '%s' printed: %s", self._grader, printed)
            if n_read > FREE_STDERR_BYTES:
                await asyncio.sleep(STDERR_PAUSE_S)


def _failure(reply: dict[str, Any]) -> tuple[str, str]:
    """Kind and message of an error reply. The kinds are counted, so no others are let in."""
    kind = reply["error"] if reply["error"] in FAILURE_KINDS else "bad_answer"
    return kind, clean_text(str(reply.get("message"))[:MAX_MESSAGE_CHARACTERS])


def _remove_left_folders() -> None:
    """Remove folders whose process was killed before it could."""
    for folder in Path(tempfile.gettempdir()).glob(f"{FOLDER}*-*"):
        found = re.fullmatch(rf"{FOLDER}(\d+)-.*", folder.name)
        if found and not _is_running(int(found[1])):
            shutil.rmtree(folder, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
