"""Which experts tokens were routed to: counted while a policy is trained, told in the metrics of its update."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from agentrft.models.experts import stacked_weights


@dataclass(frozen=True)
class RouterStatistics:
    """Of all mixtures of experts in a model.

    Attributes:
        counts: of each mixture, by the name of its module, the tokens of each expert; [experts], float64 on the CPU.
    """

    counts: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])

    @property
    def load_max(self) -> float:
        """Tokens of the busiest expert, as a multiple of an even share; the mean over layers. 0 without experts."""
        busiest = [float(one.max() * len(one) / one.sum()) for one in self.counts.values()]
        return sum(busiest) / len(busiest) if busiest else 0.0

    @property
    def unused_share(self) -> float:
        """Of the experts, those that no token reached."""
        unused = sum(int((one == 0).sum()) for one in self.counts.values())
        return unused / max(1, sum(len(one) for one in self.counts.values()))

    def __add__(self, other: "RouterStatistics") -> "RouterStatistics":
        """Of the tokens of both."""
        sums = dict(self.counts)
        for name, count in other.counts.items():
            sums[name] = sums[name] + count if name in sums else count
        return RouterStatistics(sums)


class RouterCounts:
    """Counts tokens by expert in every pass with gradient.

    Args:
        decoder: the text part of a model, whose mixtures have a module `experts` that is given each token's experts.
    """

    def __init__(self, decoder: nn.Module) -> None:
        self._counts: dict[str, Tensor] = {}
        for name, module in decoder.named_modules():
            if name.rpartition(".")[2] == "experts" and (experts := _number_of(module)):
                module.register_forward_pre_hook(_Counting(self._counts, name, experts), with_kwargs=True)

    def take(self) -> RouterStatistics:
        """What was counted since the last call."""
        counts = dict(self._counts)
        self._counts.clear()
        return RouterStatistics(counts)


@dataclass(frozen=True)
class _Counting:
    counts: dict[str, Tensor]
    name: str
    experts: int

    def __call__(self, module: nn.Module, arguments: Sequence[Any], named: Mapping[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return
        routed = next((one for one in _tensors(arguments, named) if not one.is_floating_point()), None)
        if routed is None:
            return
        # Tokens that go to none have a number behind the last.
        count = torch.bincount(routed.flatten(), minlength=self.experts)[: self.experts].to("cpu", torch.float64)
        self.counts[self.name] = self.counts[self.name] + count if self.name in self.counts else count


def _tensors(arguments: Sequence[Any], named: Mapping[str, Any]) -> Iterator[Tensor]:
    return (one for one in (*arguments, *named.values()) if isinstance(one, Tensor))


def _number_of(module: nn.Module) -> int:
    """How many experts a module has."""
    return max(map(len, stacked_weights(module).values()), default=0)
