"""A tree's layout cut into tiles: runs of queries of one node, with the ranges of keys that they see."""

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from agentrft.learner.token_tree import TokenTree
from agentrft.models.attention_products import TILE_TOKENS

Range = tuple[int, int]


@dataclass(frozen=True)
class Tile:
    """Queries [start, end) and the ranges of keys that they see; the last `end - start` keys are their own."""

    start: int
    end: int
    keys: tuple[Range, ...]

    @property
    def key_count(self) -> int:
        return sum(end - start for start, end in self.keys)

    @property
    def area(self) -> int:
        return (self.end - self.start) * self.key_count


def tiles_of(tree: TokenTree, tile_tokens: int = TILE_TOKENS) -> list[Tile]:
    """The tree's nodes, long ones in several tiles."""
    tiles = []
    for segment in tree.segments:
        for start in range(segment.start, segment.end, tile_tokens):
            end = min(start + tile_tokens, segment.end)
            tiles.append(Tile(start, end, _joined([*segment.ancestors, (segment.start, end)])))
    return tiles


def within_window(tile: Tile, window: int | None) -> tuple[Range, ...]:
    """The ranges of keys that any query of the tile sees."""
    if window is None:
        return tile.keys
    # The tile's first query sees itself and `window` - 1 tokens before it; those are the last ones of the ranges.
    wanted = tile.end - tile.start + window - 1
    kept: list[Range] = []
    for start, end in reversed(tile.keys):
        if wanted <= 0:
            break
        kept.append((max(start, end - wanted), end))
        wanted -= end - start
    return tuple(reversed(kept))


def gather(tensor: Tensor, ranges: tuple[Range, ...]) -> Tensor:
    """[..., tokens of the ranges, width] of [..., tokens, width]; a view where it is one range."""
    if len(ranges) == 1:
        return tensor[:, ranges[0][0] : ranges[0][1]]
    return torch.cat([tensor[:, start:end] for start, end in ranges], dim=1)


def scatter_add(target: Tensor, ranges: tuple[Range, ...], values: Tensor) -> None:
    """Add what stands for the ranges, one after the other, to where they are."""
    lengths = [end - start for start, end in ranges]
    for (start, end), part in zip(ranges, values.split(lengths, dim=1), strict=True):
        target[:, start:end] += part


def _joined(ranges: list[Range]) -> tuple[Range, ...]:
    """The same ranges with adjacent ones as one."""
    joined = [ranges[0]]
    for left, right in itertools.pairwise(ranges):
        if left[1] == right[0]:
            joined[-1] = (joined[-1][0], right[1])
        else:
            joined.append(right)
    return tuple(joined)
