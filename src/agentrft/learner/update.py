"""The update: graded groups in, a new policy version out.

For the groups with variance in their rewards, a few at a time: advantages within each; one token tree of all; the
log-probabilities of the sampled tokens in one pass; the algorithm's loss; backward. Then clip, AdamW, and publish the
new weights as the next policy version.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from agentrft.errors import JobFailedError
from agentrft.learner.algorithms import ALGORITHMS, LossInputs
from agentrft.learner.flops import update_flops
from agentrft.learner.group import TrainingGroup, TrainingRow
from agentrft.learner.packing import packs_of, rows_together
from agentrft.learner.policy import Policy, gradient_of
from agentrft.learner.token_tree import TokenTree, build_token_tree
from agentrft.learner.tree_forward import SampledLogprobs, tree_logprobs
from agentrft.models.peak import matmul_flops_per_s

FINAL_LEARNING_RATE = 0.1
# On a CPU larger products gain nothing, and the activations of more tokens leave its caches.
CPU_TOKENS_PER_PASS = 2048
TOKENS_PER_PASS = 32768


@dataclass(frozen=True)
class UpdateMetrics:
    """One update.

    Attributes:
        groups_trained, groups_zero_variance: the latter were skipped.
        loss: of the whole step.
        grad_norm: before clipping.
        sampled_tokens: trained on.
        unique_tokens, total_tokens: computed, and what a padded computation would have had without padding.
        passes: that the groups were packed into.
        unique_tokens_per_s, flops_per_s: of the whole update; FLOPs are those of `update_flops`.
        peak_share: `flops_per_s` as a share of what a large matrix product reaches here in the same data type.
        logprob_gap_mean, logprob_gap_max: |learner - engine| log-probability before the update.
        entropy: mean over sampled tokens, in nats.
        truncated_ratio_share: of the sampled tokens, by the importance ratio.
        router_load_max, router_unused_share: see `RouterStatistics`; 0 without experts.
        seconds: wall time.
    """

    groups_trained: int = 0
    groups_zero_variance: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    sampled_tokens: int = 0
    unique_tokens: int = 0
    total_tokens: int = 0
    passes: int = 0
    logprob_gap_mean: float = 0.0
    logprob_gap_max: float = 0.0
    entropy: float = 0.0
    truncated_ratio_share: float = 0.0
    router_load_max: float = 0.0
    router_unused_share: float = 0.0
    unique_tokens_per_s: float = 0.0
    flops_per_s: float = 0.0
    peak_share: float = 0.0
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


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
    ) -> None:
        self.policy = policy
        self._algorithm = ALGORITHMS[algorithm]
        self._temperature = temperature
        self._max_grad_norm = max_grad_norm
        self._learning_rate = learning_rate
        self._warm_up_steps = warm_up_steps
        self._decay_steps = decay_steps
        self._updates = 0
        on_cpu = policy.forward.device.type == "cpu"
        self._max_tokens = max_tokens_per_pass or (CPU_TOKENS_PER_PASS if on_cpu else TOKENS_PER_PASS)
        self._optimizer = torch.optim.AdamW(policy.masters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

    def update(self, groups: Sequence[TrainingGroup]) -> UpdateMetrics:
        """One policy update. Without any group that has variance the policy stays as it is.

        Raises:
            JobFailedError: the loss or its gradient is not finite; the policy stays as it is.
        """
        started = time.perf_counter()
        varied = [group for group in groups if group.has_variance]
        skipped = len(groups) - len(varied)
        if not varied:
            return UpdateMetrics(groups_zero_variance=skipped, seconds=time.perf_counter() - started)
        step_tokens = sum(len(row.sampled_positions) for group in varied for row in group.rows)
        step_rollouts = sum(len(group.rewards) for group in varied)
        totals = _Totals()
        for pack in packs_of(varied, self._max_tokens):
            rows = rows_together(pack)
            tree = build_token_tree(rows)
            sampled = tree_logprobs(self.policy.forward, tree, rows, self._temperature)
            advantages = torch.cat([self._advantages(group) for group in pack])
            output = self._algorithm.loss(
                LossInputs(
                    sampled.logprobs,
                    sampled.sampling_logprobs,
                    advantages.to(sampled.rollout.device)[sampled.rollout],
                    sampled.rollout,
                    step_tokens,
                    step_rollouts,
                )
            )
            output.loss.backward()
            totals.add(sampled, float(output.loss.detach()), output.truncated_tokens)
            totals.add_tree(tree, self._flops(tree, sampled.predictions))
        grad_norm = self._apply(totals.loss)
        metrics = totals.metrics(len(varied), skipped, grad_norm, time.perf_counter() - started)
        forward = self.policy.forward
        routing = forward.take_routing()
        return replace(
            metrics,
            peak_share=metrics.flops_per_s / matmul_flops_per_s(forward.dtype, forward.device),
            router_load_max=routing.load_max,
            router_unused_share=routing.unused_share,
        )

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
        self._apply(value)
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

    def _advantages(self, group: TrainingGroup) -> Tensor:
        # Narrowed last: float32 keeps seven digits, and rewards far from zero differ in later ones.
        return self._algorithm.advantages(torch.tensor(group.rewards, dtype=torch.float64)).to(torch.float32)

    def _flops(self, tree: TokenTree, predictions: int) -> float:
        all_weights = self.policy.lora_rank is None
        return update_flops(self.policy.forward.costs, tree, predictions, all_weights=all_weights)

    def _scheduled_learning_rate(self) -> float:
        warm_up = min(1.0, (self._updates + 1) / (self._warm_up_steps + 1))
        done = 0.0 if self._decay_steps is None else min(1.0, self._updates / max(1, self._decay_steps - 1))
        return self._learning_rate * warm_up * (1 - (1 - FINAL_LEARNING_RATE) * done)

    def _apply(self, loss: float) -> float:
        """Clip, step and publish; returns the gradient's norm before clipping."""
        masters = self.policy.masters
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(m.grad) for m in masters]))
        if not (math.isfinite(loss) and math.isfinite(float(norm))):
            self._forget_gradients()
            raise JobFailedError(
                f"update {self._updates + 1}: the loss or its gradient is not finite; the policy stays as it was.",
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
        self._updates += 1
        self.policy.version += 1
        return float(norm)

    def _forget_gradients(self) -> None:
        for master in self.policy.masters:
            gradient_of(master).zero_()


@dataclass
class _Totals:
    """Sums over the groups of a step."""

    loss: float = 0.0
    tokens: int = 0
    unique_tokens: int = 0
    total_tokens: int = 0
    passes: int = 0
    flops: float = 0.0
    gap: float = 0.0
    gap_max: float = 0.0
    entropy: float = 0.0
    truncated: int = 0

    def add(self, sampled: SampledLogprobs, loss: float, truncated_tokens: int) -> None:
        gap = (sampled.logprobs.detach() - sampled.sampling_logprobs).abs()
        self.loss += loss
        self.tokens += len(gap)
        self.gap += float(gap.sum())
        self.gap_max = max(self.gap_max, float(gap.max()))
        self.entropy += float(sampled.entropy.sum())
        self.truncated += truncated_tokens

    def add_tree(self, tree: TokenTree, flops: float) -> None:
        self.unique_tokens += tree.unique_tokens
        self.total_tokens += tree.total_tokens
        self.flops += flops
        self.passes += 1

    def metrics(self, trained: int, skipped: int, grad_norm: float, seconds: float) -> UpdateMetrics:
        return UpdateMetrics(
            groups_trained=trained,
            groups_zero_variance=skipped,
            loss=self.loss,
            grad_norm=grad_norm,
            sampled_tokens=self.tokens,
            unique_tokens=self.unique_tokens,
            total_tokens=self.total_tokens,
            passes=self.passes,
            unique_tokens_per_s=self.unique_tokens / seconds,
            flops_per_s=self.flops / seconds,
            logprob_gap_mean=self.gap / self.tokens,
            logprob_gap_max=self.gap_max,
            entropy=self.entropy / self.tokens,
            truncated_ratio_share=self.truncated / self.tokens,
            seconds=seconds,
        )
