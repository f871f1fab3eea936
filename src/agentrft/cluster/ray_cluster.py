"""Ray: a cluster of this machine's or an existing one.

Nothing else but what has actors there imports Ray, and this only when a job starts them.
"""

import logging
import os
import re
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from typing import Any

from agentrft.errors import JobFailedError, UserError, missing_package

logger = logging.getLogger(__name__)

LOCAL, AUTO = "local", "auto"
# What Ray says of how a process ended, up to its advice.
DETAIL = re.compile(r"Worker exit detail: (.+?)(?:\. Some common causes|$)")
LONGEST_CAUSE = 300
# What goes over it is small, and it may grow into files.
OBJECT_STORE_BYTES = 100 * 2**20
CONNECT_S = 30.0
LOOPBACK = "127.0.0.1"


class ActorLostError(Exception):
    """An actor is there no more, or does not answer; the message says why."""


class RayCluster:
    """A job's connection to its cluster; all parts of a process that want one share it.

    Args:
        address: of a Ray cluster; "local" starts one on this machine, which ends with this process.
        cpus: for how many processes there is to be room in one that is started.
        wanted_by: the job's field that wants it.

    Raises:
        UserError: Ray is not installed.
    """

    # Of this process: how many have opened it, and whether it is to be ended after the last of them.
    _lock = threading.Lock()
    _users = 0
    _is_ours = False

    def __init__(self, address: str, cpus: int, *, wanted_by: str) -> None:
        if find_spec("ray") is None:
            raise missing_package(wanted_by, "ray", extra="cluster")
        self._address = address
        self._cpus = cpus
        self._wanted_by = wanted_by
        self._is_open = False

    def open(self) -> None:
        """Start the cluster, or connect to it. Takes seconds, and blocks: where a cluster is started, the thread that
        calls this must live as long as it.

        Raises:
            UserError: there is no cluster at the address.
            JobFailedError: it did not start.
        """
        import ray

        with RayCluster._lock:
            if self._is_open:
                return
            # One that whoever has made this process is connected to is theirs to end.
            if not ray.is_initialized():
                self._connect()
                RayCluster._is_ours = True
            self._is_open = True
            RayCluster._users += 1

    def close(self) -> None:
        """End the cluster, or leave it, once nobody of this process uses it any more."""
        import ray

        with RayCluster._lock:
            if not self._is_open:
                return
            self._is_open = False
            RayCluster._users -= 1
            if RayCluster._is_ours and not RayCluster._users:
                RayCluster._is_ours = False
                with _own_signals():
                    ray.shutdown()

    def _connect(self) -> None:
        import ray

        _quieten()
        is_local = self._address == LOCAL
        init = partial(
            ray.init, address=self._address, log_to_driver=False, configure_logging=False, **self._settings()
        )
        try:
            if not is_local and self._address != AUTO:
                _reach(self._address)
            with _own_signals(), _no_reports(is_local):
                init() if is_local else _in_time(init)
        except (ConnectionError, TimeoutError) as error:
            raise UserError(
                f"cluster.address: no Ray cluster answers at {self._address}: {error}",
                'Start one (`ray start --head`), correct the address, or leave it at "local".',
            ) from error
        except (RuntimeError, OSError, ValueError) as error:
            raise JobFailedError(
                f"{self._wanted_by}: Ray did not start: {error}",
                "Its logs are in /tmp/ray/session_latest/logs. Mend what they name, and resume the job.",
            ) from error

    def _settings(self) -> dict[str, Any]:
        if self._address != LOCAL:
            return {}
        return {
            "num_cpus": self._cpus,
            "include_dashboard": False,
            "object_store_memory": OBJECT_STORE_BYTES,
            # Nobody else is to reach it.
            "_node_ip_address": LOOPBACK,
            # Ray lets its workers have the processor when nobody else wants it. Here the job's own process wants it
            # whenever it samples, and then it waits for what its workers do.
            "_system_config": {"worker_niceness": 0},
        }


async def answer_of(reference: Awaitable[Any]) -> Any:
    """What a method of an actor gave. What its code raised is raised as it is: a mistake of ours.

    Raises:
        ActorLostError: it was lost before.
    """
    import ray.exceptions

    try:
        return await reference
    except ray.exceptions.RayActorError as error:
        raise ActorLostError(why_lost(error)) from error
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise ActorLostError(why_lost(error)) from error


def why_lost(error: Exception) -> str:
    """How an actor was lost: in Ray's own words, without ids and advice."""
    text = " ".join(str(error).split())
    told = DETAIL.search(text)
    text = text if told is None else f"its process ended: {told[1]}"
    return text if len(text) <= LONGEST_CAUSE else f"{text[:LONGEST_CAUSE]}…"


def _quieten() -> None:
    """Ray tells of its processes on standard output, which is the command's own, and has no setting against that."""
    import ray._private.worker as ray_worker

    def log(data: Any, ignore_prefix: bool) -> None:
        logger.info("Ray: %s", " ".join(data.get("lines", ())))

    ray_worker.print_to_stdstream = log
    # What it warns of when it starts is how it was configured, by us.
    logging.getLogger("ray").setLevel(logging.ERROR)


def _reach(address: str) -> None:
    """See that something listens there. Raises ConnectionError."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_S).close()
    except OSError as error:
        raise ConnectionError(str(error)) from error


def _in_time(connect: Callable[[], object]) -> None:
    """Ray asks again and again where nobody answers: for so long only. Raises TimeoutError."""
    raised: list[Exception] = []

    def watched() -> None:
        try:
            connect()
        except Exception as error:  # it is raised where it is waited for
            raised.append(error)

    thread = threading.Thread(target=watched, daemon=True, name="agentrft-ray")
    thread.start()
    thread.join(CONNECT_S)
    if thread.is_alive():
        raise TimeoutError(f"not within {CONNECT_S:g} s")
    if raised:
        raise raised[0]


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray sets a handler for SIGTERM, where a job has its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)


@contextmanager
def _no_reports(is_ours: bool) -> Iterator[None]:
    """A cluster that we start reports to nobody how it is used."""
    name = "RAY_USAGE_STATS_ENABLED"
    before = os.environ.get(name)
    if is_ours and before is None:
        os.environ[name] = "0"
    try:
        yield
    finally:
        if is_ours and before is None:
            del os.environ[name]
