"""Groups of rollouts as token ids: the hypothesis strategies and hand-made cases that the tests here share."""

import random
from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from agentrft.learner import TrainingGroup, TrainingRow
from tests.tiny_model import VOCABULARY, padded_logprobs

# Few different tokens, so that rows share prefixes of any length, are each other's prefix, or are the same.
ALPHABET = st.integers(1, 3)
TOKENS = st.lists(ALPHABET, min_size=1, max_size=6)


def row(parts: Sequence[tuple[bool, list[int]]], rollout: int) -> TrainingRow:
    """A row of (sampled?, tokens) parts; the sampling log-probabilities are made up."""
    token_ids: list[int] = []
    positions: list[int] = []
    for is_sampled, tokens in parts:
        if is_sampled:
            positions += range(len(token_ids), len(token_ids) + len(tokens))
        token_ids += tokens
    return TrainingRow(token_ids, positions, [-1.0 - 0.1 * (p % 7) for p in positions], rollout)


@st.composite
def groups_of_rows(draw: st.DrawFn) -> list[TrainingRow]:
    """One to five rollouts of a prompt, of one to three turns with tool results between; some fork into a new row."""
    prompt = draw(TOKENS)
    rows = []
    for rollout in range(draw(st.integers(1, 5))):
        start = prompt if draw(st.integers(0, 5)) else draw(TOKENS)
        parts = [(False, start)]
        for _ in range(draw(st.integers(1, 3))):
            parts += [(True, draw(TOKENS)), (False, draw(TOKENS))]
        rows.append(row(parts[: len(parts) - draw(st.integers(0, 1))], rollout))
        if not draw(st.integers(0, 4)):
            rows.append(row([(False, draw(TOKENS)), (True, draw(TOKENS))], rollout))
    return rows


def group_of_depth_three(*, shared_results: bool, seed: int = 0) -> list[TrainingRow]:
    """Eight rollouts of three turns: pairs make the same first call, whose results are shared or not."""
    source = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [source.randrange(VOCABULARY) for _ in range(count)]

    prompt, calls = tokens(25), [tokens(6) for _ in range(4)]
    results = [tokens(9) for _ in range(4)]
    rows = []
    for rollout in range(8):
        pair = rollout // 2
        result = results[pair] if shared_results else tokens(9)
        turns = [(True, calls[pair]), (False, result), (True, tokens(5)), (False, tokens(7)), (True, tokens(4))]
        rows.append(row([(False, prompt), *turns], rollout))
    return rows


def padded_sampled_logprobs(model: nn.Module, rows: Sequence[TrainingRow], temperature: float = 1.0) -> Tensor:
    """What `tree_logprobs` gives, by one padded batch of whole rows."""
    reference = padded_logprobs(model, [r.token_ids for r in rows], temperature)
    return torch.stack(
        [
            expected[p - 1, r.token_ids[p]]
            for r, expected in zip(rows, reference, strict=True)
            for p in r.sampled_positions
        ]
    )


def on_policy_group(model: nn.Module, rewards: list[float], seed: int = 0, temperature: float = 1.0) -> TrainingGroup:
    """Random rollouts whose sampling log-probabilities are those that `model` gives them."""
    source = random.Random(seed)
    prompt = [source.randrange(VOCABULARY) for _ in range(12)]
    rows = [
        row([(False, prompt), (True, [source.randrange(VOCABULARY) for _ in range(6 + index)])], index)
        for index in range(len(rewards))
    ]
    with torch.no_grad():
        logprobs = iter(padded_sampled_logprobs(model, rows, temperature).tolist())
    rows = [
        TrainingRow(r.token_ids, r.sampled_positions, [next(logprobs) for _ in r.sampled_positions], r.rollout)
        for r in rows
    ]
    return TrainingGroup(rows, rewards)
