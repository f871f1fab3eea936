"""Feeds one sink, in a thread of its own: the job goes on whatever the service does.

What is to be sent is in the job's record already, so nothing is kept in memory: the thread reads on from the last step
that the service has, and a service that was away for hours gets everything once it is back.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from agentrft.errors import describe
from agentrft.sinks.base import Record, Sink

logger = logging.getLogger(__name__)

FIRST_PAUSE_S = 2.0
LONGEST_PAUSE_S = 60.0
# Once the job has ended.
LAST_PAUSE_S = 0.5


class Feed:
    """One sink's thread. `start`, `wake` and `end` are called by the job, and return at once.

    Args:
        label: what to call the sink in messages.
        new_sink: makes the sink; called in the thread, as all of the sink is.
        read: the job's committed steps from a number on, as `JobStore.metrics` returns them.
    """

    def __init__(
        self, label: str, new_sink: Callable[[], Sink], read: Callable[[int], Sequence[dict[str, Any]]]
    ) -> None:
        self.label = label
        self._new_sink = new_sink
        self._read = read
        self._sink: Sink | None = None
        self._news = threading.Event()
        self._ending = threading.Event()
        self._status = ""
        self._deadline = 0.0
        self._sent = 0
        self._is_whole = False
        self._problem: str | None = None
        # A daemon: a process ends though a service never answers.
        self._thread = threading.Thread(target=self._run, name=f"agentrft-{label}", daemon=True)

    def start(self) -> None:
        self._news.set()
        self._thread.start()

    def wake(self) -> None:
        """A step was committed."""
        self._news.set()

    def end(self, status: str, *, deadline_s: float) -> None:
        """Send what is left and close the sink; `wait` for it."""
        self._status, self._deadline = status, time.monotonic() + deadline_s
        self._ending.set()
        self._news.set()

    def wait(self) -> None:
        """Until the sink is closed, or the deadline that `end` was given has passed."""
        self._thread.join(max(0.0, self._deadline - time.monotonic()))

    @property
    def problem(self) -> str | None:
        """What the service, or its library, said the last time that it failed; None where all is well."""
        return self._problem

    @property
    def sent(self) -> int:
        """How many of the job's records the service was given."""
        return self._sent

    @property
    def is_whole(self) -> bool:
        """Whether everything was sent, and the sink is closed."""
        return self._is_whole

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._is_whole:
            self._news.wait()
            self._news.clear()
            try:
                self._send()
                self._problem, pause_s = None, FIRST_PAUSE_S
                if self._is_over:
                    return
            except Exception as error:  # the boundary to other people's libraries: the job goes on
                # What it says may quote a key; `MetricsOut` tells it without.
                logger.info("%s: %s", self.label, type(error).__name__)
                self._sink, self._problem = None, describe(error)
                if self._is_over:
                    return
                self._ending.wait(pause_s)
                if self._ending.is_set():
                    time.sleep(LAST_PAUSE_S)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                self._news.set()

    @property
    def _is_over(self) -> bool:
        return self._ending.is_set() and time.monotonic() > self._deadline

    def _send(self) -> None:
        """Everything that was committed and not sent; at the end of the job also its status."""
        is_ending = self._ending.is_set()
        if self._sink is None:
            sink = self._new_sink()
            self._sent = sink.open()
            self._sink = sink
        for row in self._read(self._sent):
            self._sink.write(Record.of(self._sent, row))
            self._sent += 1
            if self._is_over:
                return
        # What was committed before `end` has been read by now.
        if is_ending:
            self._sink.close(self._status)
            self._is_whole = True
