"""The update: graded groups in, a new policy version out.

`Learner.plan` gives every sampled token its advantage, and says which groups each optimizer step sees. `Learner.update`
then, minibatch by minibatch and a few groups at a time: one token tree of all; the log-probabilities of the sampled
tokens in one pass; the algorithm's loss; backward; clip, AdamW. At the end the new weights are the next policy version.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Unpack

import torch
from torch import Tensor

from agentrft.learner.advantages import planned_groups, without_covariant
from agentrft.learner.algorithms import ALGORITHMS, LossInputs, divergences
from agentrft.learner.flops import update_flops
from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.optimizer import Optimizing
from agentrft.learner.options import UpdateOptions
from agentrft.learner.packing import packs_of, rows_together
from agentrft.learner.plan import Minibatch, PlannedGroup, UpdatePlan
from agentrft.learner.policy import Policy
from agentrft.learner.supervised import SupervisedLearner
from agentrft.learner.token_tree import TokenTree, build_token_tree
from agentrft.learner.tree_forward import SampledLogprobs, tree_logprobs
from agentrft.learner.update_metrics import SeenTokens, Totals, UpdateMetrics
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

        Raises:
            JobFailedError: the loss or its gradient is not finite; the policy stays as it was before that optimizer
                step.
        """
        started = time.perf_counter()
        if not plan.minibatches:
            return UpdateMetrics(groups_zero_variance=plan.zero_variance, seconds=time.perf_counter() - started)
        totals = Totals()
        before: dict[int, Tensor] = {}
        start = self._at_start(plan, totals)
        for number, minibatch in enumerate(plan.minibatches):
            loss = self._add_gradients(minibatch, before, start, totals) + self._add_replay(minibatch, totals)
            if number == 0:
                before |= self._before([group for group in plan.groups if group.number not in before], totals)
            totals.grad_norm += self._step(loss, f"update {self._updates + 1}, minibatch {number + 1}")
            totals.optimizer_steps += 1
        self._count()
        metrics = totals.metrics(len(plan.groups), plan.zero_variance, time.perf_counter() - started)
        forward = self.policy.forward
        routing = forward.take_routing()
        return replace(
            metrics,
            peak_share=metrics.flops_per_s / matmul_flops_per_s(forward.dtype, forward.device),
            router_load_max=routing.load_max,
            router_unused_share=routing.unused_share,
        )

    @torch.no_grad()
    def _before(self, groups: Sequence[PlannedGroup], totals: Totals) -> dict[int, Tensor]:
        """Log-probabilities under the policy before the update, by group, while it still is that.

        Where the first minibatch has shown that the engine computed them as the learner does, of the same policy, they
        are known; else they are computed.
        """
        if totals.gap_mean <= AGREES:
            return {group.number: _sampling_logprobs(group).to(self.policy.forward.device) for group in groups}
        before: dict[int, Tensor] = {}
        for pack in packs_of(groups, self.max_tokens):
            sampled = self._looked_at(pack, totals)
            totals.add_gap(sampled)
            before |= _by_group(pack, sampled.logprobs)
        return before

    def _looked_at(self, pack: Sequence[PlannedGroup], totals: Totals) -> SampledLogprobs:
        """The groups' log-probabilities under the policy as it is, without gradient."""
        tree, sampled = self._computed(rows_together(pack))
        # A backward pass takes twice as much as this.
        totals.add_tree(tree, self._flops(tree, sampled.predictions) / 3)
        return sampled

    def _computed(self, rows: list[TrainingRow]) -> tuple[TokenTree, SampledLogprobs]:
        tree = build_token_tree(rows)
        return tree, tree_logprobs(self.policy.forward, tree, rows, self._temperature)

    @torch.no_grad()
    def _at_start(self, plan: UpdatePlan, totals: Totals) -> dict[int, Tensor]:
        """Log-probabilities under the policy that training began with, by group; of the first pass's groups alone where
        the loss has no need of them."""
        first = plan.minibatches[0].groups
        if self._start is None or not first:
            return {}
        everywhere = self._options.kl_weight > 0
        packs = packs_of(plan.groups if everywhere else first, self.max_tokens)
        found: dict[int, Tensor] = {}
        with self.policy.holding(self._start):
            for pack in packs if everywhere else packs[:1]:
                found |= _by_group(pack, self._looked_at(pack, totals).logprobs)
        return found

    def _add_gradients(
        self, minibatch: Minibatch, before: dict[int, Tensor], start: dict[int, Tensor], totals: Totals
    ) -> float:
        """Of the algorithm's loss; returns the loss."""
        total = 0.0
        for pack in packs_of(minibatch.groups, self.max_tokens):
            lessons = [row for group in pack for row in group.lessons]
            tree, everything = self._computed([*rows_together(pack), *lessons])
            sampled = everything.first(sum(len(group.advantages) for group in pack))
            if pack[0].number not in before:
                totals.add_gap(sampled)
                before |= _by_group(pack, sampled.logprobs.detach())
            if pack[0].number not in totals.change:
                totals.add_entropy(sampled)
                totals.seen |= _seen(pack, sampled, start)
            old = torch.cat([before[group.number] for group in pack])
            advantages = torch.cat([group.advantages for group in pack]).to(old.device)
            if self._options.clip_cov > 0:
                advantages = without_covariant(advantages, old, self._options.clip_cov, self._updates)
            output = self._algorithm.loss(
                LossInputs(
                    sampled.logprobs,
                    old,
                    sampled.sampling_logprobs,
                    advantages,
                    sampled.rollout,
                    tokens=minibatch.tokens,
                    rollouts=minibatch.rollouts,
                    most_tokens=self._options.most_tokens,
                    clip=self._options.clip,
                )
            )
            loss = output.loss
            if all(group.number in start for group in pack):
                divergence = divergences(torch.cat([start[group.number] for group in pack]), sampled.logprobs)
                totals.add_divergence([group.number for group in pack], divergence.detach())
                if self._options.kl_weight > 0:
                    loss = loss + self._options.kl_weight * divergence.sum() / minibatch.tokens
            learned = everything.logprobs[len(old) :]
            if len(learned):
                loss = loss - self._options.replay_weight * learned.sum() / minibatch.learned_tokens
                totals.add_replay(len(lessons), -float(learned.detach().sum()), len(learned))
            loss.backward()
            total += float(loss.detach())
            totals.add_loss(float(loss.detach()), output, len(old))
            change = divergences(sampled.logprobs.detach(), old)
            for number, of_group in _by_group(pack, change).items():
                totals.change[number] = (float(of_group.sum()), len(of_group))
            totals.add_tree(tree, self._flops(tree, sampled.predictions))
        return total

    def _add_replay(self, minibatch: Minibatch, totals: Totals) -> float:
        """Of the likelihood of rollouts that are replayed; returns its loss."""
        tokens, total = minibatch.learned_tokens, 0.0
        for pack in packs_of([_Alone([row]) for row in minibatch.replay], self.max_tokens):
            tree, sampled = self._computed(rows_together(pack))
            loss = -self._options.replay_weight * sampled.logprobs.sum() / tokens
            loss.backward()
            total += float(loss.detach())
            totals.add_replay(len(pack), -float(sampled.logprobs.detach().sum()), len(sampled.rollout))
            totals.add_tree(tree, self._flops(tree, sampled.predictions))
        return total

    def _flops(self, tree: TokenTree, predictions: int) -> float:
        all_weights = self.policy.lora_rank is None
        return update_flops(self.policy.forward.costs, tree, predictions, all_weights=all_weights)


@dataclass(frozen=True)
class _Alone:
    """A rollout without its group."""

    rows: list[TrainingRow]
    rollouts: int = 1
    lessons: list[TrainingRow] = field(default_factory=list[TrainingRow])


def _sampling_logprobs(group: PlannedGroup) -> Tensor:
    return torch.tensor([value for row in group.rows for value in row.sampling_logprobs])


def _seen(pack: Sequence[PlannedGroup], sampled: SampledLogprobs, start: dict[int, Tensor]) -> dict[int, SeenTokens]:
    """By group, how its tokens were found."""
    entropies, logprobs = _by_group(pack, sampled.entropy), _by_group(pack, sampled.logprobs.detach())
    moved = {number: (logprobs[number] - start[number]).cpu() for number in logprobs if number in start}
    return {number: SeenTokens(entropy.cpu(), moved.get(number)) for number, entropy in entropies.items()}


def _by_group(pack: Sequence[PlannedGroup], logprobs: Tensor) -> dict[int, Tensor]:
    parts = logprobs.split([len(group.advantages) for group in pack])
    return {group.number: part for group, part in zip(pack, parts, strict=True)}
