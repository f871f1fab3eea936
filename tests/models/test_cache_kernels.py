"""The compiled operators on a paged cache give what plain products over each sequence's keys and values give."""

import pytest
import torch
from torch import Tensor

from agentrft.models.native import CacheKernels, Kernels, cache_kernels_for

BF16, FLOAT = torch.bfloat16, torch.float32
PAGE_TOKENS, KV_HEADS = 64, 2
# Relative and absolute.
TOLERANCE = {BF16: (2e-2, 1e-2), FLOAT: (1e-4, 1e-5)}


pytestmark = pytest.mark.usefixtures("two_threads")


def random(*shape: int, dtype: torch.dtype = BF16, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * scale).to(dtype)


class Cache:
    """Two layers' pages in one piece, of which this is the second layer; no place is a number before it is written."""

    def __init__(self, kernels: Kernels, pages: int, key_dim: int, value_dim: int, dtype: torch.dtype) -> None:
        sizes = [KV_HEADS * PAGE_TOKENS * dim for dim in (key_dim, value_dim)]
        whole = torch.full((pages, 2 * sum(sizes)), float("nan"), dtype=dtype)
        own = whole[:, sum(sizes) :].split(sizes, dim=1)
        self.keys = own[0].view(pages, KV_HEADS, PAGE_TOKENS, key_dim)
        self.values = own[1].view(pages, KV_HEADS, PAGE_TOKENS, value_dim)
        self.kernels = CacheKernels(kernels, self.keys, self.values)

    def store(self, key: Tensor, value: Tensor, pages: list[int]) -> None:
        places = torch.arange(len(key))
        table = torch.tensor(pages)[places // PAGE_TOKENS]
        self.kernels.store(key, value, self.keys, self.values, table, places % PAGE_TOKENS)


# Pages of sequences, not in order; the second one shares its first page with the third.
TABLE = torch.tensor([[5, 5, 5], [2, 7, 7], [2, 0, 3], [6, 4, 4]])
LENGTHS = torch.tensor([1, 65, 190, 128])


def filled(
    kernels: Kernels, head_dim: int, group: int, dtype: torch.dtype
) -> tuple[Cache, list[tuple[Tensor, Tensor]]]:
    """A cache, and what each sequence has in it, [heads, tokens, head_dim] in float32."""
    cache, plain = Cache(kernels, 8, head_dim, head_dim, dtype), []
    shared = random(PAGE_TOKENS, 2 * KV_HEADS + 3, head_dim, dtype=dtype, scale=0.7)
    for row, (pages, length) in enumerate(zip(TABLE.tolist(), LENGTHS.tolist(), strict=True)):
        # Keys and values as a projection gives them: with others in between.
        both = random(length, 2 * KV_HEADS + 3, head_dim, dtype=dtype, scale=0.7) + 0.01 * row
        if row in (1, 2):
            both[:PAGE_TOKENS] = shared
        key, value = both[:, :KV_HEADS], both[:, KV_HEADS : 2 * KV_HEADS]
        cache.store(key, value, pages)
        key, value = (part.float().repeat_interleave(group, dim=1).transpose(0, 1) for part in (key, value))
        plain.append((key, value))
    return cache, plain


@pytest.mark.parametrize("head_dim", [32, 64, 96, 128])
@pytest.mark.parametrize("group", [1, 2, 3, 4, 7])
@pytest.mark.parametrize("dtype", [BF16, FLOAT])
def test_attention_of_single_tokens(kernels: Kernels, head_dim: int, group: int, dtype: torch.dtype) -> None:
    cache, plain = filled(kernels, head_dim, group, dtype)
    assert cache.kernels.attends
    query = random(len(LENGTHS), KV_HEADS * group, head_dim, dtype=dtype)
    got = cache.kernels.attend(query, cache.keys, cache.values, TABLE, LENGTHS, head_dim**-0.5)
    for row, (key, value) in enumerate(plain):
        scores = (query[row].float().unsqueeze(1) @ key.transpose(1, 2)) * head_dim**-0.5
        expected = (scores.softmax(dim=-1) @ value).squeeze(1)
        torch.testing.assert_close(got[row].float(), expected, rtol=TOLERANCE[dtype][0], atol=TOLERANCE[dtype][1])


@pytest.mark.parametrize("head_dim", [8, 24, 40])
def test_float32_takes_narrow_heads_too(kernels: Kernels, head_dim: int) -> None:
    test_attention_of_single_tokens(kernels, head_dim, 3, FLOAT)
    assert not Cache(kernels, 1, head_dim, head_dim, BF16).kernels.attends


@pytest.mark.parametrize("head_dim", [32, 64, 96, 128])
@pytest.mark.parametrize("group", [1, 3, 4, 7])
def test_attention_of_chunks(kernels: Kernels, head_dim: int, group: int) -> None:
    cache, plain = filled(kernels, head_dim, group, BF16)
    if not cache.kernels.attends_chunks:
        pytest.skip("this processor has no dot product of bfloat16")
    # (sequence, tokens before, new tokens): shorter and longer than a tile, and over the edges of pages.
    chunks = [(0, 0, 1), (1, 0, 65), (2, 100, 90), (3, 63, 65), (3, 17, 47)]
    starts = [1]  # row 0 belongs to no chunk
    for _, _, length in chunks:
        starts.append(starts[-1] + length)
    query = random(starts[-1], KV_HEADS * group + 3, head_dim)[:, : KV_HEADS * group]
    out = torch.full((starts[-1], KV_HEADS * group, head_dim), 7.0, dtype=BF16)
    fields = torch.tensor([starts[:-1], [c[2] for c in chunks], [c[1] for c in chunks]])
    # What was never written is multiplied by weights of zero, so that it must be numbers, as in the engine's cache.
    for part in (cache.keys, cache.values):
        part.nan_to_num_(0.0)
    table = TABLE[[c[0] for c in chunks]]
    cache.kernels.attend_chunks(query, cache.keys, cache.values, table, fields, head_dim**-0.5, out)
    assert bool((out[0] == 7.0).all())
    for (row, before, length), start in zip(chunks, starts, strict=False):
        key, value = (part[:, : before + length] for part in plain[row])
        own = query[start : start + length].float().transpose(0, 1)
        scores = (own @ key.transpose(1, 2)) * head_dim**-0.5
        scores += torch.full(scores.shape[1:], float("-inf")).triu(before + 1)
        expected = (scores.softmax(dim=-1) @ value).transpose(0, 1)
        torch.testing.assert_close(out[start : start + length].float(), expected, rtol=2e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [BF16, FLOAT, torch.float16])
def test_keys_and_values_of_different_widths_are_stored_and_gathered(kernels: Kernels, dtype: torch.dtype) -> None:
    cache = Cache(kernels, 5, 24, 16, dtype)
    assert not cache.kernels.attends
    key, value, pages = random(130, KV_HEADS, 24, dtype=dtype), random(130, KV_HEADS, 16, dtype=dtype), [4, 0, 2]
    cache.store(key, value, pages)
    for part, stored in ((key, cache.keys), (value, cache.values)):
        gathered = cache.kernels.gather(stored, torch.tensor(pages))
        assert gathered.shape == (KV_HEADS, 3 * PAGE_TOKENS, part.shape[2])
        assert torch.equal(gathered[:, :130], part.transpose(0, 1))
    assert bool(cache.keys[1].isnan().all()) and bool(cache.keys[2, :, 2:].isnan().all())


def test_other_devices_have_none(kernels: Kernels) -> None:
    assert cache_kernels_for(*(torch.empty(1, 2, 64, 32, device="meta") for _ in "kv")) is None
