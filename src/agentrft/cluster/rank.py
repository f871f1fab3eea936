"""A rank other than the first: a process that does what the first one says, until that ends.

python -m agentrft.cluster.rank CONNECTION LIFELINE      both are descriptors of open files
"""

import os
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any, NoReturn

import torch
from torch import Tensor

from agentrft.cluster.messages import READY, Answer, Command, Failure, receive, send
from agentrft.cluster.setup import RankSetup
from agentrft.errors import UserError, describe
from agentrft.learner import Learner, Policy, TrainingRow, UpdatePlan
from agentrft.learner.ranks.collective import AllRanks
from agentrft.learner.update_metrics import UpdateFindings


class Rank:
    """One rank's policy and learner. Each public method is a command; what one returns is its answer, None is none."""

    def __init__(self, policy: Policy, collective: AllRanks) -> None:
        self._policy = policy
        self._collective = collective
        self._learner: Learner | None = None

    @property
    def learner(self) -> Learner:
        """That the first rank has made last."""
        if self._learner is None:
            raise RuntimeError("there is no learner yet")
        return self._learner

    def new_learner(self, settings: Mapping[str, Any]) -> None:
        """Begin with another optimizer.

        Args:
            settings: the arguments of `Learner`.
        """
        self._learner = Learner(self._policy, collective=self._collective, **settings)

    def load_masters(self, state: dict[str, Tensor]) -> None:
        """See `Followers`."""
        self._policy.load_master_state(state)

    def help_gather(self) -> None:
        """See `Policy`."""
        self._policy.help_gather()

    def help_with_moments(self) -> None:
        """Give the first rank this one's parts of the optimizer's moments."""
        self.learner.moments()

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """See `PolicyOptimizer`."""
        self.learner.load_optimizer(state)

    def keep_start(self, masters: Mapping[str, Tensor]) -> None:
        """See `PolicyOptimizer`."""
        self.learner.keep_start(masters)

    def make_update(self, plan: UpdatePlan) -> UpdateFindings:
        """See `Learner`; of this rank's groups."""
        return self.learner.make_update(plan).with_others([])

    def supervised_update(self, rows: Sequence[TrainingRow]) -> None:
        """See `Learner`; of this rank's rows. The first rank knows what came of it."""
        self.learner.supervised_update(rows)

    def logprobs(self, rows: Sequence[TrainingRow]) -> None:
        """Take part in passes over the first rank's rows."""
        self.learner.logprobs(rows)


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    threading.Thread(target=_end_with_first_rank, args=(int(sys.argv[2]),), daemon=True).start()
    # What a library prints is no answer of whoever runs the job.
    os.dup2(2, 1)
    serve(connection)


def serve(connection: Connection) -> NoReturn:
    """Do what the first rank says, and end this process when there is no more of it."""
    try:
        _serve(connection)
    except EOFError:
        # The first rank needs this one no more.
        os._exit(0)
    except BaseException as error:  # whatever ends it, the first rank is to be told
        failure = _failure(error)
        with suppress(OSError):
            send(connection, failure)
        if not failure.cut_off and not isinstance(error, UserError):
            traceback.print_exc()
        # Not by way of what the interpreter does at its end: the group's threads wait for other ranks.
        os._exit(1)


def _serve(connection: Connection) -> NoReturn:
    number, setup, meeting = receive(connection)
    assert isinstance(setup, RankSetup)
    torch.set_num_threads(setup.threads)

    def meet() -> AllRanks:
        send(connection, READY)
        return setup.meet(number, meeting)

    rank = Rank(*setup.make_policy(number, meet))
    while True:
        command = receive(connection)
        assert isinstance(command, Command)
        answer = getattr(rank, command.name)(*command.arguments)
        if answer is not None:
            send(connection, Answer(answer))
        del command, answer


def _failure(error: BaseException) -> Failure:
    if isinstance(error, UserError):
        return Failure(error.cause, error.remedy)
    # gloo's errors are of no type of their own.
    cut_off = isinstance(error, torch.distributed.DistError) or "gloo" in str(error)
    return Failure(describe(error), "Its traceback is in this process's standard error.", cut_off)


def _end_with_first_rank(lifeline: int) -> None:
    """At once, whatever this one is doing: nothing is ever written to it, so it ends when the first rank does."""
    os.read(lifeline, 1)
    os._exit(0)


if __name__ == "__main__":
    main()
