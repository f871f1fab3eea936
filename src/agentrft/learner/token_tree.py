"""Token trees: rows merged at their shared prefixes, each unique token laid out once.

Rows are inserted one by one into a radix tree. The tree is then laid out depth-first: a node's tokens are
contiguous, its ancestors come before it, and a token's position id is its depth. The model runs once over the
layout, and each row's predictions are gathered back from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentrft.learner.group import TrainingRow


@dataclass
class _Node:
    tokens: list[int]
    children: dict[int, "_Node"] = field(default_factory=dict)
    start: int = 0

    def split(self, length: int) -> None:
        """Keep the first `length` tokens; the rest, with the children, becomes the only child."""
        rest = _Node(self.tokens[length:], self.children)
        self.tokens, self.children = self.tokens[:length], {rest.tokens[0]: rest}


@dataclass(frozen=True)
class Segment:
    """One node of the tree in the layout: tokens [start, end), seeing all of `ancestors` and their own past.

    `ancestors` are half-open ranges of the layout, from the root down, adjacent ones joined.
    """

    start: int
    end: int
    ancestors: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TokenTree:
    """Rows as one packed sequence.

    Attributes:
        token_ids, position_ids: the layout, both of length `unique tokens`.
        segments: the nodes in layout order.
        row_layout: for each row, where each of its tokens stands in the layout.
        total_tokens: tokens of all rows, shared ones counted once per row.
    """

    token_ids: list[int]
    position_ids: list[int]
    segments: list[Segment]
    row_layout: list[list[int]]
    total_tokens: int

    @property
    def unique_tokens(self) -> int:
        return len(self.token_ids)


def build_token_tree(rows: Sequence[TrainingRow]) -> TokenTree:
    """Merge rows at their shared prefixes. Rows without a common first token become several roots."""
    root = _Node([])
    for row in rows:
        _insert(root, row.token_ids)
    token_ids: list[int] = []
    position_ids: list[int] = []
    segments: list[Segment] = []
    stack: list[tuple[_Node, int, tuple[tuple[int, int], ...]]] = [(root, 0, ())]
    while stack:
        node, depth, ancestors = stack.pop()
        node.start = len(token_ids)
        end = node.start + len(node.tokens)
        if node.tokens:
            token_ids += node.tokens
            position_ids += range(depth, depth + len(node.tokens))
            segments.append(Segment(node.start, end, ancestors))
            ancestors = _joined(ancestors, node.start, end)
        depth += len(node.tokens)
        stack += [(child, depth, ancestors) for child in reversed(node.children.values())]
    layout = [_locate(root, row.token_ids) for row in rows]
    return TokenTree(token_ids, position_ids, segments, layout, sum(len(row.token_ids) for row in rows))


def _insert(root: _Node, tokens: list[int]) -> None:
    node, done = root, 0
    while done < len(tokens):
        child = node.children.get(tokens[done])
        if child is None:
            node.children[tokens[done]] = _Node(tokens[done:])
            return
        shared = 1
        limit = min(len(child.tokens), len(tokens) - done)
        while shared < limit and child.tokens[shared] == tokens[done + shared]:
            shared += 1
        if shared < len(child.tokens):
            child.split(shared)
        node, done = child, done + shared


def _locate(root: _Node, tokens: list[int]) -> list[int]:
    node, layout = root, []
    while len(layout) < len(tokens):
        node = node.children[tokens[len(layout)]]
        layout += range(node.start, node.start + len(node.tokens))
    return layout


def _joined(ranges: tuple[tuple[int, int], ...], start: int, end: int) -> tuple[tuple[int, int], ...]:
    if ranges and ranges[-1][1] == start:
        return (*ranges[:-1], (ranges[-1][0], end))
    return (*ranges, (start, end))
