"""The compiled operators give what PyTorch gives, whatever the shapes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from agentrft.models import packed_ops
from agentrft.models.native import CacheKernels, Kernels, TreeLayout, build

BF16 = torch.bfloat16


pytestmark = pytest.mark.usefixtures("two_threads")


def random(*shape: int, scale: float = 1.0) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape))) * scale).to(BF16)


def assert_within_one_rounding(got: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(got.float(), expected.float(), rtol=1 / 128, atol=1e-3)


@pytest.mark.parametrize(("rows", "width"), [(1, 8), (3, 576), (70, 576), (5, 1000)])
def test_adding_and_normalising(kernels: Kernels, rows: int, width: int) -> None:
    x, delta, weight = random(rows, width), random(rows, width, scale=0.3), random(width)
    expected = x + delta
    own = x.clone()
    normed = kernels.add_rms_norm(own, delta, weight, 1e-5)
    assert torch.equal(own, expected)
    assert_within_one_rounding(normed, packed_ops.rms_norm(expected, weight, 1e-5))
    assert_within_one_rounding(kernels.add_rms_norm(x, None, weight, 1e-5), packed_ops.rms_norm(x, weight, 1e-5))


@pytest.mark.parametrize(("tokens", "heads", "head_dim"), [(1, 1, 8), (7, 12, 64), (300, 5, 96)])
def test_rotating_a_part_of_each_row(kernels: Kernels, tokens: int, heads: int, head_dim: int) -> None:
    whole = random(tokens, heads + 2, head_dim)
    cosine, sine = random(tokens, 1, head_dim), random(tokens, 1, head_dim)
    expected = packed_ops.rotate(whole[:, :heads], cosine, sine)
    untouched = whole[:, heads:].clone()
    kernels.rotate(whole[:, :heads], cosine, sine)
    assert_within_one_rounding(whole[:, :heads], expected)
    assert torch.equal(whole[:, heads:], untouched)


@pytest.mark.parametrize(("rows", "width"), [(1, 4), (64, 1536), (3, 77)])
@pytest.mark.parametrize("scale", [1.0, 30.0, 300.0])
def test_swiglu_at_any_size_of_the_gate(kernels: Kernels, rows: int, width: int, scale: float) -> None:
    gate_up = random(rows, 2 * width, scale=scale)
    assert_within_one_rounding(kernels.swiglu(gate_up), packed_ops.swiglu(gate_up))


def test_what_is_not_a_number_stays_so(kernels: Kernels) -> None:
    x = random(2, 64)
    x[1, 3] = float("nan")
    assert kernels.swiglu(x)[1].isnan().any()
    assert kernels.add_rms_norm(x, None, random(64), 1e-5)[1].isnan().all()


@pytest.fixture
def dot(kernels: Kernels) -> Kernels:
    if not kernels.has_dot:
        pytest.skip("this processor has no dot product of bfloat16")
    return kernels


@pytest.mark.parametrize("rows", [0, 1, 5, 12, 13, 97, 300])
@pytest.mark.parametrize(("outputs", "inputs"), [(32, 2), (96, 64), (576, 1536)])
@pytest.mark.parametrize("with_bias", [False, True])
def test_product_with_a_packed_weight(dot: Kernels, rows: int, outputs: int, inputs: int, with_bias: bool) -> None:
    # A part of wider rows, as attention gives them.
    x = random(rows, inputs + 6)[:, :inputs]
    weight, bias = random(outputs, inputs), random(outputs) if with_bias else None
    expected = x.float() @ weight.float().T + (0 if bias is None else bias.float())
    got = dot.product(x, dot.pack(weight), bias)
    torch.testing.assert_close(got.float(), expected, rtol=1 / 128, atol=1e-2)


def test_which_weights_can_be_packed(dot: Kernels) -> None:
    assert dot.can_pack(random(64, 8))
    assert not dot.can_pack(random(63, 8))
    assert not dot.can_pack(random(64, 7))


# A prompt in two tiles, one child that follows it at once, and one with its sibling in between.
TREE = [
    (0, 40, [(0, 40)]),
    (40, 71, [(0, 71)]),
    (71, 73, [(0, 73)]),
    (73, 180, [(0, 71), (73, 180)]),
    (180, 181, [(0, 71), (180, 181)]),
]


def attention_by_mask(query: Tensor, key: Tensor, value: Tensor, scaling: float) -> tuple[Tensor, Tensor]:
    """In float32; also the logarithms of the sums of exponentials."""
    seen = torch.zeros(len(query), len(query), dtype=torch.bool)
    for start, end, ranges in TREE:
        for first, last in ranges:
            seen[start:end, first:last] = True
    seen &= torch.ones_like(seen).tril()
    group = query.shape[1] // key.shape[1]
    key, value = (part.repeat_interleave(group, dim=1).transpose(0, 1) for part in (key, value))
    scores = (query.transpose(0, 1) @ key.transpose(1, 2) * scaling).masked_fill(~seen, float("-inf"))
    return (scores.softmax(dim=-1) @ value).transpose(0, 1), scores.logsumexp(dim=-1).T


@pytest.mark.parametrize("head_dim", [32, 64, 96, 128])
@pytest.mark.parametrize("group", [1, 3, 4, 7])
def test_attention_over_a_tree_and_its_gradient(dot: Kernels, head_dim: int, group: int) -> None:
    kv_heads, tokens, scaling = 2, TREE[-1][1], head_dim**-0.5
    heads = kv_heads * group
    # As a projection gives them: queries, keys and values of a token next to each other.
    together = random(tokens, heads + 2 * kv_heads, head_dim)
    query, key, value = together.split([heads, kv_heads, kv_heads], dim=1)
    of_out, layout = random(tokens, heads, head_dim, scale=0.5), TreeLayout(TREE)
    exact = [part.float().requires_grad_(True) for part in (query, key, value)]
    expected, expected_normaliser = attention_by_mask(exact[0], exact[1], exact[2], scaling)
    out, normaliser = dot.attend_tree(query, key, value, layout, scaling)
    torch.testing.assert_close(out.float(), expected, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(normaliser, expected_normaliser, rtol=1e-2, atol=2e-2)
    gradients = dot.attend_tree_grad(query, key, value, layout, scaling, normaliser, of_out)
    for got, true in zip(gradients, torch.autograd.grad(expected, exact, of_out.float()), strict=True):
        assert (got.float() - true).norm() < 1e-2 * true.norm()
        torch.testing.assert_close(got.float(), true, rtol=5e-2, atol=2e-2 * float(true.abs().max()))
    again = dot.attend_tree_grad(query, key, value, layout, scaling, normaliser, of_out)
    assert all(torch.equal(one, other) for one, other in zip(gradients, again, strict=True))


def heads_apart(tensor: Tensor) -> Tensor:
    """The same numbers, head by head in memory: as models have them that make rotated keys out of parts."""
    return tensor.transpose(0, 1).contiguous().transpose(0, 1)


def test_how_heads_stand_in_memory_makes_no_difference(dot: Kernels) -> None:
    tokens, kv_heads, heads, head_dim = TREE[-1][1], 2, 6, 64
    query, key, value = random(tokens, heads, head_dim), random(tokens, kv_heads, head_dim), random(tokens, 2, head_dim)
    scaling, layout = head_dim**-0.5, TreeLayout(TREE)

    def results(query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        keys, values = (torch.zeros(3, kv_heads, 64, head_dim, dtype=BF16) for _ in "kv")
        cache, places, table = CacheKernels(dot, keys, values), torch.arange(tokens), torch.tensor([[2, 0, 1]])
        cache.store(key, value, keys, values, table[0, places // 64], places % 64)
        one = cache.attend(query[-1:], keys, values, table, torch.tensor([tokens]), scaling)
        chunk = torch.empty(tokens, heads, head_dim, dtype=BF16)
        cache.attend_chunks(query, keys, values, table, torch.tensor([[0], [tokens], [0]]), scaling, chunk)
        tree, normaliser = dot.attend_tree(query, key, value, layout, scaling)
        of_tree = random(tokens, heads, head_dim, scale=0.5)
        gradients = dot.attend_tree_grad(query, key, value, layout, scaling, normaliser, of_tree)
        return [keys, values, one, chunk, tree, normaliser, *gradients]

    together = results(query, key, value)
    apart = results(heads_apart(query), heads_apart(key), heads_apart(value))
    assert all(torch.equal(one, other) for one, other in zip(together, apart, strict=True))


def test_without_a_compiler_there_are_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert build() is None


def test_a_compiler_that_fails_is_told_and_survived(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing = tmp_path / "g++"
    failing.write_text("#!/bin/sh\necho no such flag >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CXX", str(failing))
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "cache"))
    assert build() is None
    assert "no such flag" in caplog.text
    assert not list((tmp_path / "cache").rglob("*.so"))


@pytest.mark.slow
def test_several_processes_may_compile_at_once(tmp_path: Path) -> None:
    code = "from agentrft.models.native import build; print(build())"
    environment = {"AGENTRFT_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"}
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[0].strip() for process in started]
    assert said[0] == said[1]
    # Without a compiler both say None.
    assert Path(said[0]).is_file() == (build() is not None)
