"""The update: graded groups in, a new policy version out.

`Learner.plan` gives every sampled token its advantage, and says which groups each optimizer step sees. `Learner.update`
then, minibatch by minibatch and a few groups at a time: one token tree of all; the log-probabilities of the sampled
tokens in one pass; the algorithm's loss; backward; clip, AdamW. At the end the new weights are the next policy version.
"""

import math
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from agentrft.errors import JobFailedError
from agentrft.learner.advantages import planned_groups, without_covariant
from agentrft.learner.algorithms import ALGORITHMS, LossInputs, divergences
from agentrft.learner.flops import update_flops
from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.options import UpdateOptions
from agentrft.learner.packing import packs_of, rows_together
from agentrft.learner.plan import Minibatch, PlannedGroup, UpdatePlan
from agentrft.learner.policy import Policy, gradient_of
from agentrft.learner.token_tree import TokenTree, build_token_tree
from agentrft.learner.tree_forward import SampledLogprobs, tree_logprobs
from agentrft.learner.update_metrics import Totals, UpdateMetrics
from agentrft.models.peak import matmul_flops_per_s

FINAL_LEARNING_RATE = 0.1
# On a CPU larger products gain nothing, and the activations of more tokens leave its caches.
CPU_TOKENS_PER_PASS = 2048
TOKENS_PER_PASS = 32768
# A mean |learner - engine| log-probability up to which the engine's are taken for those of the policy before the
# update: far below what a clip bounds, and what bfloat16 alone makes.
AGREES = 0.02


class Learner:
    """Owns the policy's optimizer.

    Args:
        learning_rate: reached linearly by `warm_up_steps` updates; over `decay_steps` updates it falls linearly to
            a tenth, because large steps on an almost deterministic policy undo what it learned. None keeps it.
        temperature: that rollouts are sampled at.
        max_tokens_per_pass: unique tokens of several groups computed together; a larger group is a pass by itself.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        algorithm: str,
        learning_rate: float,
        temperature: float,
        max_grad_norm: float,
        warm_up_steps: int = 0,
        decay_steps: int | None = None,
        max_tokens_per_pass: int | None = None,
        options: UpdateOptions = UpdateOptions(),
    ) -> None:
        self.policy = policy
        self._algorithm = ALGORITHMS[algorithm]
        self._temperature = temperature
        self._max_grad_norm = max_grad_norm
        self._learning_rate = learning_rate
        self._options = options
        self._warm_up_steps = warm_up_steps
        self._decay_steps = decay_steps
        self._updates = 0
        self._start: list[Tensor] | None = None
        on_cpu = policy.forward.device.type == "cpu"
        self._max_tokens = max_tokens_per_pass or (CPU_TOKENS_PER_PASS if on_cpu else TOKENS_PER_PASS)
        self._optimizer = torch.optim.AdamW(policy.masters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

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

    def keep_start(self, masters: Mapping[str, Tensor]) -> None:
        """Remember the policy that training began with, for how far it has gone from there."""
        self._start = self.policy.in_order(masters)

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
        for pack in packs_of(groups, self._max_tokens):
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
        packs = packs_of(plan.groups if everywhere else first, self._max_tokens)
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
        for pack in packs_of(minibatch.groups, self._max_tokens):
            lessons = [row for group in pack for row in group.lessons]
            tree, everything = self._computed([*rows_together(pack), *lessons])
            sampled = everything.first(sum(len(group.advantages) for group in pack))
            if pack[0].number not in before:
                totals.add_gap(sampled)
                before |= _by_group(pack, sampled.logprobs.detach())
            if pack[0].number not in totals.change:
                totals.add_entropy(sampled)
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
        for pack in packs_of([_Alone([row]) for row in minibatch.replay], self._max_tokens):
            tree, sampled = self._computed(rows_together(pack))
            loss = -self._options.replay_weight * sampled.logprobs.sum() / tokens
            loss.backward()
            total += float(loss.detach())
            totals.add_replay(len(pack), -float(sampled.logprobs.detach().sum()), len(sampled.rollout))
            totals.add_tree(tree, self._flops(tree, sampled.predictions))
        return total

    def supervised_update(self, rows: Sequence[TrainingRow]) -> float:
        """One update towards demonstrations; returns the mean negative log-likelihood per token before it.

        Raises:
            JobFailedError: as for `update`.
        """
        tree = build_token_tree(rows)
        sampled = tree_logprobs(self.policy.forward, tree, list(rows), temperature=1.0)
        loss = -sampled.logprobs.mean()
        loss.backward()
        value = float(loss.detach())
        self._step(value, f"update {self._updates + 1}")
        self._count()
        return value

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on, as numbers and copies of tensors on the CPU."""
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = {
            index: {name: value.detach().to("cpu", copy=True) for name, value in moments.items()}
            for index, moments in optimizer["state"].items()
        }
        return {
            "masters": self.policy.master_state(),
            "optimizer": optimizer,
            "updates": self._updates,
            "policy_version": self.policy.version,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Inverse of `state`.

        Raises:
            ValueError: the state belongs to other weights.
        """
        self.policy.load_master_state(state["masters"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._updates = state["updates"]
        self.policy.version = state["policy_version"]

    def _flops(self, tree: TokenTree, predictions: int) -> float:
        all_weights = self.policy.lora_rank is None
        return update_flops(self.policy.forward.costs, tree, predictions, all_weights=all_weights)

    def _scheduled_learning_rate(self) -> float:
        warm_up = min(1.0, (self._updates + 1) / (self._warm_up_steps + 1))
        done = 0.0 if self._decay_steps is None else min(1.0, self._updates / max(1, self._decay_steps - 1))
        return self._learning_rate * warm_up * (1 - (1 - FINAL_LEARNING_RATE) * done)

    def _step(self, loss: float, where: str) -> float:
        """Clip, step and publish; returns the gradient's norm before clipping."""
        masters = self.policy.masters
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(m.grad) for m in masters]))
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            self._forget_gradients()
            raise JobFailedError(
                f"{where}: the loss or its gradient is not finite; the policy stays as it was.",
                "Start a new job with a lower hyperparameters.learning_rate_multiplier or max_grad_norm.",
            )
        scale = (self._max_grad_norm / (norm + 1e-6)).clamp(max=1.0)
        for master in masters:
            gradient_of(master).mul_(scale)
        for parameter_group in self._optimizer.param_groups:
            parameter_group["lr"] = self._scheduled_learning_rate()
        self._optimizer.step()
        self._forget_gradients()
        self.policy.publish_masters()
        return float(norm)

    def _count(self) -> None:
        """An update more, and a policy version more."""
        self._updates += 1
        self.policy.version += 1

    def _forget_gradients(self) -> None:
        for master in self.policy.masters:
            gradient_of(master).zero_()


@dataclass(frozen=True)
class _Alone:
    """A rollout without its group."""

    rows: list[TrainingRow]
    rollouts: int = 1
    lessons: list[TrainingRow] = field(default_factory=list[TrainingRow])


def _sampling_logprobs(group: PlannedGroup) -> Tensor:
    return torch.tensor([value for row in group.rows for value in row.sampling_logprobs])


def _by_group(pack: Sequence[PlannedGroup], logprobs: Tensor) -> dict[int, Tensor]:
    parts = logprobs.split([len(group.advantages) for group in pack])
    return {group.number: part for group, part in zip(pack, parts, strict=True)}
