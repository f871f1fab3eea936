"""Ranks of a learner as actors of Ray, on any machine of a cluster.

Ray starts them and says how they ended. What they are told goes over a connection of its own to the first rank's
machine, as that of ranks of one machine does.
"""

import hmac
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from agentrft.cluster.meeting import Meeting, PortMeeting
from agentrft.cluster.own_gpus import OwnGpus
from agentrft.cluster.rank_processes import RankProcess, limit_sending
from agentrft.cluster.ray_cluster import RayCluster, why_lost
from agentrft.errors import JobFailedError

KEY_BYTES = NONCE_BYTES = 32
# What a rank says first: its number and its process's id, and that it knows the key.
WHO = struct.Struct("!II")
DIGEST = "sha256"
DIGEST_BYTES = 32
# For how long somebody who has connected may take to say it.
GREETING_S = 10.0


class RankActor:
    """The process that a rank runs in, as an actor."""

    def serve(self, host: str, port: int, number: int, key: bytes) -> None:
        """Be that rank, until the first one needs it no more; the process ends with it."""
        # Only here: it imports torch, which the first rank's process has long done.
        from agentrft.cluster.rank import serve

        connected = socket.create_connection((host, port))
        who = WHO.pack(number, os.getpid())
        nonce = _received(connected, NONCE_BYTES)
        connected.sendall(who + hmac.digest(key, who + nonce, DIGEST))
        serve(Connection(connected.detach()))


class InCluster:
    """See `RankPlaces`.

    Args:
        address: of the Ray cluster.
        on_gpus: whether each rank takes a GPU, the first one the first of this machine; else each other one a core.

    Raises:
        UserError: Ray is not installed.
    """

    def __init__(self, address: str, *, on_gpus: bool) -> None:
        self._cluster = RayCluster(address, 0, wanted_by="cluster.spread_learner")
        self._address = address
        self._on_gpus = on_gpus
        self._size = 0
        self._host = ""
        self._own_gpus = OwnGpus(1)

    def open(self, size: int) -> Meeting:
        """See `RankPlaces`.

        Raises:
            UserError: there is no such cluster.
            JobFailedError: the first GPU of this machine is somebody else's.
        """
        import ray.util

        self._cluster.open()
        self._size = size
        self._host = ray.util.get_node_ip_address()
        if self._on_gpus:
            self._own_gpus.hold()
        return PortMeeting(self._host)

    def processes(self, start_s: float, *, sends_within_s: float) -> Iterator[RankProcess]:
        """See `RankPlaces`."""
        import ray

        key, deadline = secrets.token_bytes(KEY_BYTES), time.monotonic() + start_s
        options: dict[str, Any] = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}
        options |= {"num_gpus": 1, "num_cpus": 0} if self._on_gpus else {"num_cpus": 1}
        with socket.create_server((self._host, 0), family=socket.AF_INET) as listening:
            port = listening.getsockname()[1]
            waited_for: dict[int, Any] = {}
            try:
                new_actor: Any = ray.remote(**options)(RankActor)
                for number in range(1, self._size):
                    actor = new_actor.remote()
                    waited_for[number] = (actor, actor.serve.remote(self._host, port, number, key))
                while waited_for:
                    connected = self._next(listening, deadline, {n: task for n, (_, task) in waited_for.items()})
                    number, process_id = _greeted(connected, key)
                    if number not in waited_for:
                        connected.close()
                        continue
                    limit_sending(connected, sends_within_s)
                    actor, task = waited_for.pop(number)
                    yield RayRank(number, process_id, actor, task, connected)
            finally:
                for actor, _ in waited_for.values():
                    ray.kill(actor)

    def close(self) -> None:
        """See `RankPlaces`."""
        self._own_gpus.release()
        self._cluster.close()

    def _next(self, listening: socket.socket, deadline: float, running: dict[int, Any]) -> socket.socket:
        """Whoever connects next.

        Raises:
            JobFailedError: nobody does until then, or a rank has ended before.
        """
        import ray

        while (left := deadline - time.monotonic()) > 0:
            listening.settimeout(min(left, 1.0))
            try:
                return listening.accept()[0]
            except TimeoutError:
                pass
            ended, _ = ray.wait(list(running.values()), num_returns=1, timeout=0)
            for number, task in running.items():
                if task in ended:
                    raise JobFailedError(
                        f"rank {number} of the learner did not start: {_why_ended(task)}",
                        "Ray's logs of its machine say more (/tmp/ray/session_latest/logs).",
                    )
        takes = "a GPU" if self._on_gpus else "a core"
        raise JobFailedError(
            f"rank {min(running)} of the learner found no place in the Ray cluster at {self._address}.",
            f"Each rank but the first takes {takes} there: lower cluster.learner_workers, or add machines.",
        )


class RayRank:
    """See `RankProcess`."""

    def __init__(self, number: int, process_id: int, actor: Any, task: Any, connected: socket.socket) -> None:
        self.rank = number
        self._process_id = process_id
        self._actor = actor
        self._task = task
        self._machine = connected.getpeername()[0]
        self.connection = Connection(connected.detach())

    @property
    def process_id(self) -> int:
        """See `RankProcess`; on its own machine."""
        return self._process_id

    def end(self, deadline: float) -> None:
        """See `RankProcess`."""
        import ray
        import ray.exceptions

        self.connection.close()
        with suppress(ray.exceptions.RayError):  # of a cluster that is there no more, nor are its actors
            ray.wait([self._task], timeout=max(0.0, deadline - time.monotonic()))
            ray.kill(self._actor)

    def how_it_ended(self, within_s: float) -> str:
        """See `RankProcess`."""
        import ray
        import ray.exceptions

        try:
            ended, _ = ray.wait([self._task], timeout=within_s)
        except ray.exceptions.RayError as error:  # of a cluster that is there no more
            return f"was lost with its cluster: {why_lost(error)}"
        return f"was lost: {_why_ended(self._task)}" if ended else "is there no more for this one"

    def __str__(self) -> str:
        return f"rank {self.rank} of the learner (process {self._process_id} on {self._machine})"


def _why_ended(task: Any) -> str:
    """In Ray's words, of one that has."""
    import ray
    import ray.exceptions

    try:
        ray.get(task, timeout=0)
    except ray.exceptions.RayError as error:
        return why_lost(error)
    return "it ended"


def _greeted(connected: socket.socket, key: bytes) -> tuple[int, int]:
    """The number and the process of whoever has connected; (0, 0) of one that is no rank of this learner."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    connected.settimeout(GREETING_S)
    try:
        connected.sendall(nonce)
        said = _received(connected, WHO.size + DIGEST_BYTES)
    except OSError:
        return 0, 0
    connected.settimeout(None)
    who, digest = said[: WHO.size], said[WHO.size :]
    if not hmac.compare_digest(digest, hmac.digest(key, who + nonce, DIGEST)):
        return 0, 0
    number, process_id = WHO.unpack(who)
    return number, process_id


def _received(connected: socket.socket, count: int) -> bytes:
    """So many bytes. Raises ConnectionError where the other side ends before."""
    found = b""
    while len(found) < count:
        more = connected.recv(count - len(found))
        if not more:
            raise ConnectionError("ended")
        found += more
    return found
