"""The job's side of a server in the cluster: its place, its watch, and the weights that it is sent."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentrft.cluster.engines.actor import Begun, EngineActor, EngineSetup, Refused
from agentrft.cluster.engines.shipments import Shipments
from agentrft.cluster.own_gpus import OwnGpus
from agentrft.cluster.ray_cluster import ActorLostError, RayCluster, answer_of
from agentrft.engine import EngineFailure
from agentrft.engine.vllm import NotBegunError

# For the first start: that a cluster has no room is then found out before the job has cost anything.
PLACE_S = 300.0
# Of a look at an actor. One whose machine is silent is lost when Ray says so.
LOOK_S = 5.0
END_S = 20.0
# A start, looks, a shipment, an end.
CALLS_AT_ONCE = 4


class RayHost:
    """See `Host` and `Files` of the engine.

    A server that is lost with its machine is started on another one as soon as there is room for it, and until then
    waits, while others do its work.

    Args:
        cluster: that it runs in.
        setup: of the job's servers.
        shipments: of the job.
        gpus: that it takes; 0 for one that takes a core.
        own_gpus: that this process computes on, which are kept from it; None where it computes on none.
    """

    def __init__(
        self, cluster: RayCluster, setup: EngineSetup, shipments: Shipments, *, gpus: int, own_gpus: OwnGpus | None
    ) -> None:
        self._cluster = cluster
        self._setup = setup
        self._shipments = shipments
        self._gpus = gpus
        self._own_gpus = own_gpus
        self._actor: Any = None
        # Of this actor, and of any.
        self._runs = self._has_begun = False
        self.shown = " ".join(setup.command)
        self.log = "its log"

    async def begin(self) -> str:
        """See `Host`.

        Raises:
            NotBegunError: see `Host`.
            UserError: there is no such cluster.
            JobFailedError: Ray did not start, or a GPU of this process is another's.
        """
        import ray

        await self.kill()
        self._cluster.open()
        if self._own_gpus is not None:
            await asyncio.to_thread(self._own_gpus.hold)
        options: dict[str, Any] = {"num_cpus": 0, "num_gpus": self._gpus} if self._gpus else {"num_cpus": 1}
        options |= {"max_restarts": 0, "max_task_retries": 0, "max_concurrency": CALLS_AT_ONCE}
        new_actor: Any = ray.remote(**options)(EngineActor)
        self._actor = new_actor.remote()
        try:
            async with asyncio.timeout(None if self._has_begun else PLACE_S):
                begun: Begun | Refused = await answer_of(self._actor.start.remote(self._setup))
        except TimeoutError:
            await self.kill()
            takes = f"{self._gpus} GPUs" if self._gpus > 1 else "a GPU" if self._gpus else "a core"
            raise NotBegunError(
                f"found no place in the Ray cluster within {PLACE_S:g} s: each takes {takes}. "
                "Lower cluster.engines, or add machines"
            ) from None
        except ActorLostError as error:
            raise NotBegunError(f"was lost as it started: {error}") from error
        if isinstance(begun, Refused):
            await self.kill()
            raise NotBegunError(begun.why)
        self._runs = self._has_begun = True
        self.shown, self.log = begun.shown, begun.log
        return begun.url

    async def how_it_ended(self) -> str | None:
        """See `Host`."""
        if not self._runs:
            return None
        try:
            async with asyncio.timeout(LOOK_S):
                return await answer_of(self._actor.how_it_ended.remote())
        except TimeoutError:
            return None
        except ActorLostError as error:
            return f"was lost with its place in the cluster: {error}"

    async def last_words(self) -> str:
        """See `Host`."""
        if not self._runs:
            return ""
        try:
            async with asyncio.timeout(LOOK_S):
                return await answer_of(self._actor.last_words.remote())
        except (TimeoutError, ActorLostError):
            return ""

    async def seen_at(self, folder: Path) -> str | None:
        """See `Files`.

        Raises:
            EngineFailure: its machine has no room for it.
        """
        if not self._runs:
            return None
        actor = self._actor
        try:
            path: str | Refused = await answer_of(actor.receive.remote(await self._shipments.of(folder)))
        except (FileNotFoundError, ActorLostError):
            return None
        if isinstance(path, Refused):
            raise EngineFailure("weights", f"they cannot be written: {path.why}")
        return path

    async def kill(self) -> None:
        """See `Host`."""
        import ray

        actor, self._actor, self._runs = self._actor, None, False
        if actor is not None:
            ray.kill(actor)

    async def end(self) -> None:
        """See `Host`."""
        if self._runs:
            with suppress(TimeoutError, ActorLostError):
                async with asyncio.timeout(END_S):
                    await answer_of(self._actor.end.remote())
        await self.kill()
        if self._own_gpus is not None:
            self._own_gpus.release()
        self._cluster.close()
