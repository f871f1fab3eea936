"""The python grader: the user's `grade(sample, item)`, in warm worker processes inside a sandbox (`sandbox.py`).

With `trusted: true` there is no jail around the worker. It then still keeps a grader's mistakes (endless loops, memory,
stray prints) away from the training process, without a network, and with HOME as its environment, but reads the files
that its user can read, and a process that it starts in a session of its own outlives it.

A worker that is `isolated` serves one call. Another one is started for the next call while this one is used.
"""

import asyncio
import logging
import time
from typing import Any

from agentrft.graders.base import Grade, GraderFailure, GraderSample
from agentrft.graders.python_process import WORKER, PythonProcess
from agentrft.graders.python_source import checked_source
from agentrft.graders.sandbox import working_jail
from agentrft.graders.scores import finite_score
from agentrft.graders.worker_budget import worker_budget
from agentrft.spec.graders import PythonGraderSpec

logger = logging.getLogger(__name__)


class PythonGrader:
    """Calls `grade(sample, item)` of the given source, one call at a time in each worker.

    Workers start with the first calls and live until `close`, so what the module keeps in globals stays between
    calls of one worker, unless the grader is isolated. After a time-out or a crash the next call gets a fresh one.

    Args:
        spec: with `source` filled in.
        n_workers: calls that run at the same time.

    Raises:
        UserError: the source has a syntax error or no usable function `grade`, or there is no sandbox for it.
    """

    def __init__(self, spec: PythonGraderSpec, n_workers: int = 1) -> None:
        self.name = spec.name
        self._timeout_s = spec.timeout_s
        source = checked_source(spec)
        self._source = source.text
        self.isolated = source.runs_text_at is not None if spec.isolated is None else spec.isolated
        self._jail = None if spec.trusted else working_jail(WORKER)
        # Slots for workers: None where none was started yet.
        self._idle: asyncio.LifoQueue[PythonProcess | None] = asyncio.LifoQueue()
        for _ in range(n_workers):
            self._idle.put_nowait(None)
        self._workers: set[PythonProcess] = set()
        self._refills: set[asyncio.Task[None]] = set()
        self._closed = False
        self._warned = False
        _tell(spec, source.runs_text_at)

    async def grade(self, sample: GraderSample, *, item: dict[str, Any], trace_id: str) -> Grade:
        """Grade one rollout.

        Raises:
            GraderFailure: "exception" (with type, message and line of the user's code), "timeout", "crashed" (the
                process ended), or "bad_answer" (no number up to `MAX_SCORE` was returned, or
                the reply was not the worker's).
        """
        started = time.perf_counter()
        waited = await self._idle.get()
        worker = None
        try:
            worker = await self._usable(waited)
            score = await worker.grade(sample.as_payload(), item, self._timeout_s)
        finally:
            self._put_back(worker)
            if worker is not None and not worker.alive:
                await self._remove(worker)
        score = finite_score(score, grader=self.name, what="what grade() returns")
        return Grade(score=score, latency_s=time.perf_counter() - started)

    async def load(self) -> None:
        """Start a worker and load the source; the first call finds it ready.

        Raises:
            GraderFailure: as `grade`, before any call.
        """
        waited = await self._idle.get()
        worker = None
        try:
            worker = await self._usable(waited)
            worker_budget().idle(worker)
        finally:
            self._idle.put_nowait(worker)

    async def probe(self) -> None:
        """It has no server."""

    async def close(self) -> None:
        """End all workers; a call that is running fails as "crashed"."""
        self._closed = True
        for refill in self._refills:
            refill.cancel()
        await asyncio.gather(*self._refills, return_exceptions=True)
        await asyncio.gather(*(self._remove(worker) for worker in list(self._workers)))

    async def _usable(self, waited: PythonProcess | None) -> PythonProcess:
        """The worker of a slot, or a new one where it has none or lost it."""
        budget = worker_budget()
        if waited is not None:
            budget.busy(waited)
            if waited.alive:
                return waited
            await self._remove(waited)
        self._check_open()
        await budget.take()
        return await self._start()

    async def _start(self) -> PythonProcess:
        """Start a worker for which there is a place in the budget."""
        worker, has_namespace = await PythonProcess.start(
            self.name, self._source, jail=self._jail, budget=worker_budget()
        )
        self._workers.add(worker)
        if self._closed:
            await self._remove(worker)
        self._check_open()
        if not has_namespace and not self._warned:
            self._warned = True
            logger.warning(
                "grader '%s': the kernel gives no network namespace; sockets and subprocesses are refused in Python "
                "instead, which native code could go around",
                self.name,
            )
        return worker

    def _put_back(self, worker: PythonProcess | None) -> None:
        """Fill the slot that a call used."""
        if worker is None:
            self._idle.put_nowait(None)
        elif self.isolated:
            worker.kill()
            refill = asyncio.create_task(self._refill(worker))
            self._refills.add(refill)
            refill.add_done_callback(self._refills.discard)
        else:
            worker_budget().idle(worker)
            self._idle.put_nowait(worker)

    async def _refill(self, used: PythonProcess) -> None:
        """Start the next worker of an isolated grader, before anybody waits for it."""
        worker = None
        try:
            await self._remove(used)
            # It is no reason to end another grader's worker.
            if not self._closed and worker_budget().take_free():
                worker = await self._start()
                worker_budget().idle(worker)
        except GraderFailure:
            pass  # the next call tries again, and tells
        finally:
            self._idle.put_nowait(worker)

    def _check_open(self) -> None:
        if self._closed:
            raise GraderFailure(self.name, "crashed", "the grader was closed")

    async def _remove(self, worker: PythonProcess) -> None:
        self._workers.discard(worker)
        await worker.reap()


def _tell(spec: PythonGraderSpec, runs_text_at: str | None) -> None:
    """What the author of a grader should know about it."""
    if spec.image_tag is not None:
        logger.warning(
            "grader '%s': image_tag '%s' has no effect: the code runs with this Python and its packages",
            spec.name,
            spec.image_tag,
        )
    if runs_text_at is not None and spec.isolated is False:
        logger.warning(
            "grader '%s': it runs text as code (%s), and `isolated: false` lets one answer change how later ones are "
            "graded",
            spec.name,
            runs_text_at,
        )
    elif runs_text_at is not None and spec.isolated is None:
        logger.info("grader '%s': a fresh process for each call, as it runs text as code (%s)", spec.name, runs_text_at)
