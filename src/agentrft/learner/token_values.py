"""A number for each sampled token of each group of an update, as far as passes have found it."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.packing import Part
from agentrft.learner.plan import PlannedGroup


class TokenValues:
    """By group, and within it row after row; NaN where nothing is known yet."""

    def __init__(self) -> None:
        self._of_group: dict[int, Tensor] = {}

    def put(self, pack: Sequence[Part], values: Float[Tensor, "tokens"]) -> None:
        """Of the tokens of a pass, part after part."""
        for part, own in zip(pack, values.detach().split([len(part.tokens) for part in pack]), strict=True):
            if part.number not in self._of_group:
                empty = torch.full((len(part.group.advantages),), torch.nan, device=values.device)
                self._of_group[part.number] = empty
            self._of_group[part.number][part.tokens.to(values.device)] = own.float()

    def put_group(self, group: PlannedGroup, values: Float[Tensor, "tokens"]) -> None:
        """Of all tokens of a group."""
        self._of_group[group.number] = values

    def knows(self, pack: Sequence[Part]) -> bool:
        """Whether every token of a pass is known."""
        return all(part.number in self._of_group for part in pack) and not bool(self.of(pack).isnan().any())

    def of(self, pack: Sequence[Part]) -> Float[Tensor, "tokens"]:
        """Of the tokens of a pass, part after part."""
        return torch.cat([self._own(part) for part in pack])

    def groups(self) -> Iterator[tuple[int, Float[Tensor, "tokens"]]]:
        """By the group's number, all of its tokens."""
        yield from self._of_group.items()

    def get(self, number: int) -> Float[Tensor, "tokens"] | None:
        """Of a group, where all of its tokens are known."""
        found = self._of_group.get(number)
        return None if found is None or bool(found.isnan().any()) else found

    def with_others(self, others: Iterable["TokenValues"]) -> "TokenValues":
        """Of these groups and of those that others know, each known to one of them alone; on the CPU."""
        together = TokenValues()
        for values in (self, *others):
            together._of_group |= {number: own.cpu() for number, own in values._of_group.items()}
        return together

    def mean(self) -> float:
        """Over what is known; 0 of nothing."""
        known = [values[~values.isnan()] for values in self._of_group.values()]
        everything = torch.cat(known) if known else torch.zeros(0)
        return float(everything.double().mean()) if len(everything) else 0.0

    def _own(self, part: Part) -> Tensor:
        values = self._of_group[part.number]
        return values[part.tokens.to(values.device)]
