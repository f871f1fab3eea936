"""All rollout workers of a job: started, given rollouts, watched, started again, ended."""

import asyncio
import time
import uuid
from collections import Counter

from agentrft.cluster.rollouts.link import Running, WorkerLink
from agentrft.cluster.rollouts.messages import NotStarted
from agentrft.cluster.rollouts.processes import Processes, WorkerLostError
from agentrft.cluster.rollouts.setup import RolloutSetup
from agentrft.engine import Session
from agentrft.errors import JobFailedError, UserError, describe
from agentrft.rollout import ATTEMPTS, EarlierAttempts, Rollout, RolloutTask
from agentrft.spec.cluster import ClusterSpec
from agentrft.tools import Toolbox
from agentrft.traffic import Gates, Notify

# A worker imports what it needs and reads a tokenizer; a cluster may have to find room first.
START_S = 300.0
END_S = 20.0
LOST = "worker:lost"


class RolloutWorkers:
    """Runs rollouts as `RolloutRunner` does, each in a worker. Used from one event loop.

    A worker that is lost costs its rollouts that had not ended an attempt each; they are run again by the others.

    Args:
        cluster: how many, where, and what is borne of them.
        setup: of each of them.
        gates: of this process's endpoints, which all requests pass.
        toolbox: of this process: what an attempt had begun of it is ended here where its worker is lost.
        notify: told what happens to workers, and what they tell.
        processes: where they run.
    """

    def __init__(
        self,
        cluster: ClusterSpec,
        setup: RolloutSetup,
        gates: Gates,
        toolbox: Toolbox,
        notify: Notify,
        processes: Processes,
    ) -> None:
        self._cluster = cluster
        self._setup = setup
        self._gates = gates
        self._toolbox = toolbox
        self._notify = notify
        self._processes = processes
        self._may_repeat_calls = all(tool.idempotent for tool in toolbox.tools.values())
        self._live: list[WorkerLink] = []
        self._keeping: list[asyncio.Task[None]] = []
        # Workers that are being started again.
        self._returning = 0
        self._changed = asyncio.Event()
        self._starting = asyncio.Lock()
        self._is_open = False
        self._is_closing = False

    async def start(self) -> None:
        """Start all workers; nothing where they were started.

        Raises:
            UserError: there is no such cluster, or a worker cannot run the job's rollouts.
            JobFailedError: Ray, or a worker, did not start.
        """
        async with self._starting:
            if self._keeping:
                return
            if not self._is_open:
                self._processes.open()
                self._is_open = True
            numbers = range(1, self._cluster.rollout_workers + 1)
            started = await asyncio.gather(*map(self._started, numbers), return_exceptions=True)
            links = [link for link in started if isinstance(link, WorkerLink)]
            for error in started:
                if isinstance(error, BaseException):
                    for link in links:
                        link.kill()
                    if isinstance(error, WorkerLostError):
                        raise _did_not_start(str(error)) from error
                    raise error
            self._live = list(links)
            self._keeping = [
                asyncio.create_task(self._keep(number, link), name=f"agentrft-rollout-worker-{number}")
                for number, link in zip(numbers, links, strict=True)
            ]

    async def run(self, task: RolloutTask, session: Session) -> Rollout:
        """See `RolloutRunner.run`: the attempt of a worker that is lost counts as broken infrastructure.

        Raises:
            UserError: as `start`.
        """
        await self.start()
        earlier: EarlierAttempts | None = None
        while True:
            link = await self._least_busy()
            if link is None:
                return _no_worker(task, earlier, self._cluster.max_restarts)
            running = link.begin(task, session, earlier)
            try:
                return await running.ended
            except WorkerLostError as lost:
                await running.stop_generating()
                session.restart()
                earlier = await self._after(running, earlier)
                if earlier is not None and not self._goes_on(running):
                    return _broken(task, earlier, f"its rollout worker was lost: {lost}", running.attempt)
            except asyncio.CancelledError:
                await link.cancel(running)
                raise

    async def close(self) -> None:
        """Break off what runs, end the workers, and the cluster where it was started."""
        self._is_closing = True
        # They are served until they have ended: what they break off may still pass gates.
        await asyncio.gather(*(link.close(END_S) for link in self._live))
        for keeping in self._keeping:
            keeping.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        if self._is_open:
            self._is_open = False
            self._processes.close()

    async def _least_busy(self) -> WorkerLink | None:
        """The worker with the fewest rollouts; waits for one that is being started again; None where none is left."""
        while not self._live and self._returning:
            self._changed.clear()
            await self._changed.wait()
        return min(self._live, key=lambda link: len(link.running), default=None)

    def _goes_on(self, running: Running) -> bool:
        """Whether a rollout whose worker was lost may be run again."""
        # What it had sampled it may have called.
        return running.attempt < ATTEMPTS and (self._may_repeat_calls or running.turns == 0)

    async def _after(self, running: Running, earlier: EarlierAttempts | None) -> EarlierAttempts | None:
        """What has been of a rollout, now that its worker is lost; as before, where nothing of it had begun."""
        if running.attempt == 0:
            return earlier
        for resource in reversed(self._toolbox.resources):
            await resource.end(trace_id=running.trace_id, attempt=running.attempt, outcome="infra_failed")
        before = list(earlier.given_up) if earlier is not None else []
        # Of attempts that broke in the worker nobody here knows why.
        before += ["unknown"] * (running.attempt - 1 - len(before))
        faults = Counter(earlier.faults if earlier is not None else {}) + Counter({LOST: 1})
        return EarlierAttempts(running.trace_id, (*before, LOST), faults, running.started_at)

    async def _keep(self, number: int, link: WorkerLink) -> None:
        """Serve a worker, and start it again as often as the job says."""
        for restart in range(1, self._cluster.max_restarts + 1):
            told = await self._until_lost(link, returns=True)
            if self._is_closing:
                return
            self._notify("warning", f"{told}; it is started again ({restart} of {self._cluster.max_restarts})")
            try:
                link = await self._started(number)
                self._live.append(link)
            except (UserError, WorkerLostError) as error:
                self._notify("warning", f"rollout worker {number} did not start again: {error}")
                return
            finally:
                self._returning -= 1
                self._changed.set()
        told = await self._until_lost(link, returns=False)
        if not self._is_closing:
            self._notify(
                "warning", f"{told}; it is not started again, and {len(self._live)} rollout worker(s) are left"
            )

    async def _until_lost(self, link: WorkerLink, *, returns: bool) -> str:
        """Serve a worker. What to tell of its end; its rollouts are for others then."""
        try:
            await link.serve()
        except WorkerLostError as lost:
            why = str(lost)
        except Exception as error:  # a mistake of ours in talking to it
            why = describe(error)
        # One that only does not answer is not to go on.
        link.kill()
        unfinished = len(link.running)
        self._live.remove(link)
        self._returning += returns
        link.lost(why)
        return f"{link.name} was lost: {why}; {unfinished} rollout(s) of it had not ended"

    async def _started(self, number: int) -> WorkerLink:
        actor = self._processes.new_actor()
        try:
            async with asyncio.timeout(START_S):
                answer = await actor.start(self._setup)
        except TimeoutError:
            actor.kill()
            raise _did_not_start(
                f"rollout worker {number} was not there within {START_S:g} s; the cluster may have no room for it"
            ) from None
        except BaseException:  # such as a job that is stopped
            actor.kill()
            raise
        if isinstance(answer, NotStarted):
            actor.kill()
            raise UserError(f"rollout worker {number}: {answer.cause}", answer.remedy)
        name = f"rollout worker {number} (process {answer.process_id})"
        return WorkerLink(actor, name, self._gates, self._notify, self._cluster.worker_timeout_s)


def _did_not_start(why: str) -> JobFailedError:
    return JobFailedError(
        f"cluster.rollout_workers: {why}.",
        "Lower cluster.rollout_workers, or give the cluster a CPU and about 1 GB for each; then resume the job.",
    )


def _broken(task: RolloutTask, earlier: EarlierAttempts, message: str, attempt: int) -> Rollout:
    """The record of a rollout that is not tried again."""
    *before, kind = earlier.given_up
    return Rollout(
        earlier.trace_id,
        attempt,
        task.sample.sample_id,
        task.step,
        task.index,
        "infra_failed",
        [],
        list(task.sample.messages),
        failure_kind=kind,
        failure_message=message,
        faults=dict(earlier.faults),
        given_up=before,
        started_at=earlier.started_at,
    )


def _no_worker(task: RolloutTask, earlier: EarlierAttempts | None, most: int) -> Rollout:
    """The record of a rollout that nobody can run."""
    began = earlier or EarlierAttempts(f"trace_{uuid.uuid4().hex}", (LOST,), {LOST: 1}, time.time())
    message = f"no rollout worker is left: each was started again as often as cluster.max_restarts ({most}) allows"
    return _broken(task, began, message, len(began.given_up))
