"""The ranks of a learner, as the first of them sees the others: started, told what to do, watched, ended."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing.connection import wait
from typing import Any, TypeAlias, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from agentrft.cluster.messages import Command, Failure, receive, send
from agentrft.cluster.rank_processes import OnThisMachine, RankPlaces, RankProcess
from agentrft.cluster.setup import RankSetup
from agentrft.errors import JobFailedError
from agentrft.learner.ranks.collective import AllRanks

T = TypeVar("T")
# A rank that has ended, and what it said of it; None for nothing.
_Ended: TypeAlias = tuple[RankProcess, Failure | None]

# How long it may take to start, which is to load the model: the longest of this and of what ranks wait for each other.
START_S = 600.0
# How long the end of a rank, and what it says last, are waited for.
END_S = 10.0
RESUME = "Resume the job: it goes on from its newest checkpoint."


class Ranks:
    """All ranks; this process is the first.

    What one of them raises, or its end, ends them all, and is a `JobFailedError` here. Every wait for another rank ends
    after `setup.timeout_s`, but that for its start after `START_S`, if that is longer.

    Args:
        places: where the others run.
    """

    def __init__(self, setup: RankSetup, places: RankPlaces | None = None) -> None:
        self.setup = setup
        self._places = places or OnThisMachine()
        self._others: list[RankProcess] = []
        self._collective: AllRanks | None = None
        self._ended: JobFailedError | None = None

    @property
    def collective(self) -> AllRanks:
        """Of this process, after `start`."""
        if self._collective is None:
            raise RuntimeError("the ranks were not started")
        return self._collective

    @property
    def processes(self) -> list[int]:
        """Ids of the others' processes, by rank."""
        return [other.process_id for other in self._others]

    def start(self, masters: Callable[[], Mapping[str, Tensor]] | None = None) -> AllRanks:
        """Start the others and meet them; nothing where they are there.

        Args:
            masters: what they begin with; None for what they make of the setup.

        Raises:
            JobFailedError: one of them did not start.
        """
        if self._ended is not None:
            raise self._ended
        if self._collective is not None:
            return self._collective
        if dist.is_initialized():
            raise JobFailedError(
                "this process is in a group of torch.distributed already.", "Run the job in a process of its own."
            )
        with self._ending_all():
            start_s = max(START_S, self.setup.timeout_s)
            meeting = self._places.open(self.setup.size)
            for other in self._places.processes(start_s, sends_within_s=self.setup.timeout_s):
                self._others.append(other)
                self._send(other, (other.rank, self.setup, meeting))
            for other in self._others:
                self._received(other, start_s)
            self._collective = self.setup.meet(0, meeting)
            if masters is not None:
                self.tell("load_masters", dict(masters()))
        return self._collective

    def tell(self, name: str, *arguments: Any) -> None:
        """Have all others do something that has no answer."""
        with self._ending_all():
            for other in self._others:
                self._send(other, Command(name, arguments))

    def together(self, name: str, arguments: Sequence[Any], own: Callable[[], T]) -> T:
        """Have the others do something, each with an argument of its own, and this process its part of it."""
        with self._ending_all(), self._sharing_cores():
            for other, argument in zip(self._others, arguments, strict=True):
                self._send(other, Command(name, (argument,)))
            return own()

    def answers(self) -> list[Any]:
        """Those of the others to what they did `together`."""
        with self._ending_all():
            return [self._received(other, self.setup.timeout_s).value for other in self._others]

    def load_masters(self, state: Mapping[str, Tensor]) -> None:
        """See `Followers`; before they start nothing is needed."""
        if self._collective is not None:
            self.tell("load_masters", dict(state))

    def helping_to_gather(self) -> AbstractContextManager[None]:
        """See `Followers`."""
        return self.meanwhile("help_gather")

    @contextmanager
    def meanwhile(self, name: str) -> Iterator[None]:
        """While this process does its part of it, the others do something that has no answer."""
        with self._ending_all():
            self.tell(name)
            yield

    def close(self) -> None:
        """End the others."""
        deadline = time.monotonic() + END_S
        for other in self._others:
            other.end(deadline)
        self._others.clear()
        if self._collective is not None:
            dist.destroy_process_group()
            self._collective = None
        self._places.close()

    def _send(self, other: RankProcess, message: Any) -> None:
        try:
            send(other.connection, message)
        except BlockingIOError:
            raise _late(other, self.setup.timeout_s) from None
        except OSError as error:
            raise _error_of(self._failures([]) or [(other, None)]) from error

    def _received(self, other: RankProcess, timeout_s: float) -> Any:
        """What it sends next, unless any of them fails."""
        deadline = time.monotonic() + timeout_s
        listened_to = list(self._others)
        while True:
            # Not to `other` alone: it may wait for one that has failed.
            speaking = _speaking(listened_to, deadline)
            if other in speaking:
                message = _last_words(other)
                if message is None or isinstance(message, Failure):
                    raise _error_of(self._failures([(other, message)]))
                return message
            if not speaking:
                raise _late(other, timeout_s)
            # What comes early waits for its turn.
            listened_to = [one for one in listened_to if one not in speaking]

    def _failures(self, known: Sequence[_Ended]) -> list[_Ended]:
        """Of the ranks that have ended, what they said of it, None for nothing; waits for one that was not waiting for
        another."""
        failures, told = list(known), {id(other) for other, _ in known}
        deadline = time.monotonic() + END_S
        while not any(_is_first_cause(failure) for _, failure in failures):
            speaking = _speaking([other for other in self._others if id(other) not in told], deadline)
            if not speaking:
                break
            for other in speaking:
                message = _last_words(other)
                if message is None or isinstance(message, Failure):
                    told.add(id(other))
                    failures.append((other, message))
        return failures

    @contextmanager
    def _ending_all(self) -> Iterator[None]:
        if self._ended is not None:
            raise self._ended
        try:
            yield
        except RuntimeError as error:
            # What gloo and NCCL raise where another rank does not do its part.
            failures = self._failures([])
            if failures:
                self._ended = _error_of(failures)
            elif "timed out" in str(error).lower():
                waited = f"{self.setup.timeout_s:g} s (cluster.rank_timeout_s)"
                self._ended = JobFailedError(f"a rank of the learner did not do its part within {waited}.", RESUME)
            self.close()
            if self._ended is None:
                raise
            raise self._ended from error
        except JobFailedError as error:
            self._ended = error
            self.close()
            raise
        except BaseException:
            # A user's mistake, or one of ours: no rank is left behind.
            self.close()
            raise

    @contextmanager
    def _sharing_cores(self) -> Iterator[None]:
        threads = torch.get_num_threads()
        if not self.setup.on_gpus:
            torch.set_num_threads(self.setup.threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _late(other: RankProcess, timeout_s: float) -> JobFailedError:
    return JobFailedError(f"{other} did not do its part within {timeout_s:g} s (cluster.rank_timeout_s).", RESUME)


def _error_of(failures: Sequence[_Ended]) -> JobFailedError:
    """Of the rank that failed first, as far as they say."""
    other, failure = min(failures, key=lambda one: not _is_first_cause(one[1]))
    if failure is None:
        return JobFailedError(f"{other} {other.how_it_ended(END_S)} before its part was done.", RESUME)
    return JobFailedError(f"{other}: {failure.cause}", failure.remedy)


def _speaking(processes: Sequence[RankProcess], deadline: float) -> list[RankProcess]:
    """Those that have something to say, or have ended; waits for one until then, in `time.monotonic` seconds."""
    if not processes:
        return []
    ready = wait([one.connection for one in processes], max(0.0, deadline - time.monotonic()))
    return [one for one in processes if one.connection in ready]


def _last_words(other: RankProcess) -> Any:
    """The next message; None where the rank has ended without one."""
    with suppress(EOFError, OSError):
        return receive(other.connection)
    return None


def _is_first_cause(failure: Failure | None) -> bool:
    return failure is None or not failure.cut_off
