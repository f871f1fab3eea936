"""The policy's optimizer: clip, AdamW on a schedule, publish; and all of that as a state that training goes on from."""

import math
from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from agentrft.errors import JobFailedError
from agentrft.learner.policy import Policy, gradient_of

FINAL_LEARNING_RATE = 0.1
# On a CPU larger products gain nothing, and the activations of more tokens leave its caches.
CPU_TOKENS_PER_PASS = 2048
TOKENS_PER_PASS = 32768


class Optimizing(TypedDict):
    """The arguments of a `PolicyOptimizer`."""

    learning_rate: float
    max_grad_norm: float
    warm_up_steps: NotRequired[int]
    decay_steps: NotRequired[int | None]
    max_tokens_per_pass: NotRequired[int | None]


class PolicyOptimizer:
    """Takes the steps that the gradients in the policy's masters are for.

    Args:
        learning_rate: reached linearly by `warm_up_steps` updates; over `decay_steps` updates it falls linearly to
            a tenth, because large steps on an almost deterministic policy undo what it learned. None keeps it.
        max_tokens_per_pass: unique tokens that are computed together, of several rows or groups; a larger one is a
            pass by itself.
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
    ) -> None:
        self.policy = policy
        self._max_grad_norm = max_grad_norm
        self._learning_rate = learning_rate
        self._warm_up_steps = warm_up_steps
        self._decay_steps = decay_steps
        self._updates = 0
        self._start: list[Tensor] | None = None
        on_cpu = policy.forward.device.type == "cpu"
        self.max_tokens = max_tokens_per_pass or (CPU_TOKENS_PER_PASS if on_cpu else TOKENS_PER_PASS)
        self._optimizer = torch.optim.AdamW(policy.masters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=0.0)

    def keep_start(self, masters: Mapping[str, Tensor]) -> None:
        """Remember the policy that training began with, for how far it has gone from there."""
        self._start = self.policy.in_order(masters)

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
