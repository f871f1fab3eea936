"""The policy's optimizer: passes that memory holds, clip, AdamW on a schedule, publish; and all of that as a state that
training goes on from."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NotRequired, TypedDict, TypeVar

import torch
from torch import Tensor

from agentrft.errors import JobFailedError
from agentrft.learner.group import TrainingRow
from agentrft.learner.policy import Policy, gradient_of
from agentrft.learner.ranks.collective import Alone, Collective
from agentrft.learner.token_tree import TokenTree, build_token_tree
from agentrft.learner.tree_forward import ACTIVATION_SHARE, SampledLogprobs, tree_logprobs
from agentrft.models.memory import device_memory, is_out_of_memory, most_tokens_within

T = TypeVar("T")

FINAL_LEARNING_RATE = 0.1
# What AdamW keeps of each number of a weight.
MOMENTS = ("exp_avg", "exp_avg_sq")
# On a CPU larger products gain nothing, and the activations of more tokens leave its caches.
CPU_TOKENS_PER_PASS = 2048
TOKENS_PER_PASS = 32768
# What a rank computes that has nothing to compute.
_NOTHING = TrainingRow([0, 0], [1], [0.0], 0)
# More than any pass has.
MOST_TOKENS = 1 << 24


class Optimizing(TypedDict):
    """The arguments of a `PolicyOptimizer`."""

    learning_rate: float
    max_grad_norm: float
    warm_up_steps: NotRequired[int]
    decay_steps: NotRequired[int | None]
    max_tokens_per_pass: NotRequired[int | None]
    collective: NotRequired[Collective]


class PolicyOptimizer:
    """Takes the steps that the gradients in the policy's masters are for.

    Args:
        learning_rate: reached linearly by `warm_up_steps` updates; over `decay_steps` updates it falls linearly to
            a tenth, because large steps on an almost deterministic policy undo what it learned. None keeps it.
        max_tokens_per_pass: unique tokens of several rows or groups that are computed together; a larger group is a
            pass by itself, as far as the memory has room for it.
        collective: the ranks that optimize the same policy together, each with rows of its own.

    Attributes:
        max_tokens: see `max_tokens_per_pass`.
        most_tokens: of a pass, whatever it is of; what needs more is computed in parts, one rollout at least.
        passes_halved: how often a pass ran out of memory, and `most_tokens` was lowered for it, also that of whoever
            optimizes the policy next.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        learning_rate: float,
        max_grad_norm: float,
        warm_up_steps: int = 0,
        decay_steps: int | None = None,
        max_tokens_per_pass: int | None = None,
        collective: Collective = Alone(),
    ) -> None:
        self.policy = policy
        self._max_grad_norm = max_grad_norm
        self._learning_rate = learning_rate
        self._warm_up_steps = warm_up_steps
        self._decay_steps = decay_steps
        self._collective = collective
        self._updates = 0
        self._start: list[Tensor] | None = None
        on_cpu = policy.forward.device.type == "cpu"
        self.max_tokens = max_tokens_per_pass or (CPU_TOKENS_PER_PASS if on_cpu else TOKENS_PER_PASS)
        costs, memory = policy.forward.costs, ACTIVATION_SHARE * device_memory(policy.forward.device)
        if on_cpu:
            # Which all ranks share.
            memory /= collective.size
        fitting = most_tokens_within(int(memory), lambda n: int(costs.recomputed_bytes(n)), most=MOST_TOKENS)
        self.limit_passes(fitting if policy.most_tokens is None else min(policy.most_tokens, fitting))
        self.passes_halved = 0
        self._last_pass = (0, 0)
        self._optimizer = torch.optim.AdamW(policy.masters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

    def limit_passes(self, tokens: int) -> None:
        """Compute no more unique tokens in a pass, but for a rollout that has more by itself."""
        self.most_tokens = max(1, tokens)
        self.max_tokens = min(self.max_tokens, self.most_tokens)

    def keep_start(self, masters: Mapping[str, Tensor]) -> None:
        """Remember the policy that training began with, for how far it has gone from there."""
        self._start = self.policy.in_order(masters)

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on, as numbers and copies of tensors on the CPU."""
        masters = self.policy.master_state()
        optimizer = self._optimizer.state_dict()
        optimizer["state"] = self.moments()
        return {
            "masters": masters,
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
        self.load_optimizer(state)
        self.policy.version = state["policy_version"]

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """The rest of a `state` beside the weights."""
        moments = {
            index: {name: self.policy.own_part(value) if name in MOMENTS else value for name, value in own.items()}
            for index, own in state["optimizer"]["state"].items()
        }
        self._optimizer.load_state_dict({**state["optimizer"], "state": moments})
        self._updates = state["updates"]

    def moments(self) -> dict[int, dict[str, Tensor]]:
        """AdamW's, by the place of their master: whole, on the CPU."""
        return {
            place: {
                name: self.policy.whole(place, value) if name in MOMENTS else value.detach().to("cpu", copy=True)
                for name, value in own.items()
            }
            for place, own in self._optimizer.state_dict()["state"].items()
        }

    def _within_memory(self, compute: Callable[[], T], *, forgets: bool = True) -> T:
        """What `compute` gives. Where a pass of it runs out of memory it is called anew, with passes of half that one's
        tokens at most, from now on.

        Args:
            forgets: whether the gradients that there are are forgotten before it is called anew: those that it adds.

        Raises:
            JobFailedError: the memory has no room for a single rollout; or all ranks take part in every pass, and the
                others wait in one that this rank cannot end.
        """
        while True:
            try:
                return compute()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
            # Only here is what the failed pass had kept free again: its frames were the error's.
            if forgets:
                self._forget_gradients()
            if self.policy.forward.device.type == "cuda":
                torch.cuda.empty_cache()
            tokens, parts = self._last_pass
            if self.policy.is_sharded:
                raise JobFailedError(
                    f"update {self._updates + 1}: a pass of {tokens} tokens ran out of memory, which all ranks of the "
                    "learner compute together; the policy stays as it was.",
                    "Raise cluster.learner_workers, or lower hyperparameters.max_context_tokens.",
                )
            if parts < 2:
                raise JobFailedError(
                    f"update {self._updates + 1}: the memory has no room for one rollout, of {tokens} tokens; "
                    "the policy stays as it was.",
                    "Lower hyperparameters.max_context_tokens, or take a smaller model or a device with more memory.",
                )
            self.passes_halved += 1
            self.limit_passes(tokens // 2)
            self.policy.most_tokens = self.most_tokens

    def _passes(self, packs: Sequence[T]) -> Iterator[T]:
        """One after another. Where all ranks take part in every pass, those that have fewer than others compute a token
        that counts for nothing in the end."""
        missing = self._collective.most(len(packs)) - len(packs) if self.policy.is_sharded else 0
        yield from packs
        for _ in range(missing):
            _, sampled = self._computed([_NOTHING], 1.0, parts=1)
            if torch.is_grad_enabled():
                (0.0 * sampled.logprobs.sum()).backward()

    def _computed(
        self, rows: Sequence[TrainingRow], temperature: float, *, parts: int
    ) -> tuple[TokenTree, SampledLogprobs]:
        """One pass.

        Args:
            parts: that it could be divided into.
        """
        tree = build_token_tree(rows)
        self._last_pass = (tree.unique_tokens, parts)
        return tree, tree_logprobs(self.policy.forward, tree, list(rows), temperature)

    def _scheduled_learning_rate(self) -> float:
        warm_up = min(1.0, (self._updates + 1) / (self._warm_up_steps + 1))
        done = 0.0 if self._decay_steps is None else min(1.0, self._updates / max(1, self._decay_steps - 1))
        return self._learning_rate * warm_up * (1 - (1 - FINAL_LEARNING_RATE) * done)

    def _step(self, loss: float, where: str) -> float:
        """Add up what all ranks have found, clip, step and publish; returns the gradient's norm before clipping."""
        masters = self.policy.masters
        # First by what ends at once where a rank is gone, as NCCL does not.
        (loss,) = self._collective.total(loss)
        norm = self.policy.add_up_gradients(self._collective)
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
