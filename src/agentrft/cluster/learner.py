"""A learner whose updates all ranks make together."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from agentrft.cluster.ranks import Ranks
from agentrft.learner import Learner, Policy, TrainingRow, UpdateMetrics, UpdateOptions, UpdatePlan
from agentrft.learner.optimizer import Optimizing
from agentrft.learner.ranks.shares import rows_by_rank, shares_of, tree_flops
from agentrft.learner.supervised import Likelihood


class RankedLearner(Learner):
    """See `Learner`. Every update is that of one rank, but for the order of its sums.

    Args:
        policy: the first rank's.
        ranks: which are started if they were not. They have the policy's weights, and follow it.

    Raises:
        JobFailedError: they did not start. Later, a rank failed or ended: then no rank is left, and the job goes on
            from its newest checkpoint when it is resumed.
    """

    def __init__(
        self,
        policy: Policy,
        ranks: Ranks,
        *,
        algorithm: str,
        temperature: float,
        options: UpdateOptions = UpdateOptions(),
        **optimizing: Unpack[Optimizing],
    ) -> None:
        # Of shards they have their own already.
        collective = ranks.start(None if policy.is_sharded else policy.master_state)
        self._ranks = ranks
        settings: dict[str, Any] = {
            "algorithm": algorithm,
            "temperature": temperature,
            "options": options,
            **optimizing,
        }
        super().__init__(policy, collective=collective, **settings)
        ranks.tell("new_learner", settings)
        self._flops_of = tree_flops(policy.forward.costs, all_weights=policy.lora_rank is None)

    def update(self, plan: UpdatePlan) -> UpdateMetrics:
        """See `Learner`."""
        if not plan.minibatches:
            return super().update(plan)
        started = time.perf_counter()
        first, *others = shares_of(plan, self._ranks.setup.size, self._flops_of)
        own = self._ranks.together("make_update", others, lambda: self.make_update(first))
        found = self._ranks.answers()
        self.passes_halved += sum(other.passes_halved for other in found)
        return self._metrics(plan, own.with_others(found), started)

    def supervised_update(self, rows: Sequence[TrainingRow]) -> Likelihood:
        """See `Learner`."""
        first, *others = rows_by_rank(rows, self._ranks.setup.size, self._flops_of)
        own = super().supervised_update
        return self._ranks.together("supervised_update", others, lambda: own(first))

    @torch.no_grad()
    def logprobs(self, rows: Sequence[TrainingRow]) -> Tensor:
        """See `Learner`."""
        if not self.policy.is_sharded:
            return super().logprobs(rows)
        own, nothing = super().logprobs, [[]] * (self._ranks.setup.size - 1)
        return self._ranks.together("logprobs", nothing, lambda: own(rows))

    def keep_start(self, masters: Mapping[str, Tensor]) -> None:
        """See `PolicyOptimizer`."""
        super().keep_start(masters)
        self._ranks.tell("keep_start", dict(masters))

    def moments(self) -> dict[int, dict[str, Tensor]]:
        """See `PolicyOptimizer`."""
        if not self.policy.is_sharded:
            return super().moments()
        with self._ranks.meanwhile("help_with_moments"):
            return super().moments()

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """See `PolicyOptimizer`."""
        super().load_optimizer(state)
        self._ranks.tell("load_optimizer", {name: state[name] for name in ("optimizer", "updates")})
