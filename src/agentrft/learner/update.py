"""The update: graded groups in, a new policy version out.

`Learner.plan` gives every sampled token its advantage, and says which groups each optimizer step sees. `Learner.update`
then, minibatch by minibatch and a few groups at a time: one token tree of all; the log-probabilities of the sampled
tokens in one pass; the algorithm's loss; backward; clip, AdamW. At the end the new weights are the next policy version.
"""

import copy
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.advantages import planned_groups, without_covariant
from agentrft.learner.algorithms import ALGORITHMS, LossInputs, divergences
from agentrft.learner.flops import update_flops
from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.optimizer import Optimizing
from agentrft.learner.options import UpdateOptions
from agentrft.learner.packing import Part, packs_of, parts_of, rows_by_pass, rows_together
from agentrft.learner.plan import Minibatch, PlannedGroup, UpdatePlan
from agentrft.learner.policy import Policy
from agentrft.learner.supervised import SupervisedLearner
from agentrft.learner.token_tree import TokenTree
from agentrft.learner.token_values import TokenValues
from agentrft.learner.tree_forward import SampledLogprobs
from agentrft.learner.update_metrics import Totals, UpdateFindings, UpdateMetrics
from agentrft.models.peak import matmul_flops_per_s

# A mean |learner - engine| log-probability up to which the engine's are taken for those of the policy before the
# update: far below what a clip bounds, and what bfloat16 alone makes.
AGREES = 0.02


