"""How many groups may begin now: the staleness gate of rollouts that run ahead.

Fu et al. 2025, "AReaL", arXiv:2505.24298, bounds what is begun, rather than what is used:

    capacity = min(concurrency - running, (eta + version + 1) x batch - (accepted + running))

It counts groups, because these are what a step takes. In the order in which they began, the groups of step `s` are then
begun when at least `s - 1 - eta` updates were made, and are at most `eta` updates old when step `s` trains on them. A
group that others overtake may become older; whoever hands groups out has to look.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class StalenessGate:
    """The rule of one job.

    Attributes:
        eta: updates that the policy of a group may lack when it is trained on; with 0 a step's groups begin when the
            update before it is made, and no others.
        concurrency: groups that may run at once.
        groups_through: how many groups the steps 1 to `step` take together; `step x batch` where all take as many.
        last_step: nothing is begun for steps after it.
    """

    eta: int
    concurrency: int
    groups_through: Callable[[int], int]
    last_step: int

    def capacity(self, *, version: int, running: int, accepted: int) -> int:
        """How many groups may begin.

        Args:
            version: updates that were made.
            running: groups that have begun and not ended.
            accepted: groups that ended and that a step trained on or may train on: without those that were dropped.
        """
        wanted = self.groups_through(min(self.last_step, version + self.eta + 1))
        return max(0, min(self.concurrency - running, wanted - (accepted + running)))
