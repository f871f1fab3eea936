"""Where the ranks of a learner run, other than the first: processes of this machine."""

import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

from agentrft.cluster.meeting import FileMeeting, Meeting
from agentrft.program import command


class RankProcess(Protocol):
    """One rank other than the first; as a text it is what an error calls it.

    Attributes:
        rank: its number.
        connection: what it is told over, and answers by; closed when it ends.
    """

    rank: int
    connection: Connection

    @property
    def process_id(self) -> int: ...

    def end(self, deadline: float) -> None:
        """Let it end, and kill it where it does not by then, in `time.monotonic` seconds."""
        ...

    def how_it_ended(self, within_s: float) -> str:
        """In words, of one whose connection is closed."""
        ...


class RankPlaces(Protocol):
    """Where ranks run."""

    def open(self, size: int) -> Meeting:
        """Begin, for so many ranks, the first among them.

        Returns:
            where they all meet.
        """
        ...

    def processes(self, start_s: float, *, sends_within_s: float) -> Iterator[RankProcess]:
        """Those other than the first, each as soon as it can be told something.

        Args:
            start_s: for how long one may take until then.
            sends_within_s: for how long what is sent to one may take to go out.

        Raises:
            JobFailedError: one of them was not there within that time.
        """
        ...

    def close(self) -> None:
        """After the processes have ended; it may be opened again."""
        ...


class OnThisMachine:
    """See `RankPlaces`."""

    def __init__(self) -> None:
        self._size = 0
        self._folder: Path | None = None

    def open(self, size: int) -> Meeting:
        self._size = size
        self._folder = Path(tempfile.mkdtemp(prefix="agentrft-ranks-"))
        return FileMeeting(self._folder / "meeting")

    def processes(self, start_s: float, *, sends_within_s: float) -> Iterator[RankProcess]:
        for rank in range(1, self._size):
            yield LocalRank(rank, sends_within_s)

    def close(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


class LocalRank:
    """See `RankProcess`."""

    def __init__(self, rank: int, sends_within_s: float) -> None:
        self.rank = rank
        ours, theirs = socket.socketpair()
        limit_sending(ours, sends_within_s)
        reading, self._lifeline = os.pipe()
        with theirs:
            given = [theirs.fileno(), reading]
            arguments = command("agentrft.cluster.rank", *map(str, given))
            self._process = subprocess.Popen(arguments, pass_fds=given, stdin=subprocess.DEVNULL)
        os.close(reading)
        self.connection = Connection(ours.detach())

    @property
    def process_id(self) -> int:
        return self._process.pid

    def end(self, deadline: float) -> None:
        self.connection.close()
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._lifeline)

    def how_it_ended(self, within_s: float) -> str:
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            return "is there no more for this one"
        return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def __str__(self) -> str:
        return f"rank {self.rank} of the learner (process {self.process_id})"


def limit_sending(connected: socket.socket, within_s: float) -> None:
    """A send that takes longer raises BlockingIOError. In whole seconds; 0 would be for ever."""
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", max(1, int(within_s)), 0))