class Learner(SupervisedLearner):
    """Turns graded groups into new policy versions.

    Args:
        temperature: that rollouts are sampled at.
        optimizing: see `PolicyOptimizer`.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        algorithm: str,
        temperature: float,
        options: UpdateOptions = UpdateOptions(),
        **optimizing: Unpack[Optimizing],
    ) -> None:
        super().__init__(policy, **optimizing)
        self._algorithm = ALGORITHMS[algorithm]
        self._temperature = temperature
        self._options = options

    def plan(self, groups: Sequence[TrainingGroup], replay: Sequence[TrainingRow] = ()) -> UpdatePlan:
        """What the next update does with these groups, and with rollouts of earlier steps; groups in which nothing is
        better than anything else are left out."""
        options = self._options
        taught = planned_groups(groups, self._algorithm, options)
        return UpdatePlan.of(
            taught,
            minibatches=options.minibatches,
            epochs=options.epochs,
            order=random.Random(f"{options.seed}/update/{self._updates}"),
            replay=replay,
            zero_variance=len(groups) - len(taught),
        )

    def update(self, plan: UpdatePlan) -> UpdateMetrics:
        """One policy update. Without anything to learn from the policy stays as it is.

        A pass that runs out of memory costs the minibatch's time: it is computed again in smaller ones.

        Raises:
            JobFailedError: the loss or its gradient is not finite, or the memory has no room for a single rollout; the
                policy stays as it was before that optimizer step.
        """
        started = time.perf_counter()
        if not plan.minibatches:
            return UpdateMetrics(groups_zero_variance=plan.zero_variance, seconds=time.perf_counter() - started)
        return self._metrics(plan, self.make_update(plan), started)

    def make_update(self, plan: UpdatePlan) -> UpdateFindings:
        """The update itself, by one rank: `plan` has its groups, and as many minibatches as every other rank's.

        Raises:
            JobFailedError: as `update`; all ranks raise it where the loss or its gradient is not finite.
        """
        halved = self.passes_halved
        found = self._within_memory(lambda: self._at_start(plan))
        for number, minibatch in enumerate(plan.minibatches):
            # On a copy, since a pass in the middle may run out of memory.
            loss, found = self._within_memory(partial(self._gradients, minibatch, found))
            if number == 0:
                gap, tokens = self._collective.total(found.totals.gap, found.totals.gap_tokens)
                agrees = gap <= AGREES * tokens if tokens else False
                found = self._within_memory(partial(self._with_before, plan, found, agrees), forgets=False)
            found.totals.grad_norm += self._step(loss, f"update {self._updates + 1}, minibatch {number + 1}")
            found.totals.optimizer_steps += 1
        self._count()
        return UpdateFindings(found.totals, self.policy.forward.take_routing(), self.passes_halved - halved)

    def _metrics(self, plan: UpdatePlan, found: UpdateFindings, started: float) -> UpdateMetrics:
        metrics = found.totals.metrics(len(plan.groups), plan.zero_variance, time.perf_counter() - started)
        forward = self.policy.forward
        # Ranks on a CPU share it.
        devices = self._collective.size if forward.device.type == "cuda" else 1
        peak = devices * matmul_flops_per_s(forward.dtype, forward.device)
        return replace(
            metrics,
            peak_share=metrics.flops_per_s / peak,
            router_load_max=found.routing.load_max,
            router_unused_share=found.routing.unused_share,
            passes_halved=found.passes_halved,
        )

    @torch.no_grad()
    def logprobs(self, rows: Sequence[TrainingRow]) -> Float[Tensor, "tokens"]:
        """Of the rows' sampled tokens, under the policy as it is; in an order that is the same for the same rows."""

        def computed() -> Tensor:
            passes = self._passes(rows_by_pass(rows, self.max_tokens))
            found = [self._computed(some, self._temperature, parts=len(some))[1].logprobs for some in passes]
            return torch.cat(found) if found else torch.zeros(0)

        return self._within_memory(computed)

    def _packs(self, groups: Sequence[PlannedGroup]) -> list[list[Part]]:
        """Groups by pass, each whole where the memory holds it."""
        return packs_of([part for group in groups for part in parts_of(group, self.most_tokens)], self.max_tokens)

    @torch.no_grad()
    def _with_before(self, plan: UpdatePlan, known: "_Found", agrees: bool) -> "_Found":
        """What is known, with all log-probabilities under the policy before the update, while it still is that.

        Args:
            agrees: whether the first minibatch has shown that the engine computed them as the learner does, of the same
                policy. Then they are known; else they are computed.
        """
        found = copy.deepcopy(known)
        groups = [group for group in plan.groups if found.before.get(group.number) is None]
        if agrees:
            for group in groups:
                found.before.put_group(group, _sampling_logprobs(group).to(self.policy.forward.device))
            return found
        for pack in self._passes(self._packs(groups)):
            sampled = self._looked_at(pack, found.totals)
            found.totals.add_gap(sampled)
            found.before.put(pack, sampled.logprobs)
        return found

    def _looked_at(self, pack: Sequence[Part], totals: Totals) -> SampledLogprobs:
        """The log-probabilities of a pass under the policy as it is, without gradient."""
        tree, sampled = self._computed(rows_together(pack), self._temperature, parts=_rollouts_in(pack))
        # A backward pass takes twice as much as this.
        totals.add_tree(tree, self._flops(tree, sampled.predictions) / 3)
        return sampled

    @torch.no_grad()
    def _at_start(self, plan: UpdatePlan) -> "_Found":
        """Log-probabilities under the policy that training began with; of the first pass alone where the loss has no
        need of them."""
        found = _Found()
        if self._start is None:
            return found
        everywhere = self._options.kl_weight > 0
        packs = self._packs(plan.groups if everywhere else plan.minibatches[0].groups)
        with self.policy.holding(self._start):
            for pack in self._passes(packs if everywhere else packs[:1]):
                found.start.put(pack, self._looked_at(pack, found.totals).logprobs)
        return found

    def _gradients(self, minibatch: Minibatch, known: "_Found") -> tuple[float, "_Found"]:
        """Add those of a minibatch, as far as it is this rank's; returns its loss, and what is known after it."""
        found = copy.deepcopy(known)
        return self._add_gradients(minibatch, found) + self._add_replay(minibatch, found.totals), found

    def _add_gradients(self, minibatch: Minibatch, found: "_Found") -> float:
        """Of the algorithm's loss; returns the loss."""
        total, totals, size = 0.0, found.totals, minibatch.size
        for pack in self._passes(self._packs(minibatch.groups)):
            lessons = [row for part in pack for row in part.lessons]
            tree, everything = self._computed(
                [*rows_together(pack), *lessons], self._temperature, parts=_rollouts_in(pack)
            )
            sampled = everything.first(sum(len(part.tokens) for part in pack))
            if not found.before.knows(pack):
                totals.add_gap(sampled)
                found.before.put(pack, sampled.logprobs)
            compares = found.start.knows(pack)
            if not totals.entropies.knows(pack):
                totals.add_entropy(pack, sampled)
                if compares:
                    totals.moved.put(pack, sampled.logprobs.detach() - found.start.of(pack))
            old = found.before.of(pack)
            advantages = torch.cat([part.advantages for part in pack]).to(old.device)
            if self._options.clip_cov > 0:
                advantages = without_covariant(advantages, old, self._options.clip_cov, self._updates)
            output = self._algorithm.loss(
                LossInputs(
                    sampled.logprobs,
                    old,
                    sampled.sampling_logprobs,
                    advantages,
                    sampled.rollout,
                    tokens=size.tokens,
                    rollouts=size.rollouts,
                    most_tokens=self._options.most_tokens,
                    clip=self._options.clip,
                )
            )
            loss = output.loss
            if compares:
                divergence = divergences(found.start.of(pack), sampled.logprobs)
                totals.add_divergence(pack, divergence)
                if self._options.kl_weight > 0:
                    loss = loss + self._options.kl_weight * divergence.sum() / size.tokens
            learned = everything.logprobs[len(old) :]
            if len(learned):
                loss = loss - self._options.replay_weight * learned.sum() / size.learned_tokens
                totals.add_replay(len(lessons), -float(learned.detach().sum()), len(learned))
            loss.backward()
            total += float(loss.detach())
            totals.add_loss(float(loss.detach()), output, len(old))
            totals.change.put(pack, divergences(sampled.logprobs.detach(), old))
            totals.add_tree(tree, self._flops(tree, sampled.predictions))
        return total

    def _add_replay(self, minibatch: Minibatch, totals: Totals) -> float:
        """Of the likelihood of rollouts that are replayed; returns its loss."""
        tokens, total = minibatch.size.learned_tokens, 0.0
        for pack in self._passes(packs_of([_Alone([row]) for row in minibatch.replay], self.max_tokens)):
            tree, sampled = self._computed(rows_together(pack), self._temperature, parts=len(pack))
            loss = -self._options.replay_weight * sampled.logprobs.sum() / tokens
            loss.backward()
            total += float(loss.detach())
            totals.add_replay(len(pack), -float(sampled.logprobs.detach().sum()), len(sampled.rollout))
            totals.add_tree(tree, self._flops(tree, sampled.predictions))
        return total

    def _flops(self, tree: TokenTree, predictions: int) -> float:
        all_weights = self.policy.lora_rank is None
        return update_flops(self.policy.forward.costs, tree, predictions, all_weights=all_weights)


@dataclass
class _Found:
    """What an update has found out so far.

    Attributes:
        before, start: log-probabilities under the policy before the update, and under that which training began with.
    """

    totals: Totals = field(default_factory=Totals)
    before: TokenValues = field(default_factory=TokenValues)
    start: TokenValues = field(default_factory=TokenValues)


@dataclass(frozen=True)
class _Alone:
    """A rollout without its group."""

    rows: list[TrainingRow]
    rollouts: int = 1
    lessons: list[TrainingRow] = field(default_factory=list[TrainingRow])


def _sampling_logprobs(group: PlannedGroup) -> Tensor:
    return torch.tensor([value for row in group.rows for value in row.sampling_logprobs])


def _rollouts_in(pack: Sequence[Part]) -> int:
    """What a pass could be divided into."""
    return sum(len({row.rollout for row in part.rows}) for part in pack)
