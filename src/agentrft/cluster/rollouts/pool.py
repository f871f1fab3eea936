"""All rollout workers of a job: started, given rollouts, watched, started again, ended."""

import asyncio
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Collection

from agentrft.cluster.ray_cluster import ActorLostError
from agentrft.cluster.rollouts.link import Running, WorkerLink
from agentrft.cluster.rollouts.messages import NotStarted
from agentrft.cluster.rollouts.processes import Processes
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
        # Workers that are being started, or started again.
        self._returning = 0
        self._changed = asyncio.Event()
        self._starting = asyncio.Lock()
        self._is_open = False
        self._is_closing = False

    async def start(self) -> None:
        """Start the workers; nothing where they were started. Returns when as many are there as the job needs.

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
            coming = {number: asyncio.create_task(self._started(number)) for number in numbers}
            try:
                await self._enough_of(coming.values())
            except BaseException:  # also a job that is stopped leaves no worker behind
                for starting in coming.values():
                    starting.cancel()
                    if starting.done() and not starting.cancelled() and starting.exception() is None:
                        starting.result().kill()
                await asyncio.gather(*coming.values(), return_exceptions=True)
                raise
            self._returning = len(coming)
            self._keeping = [
                asyncio.create_task(self._keep(number, starting), name=f"agentrft-rollout-worker-{number}")
                for number, starting in coming.items()
            ]

    async def _enough_of(self, coming: Collection[asyncio.Task[WorkerLink]]) -> None:
        """As many have started as the job needs to begin. Raises what is the matter with one that has not."""
        needed, there = self._cluster.needed_rollout_workers, 0
        try:
            async with asyncio.timeout(START_S):
                for starting in asyncio.as_completed(coming):
                    await starting
                    there += 1
                    if there == needed:
                        return
        except ActorLostError as error:
            raise _did_not_start(str(error)) from error
        except TimeoutError:
            raise _did_not_start(
                f"{there} of {needed} workers were there within {START_S:g} s; "
                "the cluster may have no room for the others"
            ) from None

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
            except ActorLostError as lost:
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
        """The worker with the fewest rollouts; waits for one that is being started; None where none is left."""
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

    async def _keep(self, number: int, starting: Awaitable[WorkerLink]) -> None:
        """Serve a worker once it is there, and start it again as often as the job says."""
        restarts = self._cluster.max_restarts
        for restart in range(restarts + 1):
            link = await self._arrived(number, starting)
            if link is None:
                return
            told = await self._until_lost(link, returns=restart < restarts)
            if self._is_closing:
                return
            if restart < restarts:
                self._notify("warning", f"{told}; it is started again ({restart + 1} of {restarts})")
                starting = self._started(number)
            else:
                left = f"{len(self._live)} rollout worker(s) are left"
                self._notify("warning", f"{told}; it is not started again, and {left}")

    async def _arrived(self, number: int, starting: Awaitable[WorkerLink]) -> WorkerLink | None:
        """The worker, ready for rollouts; None where it did not start."""
        patience_s = None if self._cluster.waits_for_room else START_S
        try:
            async with asyncio.timeout(patience_s):
                link = await starting
        except (UserError, ActorLostError, TimeoutError) as error:
            why = str(error) or f"it was not there within {START_S:g} s; the cluster may have no room for it"
            self._notify("warning", f"rollout worker {number} did not start: {why}")
            return None
        finally:
            self._returning -= 1
            self._changed.set()
        if self._is_closing:
            link.kill()
            return None
        self._live.append(link)
        if self._cluster.waits_for_room:
            self._notify("info", f"{link.name} is there: {len(self._live)} of {self._cluster.rollout_workers}")
        return link

    async def _until_lost(self, link: WorkerLink, *, returns: bool) -> str:
        """Serve a worker. What to tell of its end; its rollouts are for others then."""
        try:
            await link.serve()
        except ActorLostError as lost:
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
        """Once the cluster has room for it; its process is ended where nobody waits for it any more."""
        actor = self._processes.new_actor()
        try:
            answer = await actor.start(self._setup)
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
