"""Attention over a tree by FlexAttention: its mask against the tree's definition, its result against tiles'."""

import random

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

from agentrft.learner import TrainingRow
from agentrft.learner.flex_attention import BLOCK, FlexTree, block_mask, padded_length, seen_until
from agentrft.learner.fused_attention import FusedTiles
from agentrft.learner.tiles import tiles_of
from agentrft.learner.token_tree import TokenTree, build_token_tree


def tree_of(rollouts: int, prompt: int, seed: int = 0) -> TokenTree:
    """Rollouts that share a prompt, and some of them their first turn; two groups of them."""
    source = random.Random(seed)

    def tokens(count: int) -> list[int]:
        return [source.randrange(1000) for _ in range(count)]

    rows = []
    for group in range(2):
        shared, calls = [group, *tokens(prompt)], [tokens(source.randrange(20, 70)) for _ in range(3)]
        for index in range(rollouts):
            ids = [*shared, *calls[index % 3], *tokens(source.randrange(5, 90))]
            rows.append(TrainingRow(ids, [1], [-1.0], index))
    return build_token_tree(rows)


@pytest.mark.parametrize(("rollouts", "prompt"), [(1, 3), (4, 130), (6, 40)])
def test_a_token_sees_its_ancestors_and_itself(rollouts: int, prompt: int) -> None:
    tree = tree_of(rollouts, prompt)
    expected = torch.zeros(tree.unique_tokens, tree.unique_tokens, dtype=torch.bool)
    for segment in tree.segments:
        for token in range(segment.start, segment.end):
            for start, end in (*segment.ancestors, (segment.start, token + 1)):
                expected[token, start:end] = True
    length = padded_length(tree.unique_tokens)
    assert length % BLOCK == 0
    mask = block_mask(seen_until(tree, length))
    position = torch.arange(length)
    seen = mask.mask_mod(torch.tensor(0), torch.tensor(0), position[:, None], position)
    assert torch.equal(seen[: tree.unique_tokens, : tree.unique_tokens], expected)
    # What is added sees itself, so that no row is without a key, and is seen by nobody else.
    assert torch.equal(seen[tree.unique_tokens :].nonzero()[:, 1], position[tree.unique_tokens :])
    assert not seen[: tree.unique_tokens, tree.unique_tokens :].any()
    # A block that the kernel skips has nothing in it, one that it takes whole has everything.
    blocks = seen.view(length // BLOCK, BLOCK, length // BLOCK, BLOCK).transpose(1, 2)
    partly = mask.to_dense()[0, 0].bool()
    assert torch.equal(partly, blocks.any(-1).any(-1))
    full = torch.zeros_like(partly)
    for row, count in enumerate(mask.full_kv_num_blocks[0, 0].tolist()):
        full[row, mask.full_kv_indices[0, 0, row, :count].long()] = True
    assert torch.equal(full, blocks.all(-1).all(-1))


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_it_computes_what_the_tiles_do(kv_heads: int) -> None:
    tree = tree_of(5, 150)
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(heads, tree.unique_tokens, 16, generator=generator) for heads in (4, kv_heads, kv_heads)]
    # Uncompiled, which computes every score. There is no backward pass on a CPU: scripts/gpu_check.sh looks at it.
    flex = FlexTree(tree, torch.device("cpu"), kernel=flex_attention)
    tiles = FusedTiles(tiles_of(tree), keep_copies=True)
    assert torch.allclose(flex.attend(*parts, 0.25), tiles.attend(*parts, 0.25), atol=1e-5)
