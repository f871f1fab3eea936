"""LoRA adapters beside each other: each row of a pass gets its own adapter's change, and the weights stay as they are.

A row of adapter a is y = W x + scale_a * up_a (down_a x) (Hu et al. 2021, arXiv:2106.09685). Rows of one adapter that
stand together are one product with its matrices. Where rows of several adapters alternate, as when many answers are
sampled at once, the matrices of all adapters among them are stacked along their ranks, and each row's ranks of the
others are set to zero in between: two products for all, however many adapters there are.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

# Rows of one adapter next to each other from which they are a product of their own.
LONG_RUN_ROWS = 64


@dataclass(frozen=True)
class LoraPart:
    """The change of the outputs [start, stop) of a projection.

    Attributes:
        down, up: [rank, in] and [rank, stop - start]; `up` is transposed, and has the adapter's scale in it.
    """

    start: int
    stop: int
    down: Float[Tensor, "rank inputs"]
    up: Float[Tensor, "rank outputs"]


@dataclass(frozen=True, eq=False)
class LoraAdapter:
    """An adapter as a model computes it: its parts by the projection that they change.

    Attributes:
        owner: stands for it where keys and values that it computed are remembered, without keeping its weights.
    """

    parts: Mapping[Any, Sequence[LoraPart]]
    owner: object = field(default_factory=object)


@dataclass(frozen=True)
class Mixture:
    """One part of several adapters stacked; `ranks` has each one's, 0 where it leaves these outputs alone."""

    part: LoraPart
    ranks: tuple[int, ...]


class Mixtures:
    """The last stack of each projection, because the next pass mostly has the same adapters."""

    def __init__(self) -> None:
        self._last: dict[Any, tuple[tuple[LoraAdapter, ...], list[Mixture]]] = {}

    def of(self, projection: Any, adapters: tuple[LoraAdapter, ...]) -> list[Mixture]:
        """The parts of these adapters for one projection."""
        last = self._last.get(projection)
        if last is None or last[0] != adapters:
            last = self._last[projection] = adapters, list(_stacked([a.parts.get(projection, ()) for a in adapters]))
        return last[1]


@dataclass
class _Segment:
    """Rows [start, stop) of a pass and the adapters in them.

    Attributes:
        members: the number of each row's adapter, -1 for none; None where all rows are of the only one.
        others: masks [rows, ranks] of what belongs to other rows' adapters, by the ranks of a mixture.
    """

    start: int
    stop: int
    adapters: tuple[LoraAdapter, ...]
    members: Tensor | None
    others: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def mask(self, ranks: tuple[int, ...]) -> Tensor:
        assert self.members is not None
        if ranks not in self.others:
            columns = torch.tensor([index for index, rank in enumerate(ranks) for _ in range(rank)])
            self.others[ranks] = self.members.unsqueeze(1) != columns.to(self.members.device)
        return self.others[ranks]


class LoraRows:
    """The adapters of a pass's rows.

    Args:
        adapters: of each row, None for the base model's.
    """

    def __init__(self, adapters: Sequence[LoraAdapter | None], mixtures: Mixtures, device: torch.device) -> None:
        self._adapters, self._mixtures, self._device = adapters, mixtures, device
        self._segments = list(_segments(adapters, device))

    def at(self, rows: Sequence[int]) -> "LoraRows":
        """Of some of the rows."""
        return LoraRows([self._adapters[row] for row in rows], self._mixtures, self._device)

    def split(self, size: int) -> "list[LoraRows]":
        """Of each `size` rows, as `Tensor.split` does it: of no rows one part, too."""
        starts = range(0, max(1, len(self._adapters)), size)
        return [LoraRows(self._adapters[start : start + size], self._mixtures, self._device) for start in starts]

    def add(self, projection: Any, x: Float[Tensor, "rows inputs"], y: Float[Tensor, "rows outputs"]) -> None:
        """Add each row's change to the projection's result `y`. Rows without an adapter are not touched."""
        for segment in self._segments:
            own, out = x[segment.start : segment.stop], y[segment.start : segment.stop]
            if segment.members is None:
                for part in segment.adapters[0].parts.get(projection, ()):
                    out[:, part.start : part.stop].addmm_(own @ part.down.T, part.up)
                continue
            for mixture in self._mixtures.of(projection, segment.adapters):
                # Set to zero rather than multiplied by it: one adapter's overflow must not reach another's rows.
                inner = (own @ mixture.part.down.T).masked_fill_(segment.mask(mixture.ranks), 0.0)
                out[:, mixture.part.start : mixture.part.stop].addmm_(inner, mixture.part.up)


def _segments(adapters: Sequence[LoraAdapter | None], device: torch.device) -> Iterator[_Segment]:
    """Long runs of one adapter by themselves, and what is between them together."""
    start = 0
    short: list[LoraAdapter | None] = []
    for _, run in itertools.groupby(adapters, key=id):
        same = list(run)
        if len(same) < LONG_RUN_ROWS:
            short += same
            continue
        yield from _together(short, start, device)
        start += len(short)
        yield from _together(same, start, device)
        start, short = start + len(same), []
    yield from _together(short, start, device)


def _together(adapters: list[LoraAdapter | None], start: int, device: torch.device) -> Iterator[_Segment]:
    """One segment of these rows without those of the base model at both ends; none if they all are."""
    adapted = [place for place, adapter in enumerate(adapters) if adapter is not None]
    if not adapted:
        return
    rows = adapters[adapted[0] : adapted[-1] + 1]
    # In an order that does not depend on the rows', so that a stack can be used again.
    distinct = tuple(sorted({adapter for adapter in rows if adapter is not None}, key=id))
    numbers = {id(adapter): number for number, adapter in enumerate(distinct)}
    alone = len(distinct) == 1 and None not in rows
    members = None if alone else torch.tensor([numbers.get(id(row), -1) for row in rows], device=device)
    yield _Segment(start + adapted[0], start + adapted[-1] + 1, distinct, members)


def _stacked(adapters: Sequence[Sequence[LoraPart]]) -> Iterator[Mixture]:
    """The parts of several adapters of one projection, those of the same outputs in one."""
    for start, stop in sorted({(part.start, part.stop) for parts in adapters for part in parts}):
        own = [[part for part in parts if part.start == start] for parts in adapters]
        all_parts = [part for parts in own for part in parts]
        down, up = torch.cat([part.down for part in all_parts]), torch.cat([part.up for part in all_parts])
        ranks = tuple(sum(len(part.down) for part in parts) for parts in own)
        yield Mixture(LoraPart(start, stop, down, up), ranks)
