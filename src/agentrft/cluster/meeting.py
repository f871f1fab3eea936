"""Where the ranks of a learner meet, and by which network."""

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

import torch.distributed as dist

# Name the network that gloo and NCCL use.
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
LOOPBACK = "lo"
# Linux: the IPv4 address of an interface, from <linux/sockios.h>; where it stands in the answer.
SIOCGIFADDR, LONGEST_NAME, ADDRESS = 0x8915, 15, slice(20, 24)


class Meeting(Protocol):
    """Sent to every rank."""

    def store(self, size: int, timeout_s: float) -> Any:
        """What `init_process_group` meets in."""
        ...

    def interface(self) -> str | None:
        """The network of this machine that leads to the others; None for what gloo and NCCL take by themselves."""
        ...


class FileMeeting:
    """Ranks of one machine, which need no other network than its loopback.

    Args:
        path: that nobody has met in before.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def store(self, size: int, timeout_s: float) -> Any:
        """See `Meeting`."""
        return dist.FileStore(str(self._path), size)  # pyright: ignore[reportPrivateImportUsage]

    def interface(self) -> str | None:
        """See `Meeting`."""
        return LOOPBACK if LOOPBACK in {name for _, name in socket.if_nameindex()} else None


class PortMeeting:
    """Ranks of several machines, at a port of the first one's.

    Args:
        host: the first rank's address, which the others reach.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._own: Any = dist.TCPStore(host, 0, is_master=True, wait_for_workers=False)  # pyright: ignore[reportPrivateImportUsage]
        self._port: int = self._own.port

    def __getstate__(self) -> dict[str, Any]:
        return {"_host": self._host, "_port": self._port, "_own": None}

    def store(self, size: int, timeout_s: float) -> Any:
        """See `Meeting`."""
        if self._own is not None:
            return self._own
        timeout = timedelta(seconds=timeout_s)
        return dist.TCPStore(self._host, self._port, is_master=False, timeout=timeout)  # pyright: ignore[reportPrivateImportUsage]

    def interface(self) -> str | None:
        """See `Meeting`."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as way:
            # Nothing is sent: it says which of this machine's addresses would be the sender's.
            way.connect((self._host, self._port))
            return interface_of(way.getsockname()[0])


@contextmanager
def network(meeting: Meeting) -> Iterator[None]:
    """While this lasts, ranks listen on the meeting's network alone, unless the environment says where."""
    interface = meeting.interface()
    ours = [name for name in INTERFACES if interface is not None and name not in os.environ]
    os.environ.update(dict.fromkeys(ours, interface or ""))
    try:
        yield
    finally:
        for name in ours:
            del os.environ[name]


def interface_of(address: str) -> str | None:
    """The name of this machine's network with that IPv4 address; None for none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            asked = struct.pack("256s", name.encode()[:LONGEST_NAME])
            try:
                answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, asked)
            except OSError:  # one without an address
                continue
            if socket.inet_ntoa(answer[ADDRESS]) == address:
                return name
    return None
