"""A group's token tree as a picture: where rollouts split, and which branch was paid."""

from dataclasses import dataclass, field
from typing import Any

from agentrft.report.averages import level, mean

WIDTH, ROW = 900, 18
LEAST_WIDTH = 2.0


@dataclass
class _Node:
    """A run of tokens that the same rollouts have; `kinds` says of each whether it was sampled."""

    start: int
    tokens: list[tuple[int, bool]]
    rollouts: list[int]
    children: "list[_Node]" = field(default_factory=list["_Node"])
    row: float = 0.0


def tree(records: list[dict[str, Any]], shown: str) -> dict[str, Any]:
    """Segments to draw, in pixels: runs of tokens, the darker the more rollouts, coloured by reward.

    Args:
        records: of the group's rollouts; of a rollout that went on in a new row its first row is drawn.
        shown: the trace id of the rollout whose path is marked.
    """
    paths = [_tokens(record) for record in records]
    depth = max(map(len, paths), default=1)
    root = _grown(paths)
    leaves: list[int] = []
    _place(root, leaves)
    rewards = [record["reward"] for record in records]
    known = [one for one in rewards if one is not None]
    low, high = min(known, default=0.0), max(known, default=1.0)
    marked = {number for number, record in enumerate(records) if record["trace_id"] == shown}
    scale = WIDTH / max(1, depth)
    segments: list[dict[str, Any]] = []
    links: list[dict[str, Any]] = []
    for node in _depth_first(root):
        own = [one for number in node.rollouts if (one := rewards[number]) is not None]
        reward = mean(own) if own else None
        for start, length, is_sampled in _runs(node):
            segments.append(
                {
                    "x": round(start * scale, 1),
                    "width": max(LEAST_WIDTH, round(length * scale, 1)),
                    "y": round(node.row * ROW + 4, 1),
                    "sampled": is_sampled,
                    "tokens": length,
                    "rollouts": len(node.rollouts),
                    "reward": reward,
                    "level": None if reward is None else round(level(reward, low, high), 3),
                    "marked": bool(marked & set(node.rollouts)),
                }
            )
        for child in node.children:
            x = round(child.start * scale, 1)
            links.append({"x": x, "from": round(node.row * ROW + 10, 1), "to": round(child.row * ROW + 10, 1)})
    return {
        "width": WIDTH,
        "height": max(1, len(leaves)) * ROW + 8,
        "segments": segments,
        "links": links,
        "ends": [
            {"trace_id": records[number]["trace_id"], "reward": rewards[number], "y": round(row * ROW + 14, 1)}
            for row, number in enumerate(leaves)
        ],
        "unique_tokens": sum(len(node.tokens) for node in _depth_first(root)),
        "total_tokens": sum(map(len, paths)),
    }


def _tokens(record: dict[str, Any]) -> list[tuple[int, bool]]:
    starts = record.get("row_starts") or [0]
    end = starts[1] if len(starts) > 1 else len(record["turns"])
    return [
        (token, is_sampled)
        for turn in record["turns"][:end]
        for ids, is_sampled in ((turn["prompt_ids"], False), (turn["sampled_ids"], True))
        for token in ids
    ]


def _grown(paths: list[list[tuple[int, bool]]]) -> _Node:
    """The tree of common beginnings. Without recursion: a conversation may split at every token."""
    root = _Node(0, [], list(range(len(paths))))
    waiting = [root]
    while waiting:
        node = waiting.pop()
        at = node.start
        # As long as all of them go on alike.
        while all(len(paths[number]) > at for number in node.rollouts) and node.rollouts:
            first = paths[node.rollouts[0]][at]
            if any(paths[number][at] != first for number in node.rollouts):
                break
            node.tokens.append(first)
            at += 1
        branches: dict[tuple[int, bool], list[int]] = {}
        for number in node.rollouts:
            if len(paths[number]) > at:
                branches.setdefault(paths[number][at], []).append(number)
        ended = [number for number in node.rollouts if len(paths[number]) == at]
        if len(node.rollouts) > 1 and branches:
            node.children = [_Node(at, [], numbers) for numbers in branches.values()]
            node.children += [_Node(at, [], [number]) for number in ended]
            waiting += [child for child in node.children if child.rollouts[0] not in ended]
    return root


def _place(root: _Node, leaves: list[int]) -> None:
    """Rows from top to bottom: a leaf has one for each of its rollouts; others stand in the middle of theirs."""
    order = _depth_first(root)
    for node in order:
        if not node.children:
            first = len(leaves)
            leaves += node.rollouts
            node.row = (first + len(leaves) - 1) / 2
    for node in reversed(order):
        if node.children:
            node.row = (node.children[0].row + node.children[-1].row) / 2


def _depth_first(root: _Node) -> list[_Node]:
    """Parents before their children, from top to bottom."""
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        found.append(node)
        waiting += reversed(node.children)
    return found


def _runs(node: _Node) -> list[tuple[int, int, bool]]:
    """Start, length and kind of what was sampled and what was not, in turn."""
    found: list[tuple[int, int, bool]] = []
    for number, (_, is_sampled) in enumerate(node.tokens):
        if found and found[-1][2] == is_sampled:
            start, length, _ = found[-1]
            found[-1] = (start, length + 1, is_sampled)
        else:
            found.append((node.start + number, 1, is_sampled))
    return found
