"""The python grader: the user's `grade(sample, item)`, in warm worker processes inside a sandbox (`sandbox.py`).

With `trusted: true` there is no jail around the worker. It then still keeps a grader's mistakes (endless loops, memory,
stray prints) away from the training process, without environment and network, but reads the files that its user can
read, and a process that it starts in a session of its own outlives it.
"""

import ast
import asyncio
import json
import logging
import os
import shutil
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.graders.base import Grade, GraderFailure, GraderSample
from agentrft.graders.sandbox import jailed
from agentrft.graders.scores import finite_score
from agentrft.spec.graders import PythonGraderSpec

logger = logging.getLogger(__name__)

WORKER = Path(__file__).with_name("python_worker.py")
# Importing a large library in the grader's module may take this long; `timeout_s` is for the calls.
START_TIMEOUT_S = 120.0
KILL_TIMEOUT_S = 10.0
MAX_REPLY_BYTES = 1024 * 1024
STDERR_TAIL_BYTES = 1000


class PythonGrader:
    """Calls `grade(sample, item)` of the given source, one call at a time in each worker.

    Workers start with the first calls and live until `close`, so what the module keeps in globals stays between
    calls of one worker. After a time-out or a crash the next call gets a fresh one.

    Args:
        spec: with `source` filled in.
        n_workers: calls that run at the same time.

    Raises:
        UserError: the source has a syntax error or no usable function `grade`, or there is no sandbox for it.
    """

    def __init__(self, spec: PythonGraderSpec, n_workers: int = 1) -> None:
        self.name = spec.name
        self._timeout_s = spec.timeout_s
        self._source = _checked_source(spec)
        command = [sys.executable, "-I", "-B", "-X", "utf8", str(WORKER)]
        self._command = command if spec.trusted else jailed([*command, "--jailed"], WORKER)
        self._idle: asyncio.LifoQueue[_Worker | None] = asyncio.LifoQueue()
        for _ in range(n_workers):
            self._idle.put_nowait(None)
        self._workers: set[_Worker] = set()
        self._closed = False
        self._warned = False
        if spec.image_tag is not None:
            logger.warning(
                "grader '%s': image_tag '%s' has no effect: the code runs with this Python and its packages",
                spec.name,
                spec.image_tag,
            )

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: "exception" (with type, message and line of the user's code), "timeout", "crashed" (the
                process ended), or "bad_answer" (no finite number was returned).
        """
        started = time.perf_counter()
        request = {"sample": sample.as_template_value(), "item": item}
        worker = await self._idle.get()
        try:
            if worker is None or not worker.alive:
                if worker is not None:
                    await self._remove(worker)
                    worker = None
                worker = await self._start()
            reply = await worker.exchange(request, self._timeout_s)
        finally:
            self._idle.put_nowait(worker)
            if worker is not None and not worker.alive:
                await self._remove(worker)
        score = finite_score(self._score_of(reply), grader=self.name, what="the score")
        return Grade(score=score, latency_s=time.perf_counter() - started)

    async def close(self) -> None:
        """End all workers; a call that is running fails as "crashed"."""
        self._closed = True
        await asyncio.gather(*(self._remove(worker) for worker in list(self._workers)))

    async def _start(self) -> "_Worker":
        if self._closed:
            raise GraderFailure(self.name, "crashed", "the grader was closed")
        worker = await _Worker.spawn(self.name, self._command)
        self._workers.add(worker)
        if self._closed:
            await self._remove(worker)
            raise GraderFailure(self.name, "crashed", "the grader was closed")
        start = {"source": self._source, "name": self.name, "timeout_s": self._timeout_s}
        try:
            reply = await worker.exchange(start, START_TIMEOUT_S)
            if "error" in reply:
                worker.kill()
                raise GraderFailure(self.name, str(reply["error"]), f"while loading: {reply.get('message')}")
        finally:
            if not worker.alive:
                await self._remove(worker)
        if reply.get("network") != "namespace" and not self._warned:
            self._warned = True
            logger.warning(
                "grader '%s': the kernel gives no network namespace; sockets and subprocesses are refused in Python "
                "instead, which native code could go around",
                self.name,
            )
        return worker

    def _score_of(self, reply: dict[str, Any]) -> Any:
        if "error" in reply:
            raise GraderFailure(self.name, str(reply["error"]), str(reply.get("message")))
        return reply.get("score")

    async def _remove(self, worker: "_Worker") -> None:
        self._workers.discard(worker)
        await worker.reap()


class _Worker:
    """One process, its process group and its private folder."""

    def __init__(self, grader: str, process: asyncio.subprocess.Process, folder: str) -> None:
        self._grader = grader
        self._process = process
        self._folder = folder
        self._stderr_tail = b""
        self._killed = False
        self._drain = asyncio.create_task(self._drain_stderr())

    @classmethod
    async def spawn(cls, grader: str, command: list[str]) -> "_Worker":
        folder = tempfile.mkdtemp(prefix="agentrft-grader-")
        started = False
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=folder,
                env={},
                start_new_session=True,
            )
            started = True
        except OSError as error:
            raise GraderFailure(grader, "crashed", f"its process did not start: {error}") from error
        finally:
            if not started:
                shutil.rmtree(folder, ignore_errors=True)
        return cls(grader, process, folder)

    @property
    def alive(self) -> bool:
        return not self._killed and self._process.returncode is None

    async def exchange(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """Send a message and wait for its reply. Whenever there is none, cancellation included, the process is ended.

        Raises:
            GraderFailure: "timeout", "crashed", or "bad_answer" (what came back is no reply).
        """
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

    def kill(self) -> None:
        """End the process and what it started in its group, which outlives a process that died by itself."""
        if self._killed:
            return
        self._killed = True
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    async def reap(self) -> None:
        """End and collect the process, and remove its folder. May be called more than once."""
        # The number of a process that ended a while ago may belong to another one by now.
        if self._process.returncode is None:
            self.kill()
        self._killed = True
        try:
            await asyncio.wait_for(self._process.wait(), KILL_TIMEOUT_S)
        except TimeoutError:
            logger.warning("grader '%s': process %d did not end after SIGKILL", self._grader, self._process.pid)
        self._drain.cancel()
        shutil.rmtree(self._folder, ignore_errors=True)

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
            reply = json.loads(await stdout.readexactly(length))
        except ValueError as error:
            raise GraderFailure(self._grader, "bad_answer", "the worker's reply is not JSON") from error
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
        while chunk := await self._process.stderr.read(65536):
            self._stderr_tail = (self._stderr_tail + chunk)[-STDERR_TAIL_BYTES:]
            printed = chunk[-STDERR_TAIL_BYTES:].decode(errors="replace").rstrip()
            logger.debug("grader '%s' printed: %s", self._grader, printed)


def _checked_source(spec: PythonGraderSpec) -> str:
    if spec.source is None:
        raise UserError(f"grader '{spec.name}': source_file was not read.", "Load the job with `load_job`.")
    filename = f"<grader {spec.name}>"
    try:
        tree = ast.parse(spec.source, filename)
        compile(tree, filename, "exec")
    except SyntaxError as error:
        raise UserError(
            f"grader '{spec.name}': source, line {error.lineno}: {error.msg}.", "Correct the grader's code."
        ) from error
    except ValueError as error:
        raise UserError(f"grader '{spec.name}': source: {error}.", "Correct the grader's code.") from error
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "grade"]
    if not functions or not _takes_two(functions[-1].args):
        found = f"line {functions[-1].lineno} takes other arguments" if functions else "there is none"
        raise UserError(
            f"grader '{spec.name}': source: expected a function grade(sample, item); {found}.",
            "Define `def grade(sample, item) -> float:` at the top level; it must not be async.",
        )
    return spec.source


def _takes_two(arguments: ast.arguments) -> bool:
    """Whether the function can be called with exactly two positional arguments."""
    n_positional = len(arguments.posonlyargs) + len(arguments.args)
    n_required = n_positional - len(arguments.defaults)
    missing_keywords = any(default is None for default in arguments.kw_defaults)
    return n_required <= 2 and (n_positional >= 2 or arguments.vararg is not None) and not missing_keywords
