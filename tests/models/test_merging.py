"""An adapter's change survives the rounding of the weight that it is added to."""

import pytest
import torch
from torch import Tensor

from agentrft.models.merging import _in_blocks, merged, merged_stack
from agentrft.models.native import load_kernels

BF16 = torch.bfloat16
OUT, IN, RANK = 96, 130, 8


@pytest.fixture(params=["native", "torch"], autouse=True)
def operators(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr("agentrft.models.merging.load_kernels", lambda: None)
        monkeypatch.setattr("agentrft.models.merging.CHUNK", 7 * IN)
    elif load_kernels() is None:
        pytest.skip("no C++ compiler here")


def parts(change: float) -> tuple[Tensor, Tensor, Tensor]:
    """A weight of ordinary size, and an adapter whose change is about `change` of it."""
    source = torch.Generator().manual_seed(0)
    frozen, up, down = (torch.randn(shape, generator=source) for shape in ((OUT, IN), (OUT, RANK), (RANK, IN)))
    return frozen.to(BF16), (up * change / RANK**0.5).to(BF16), down.to(BF16)


def exact(frozen: Tensor, up: Tensor, down: Tensor, scale: float) -> Tensor:
    return frozen.double() + scale * (up.double() @ down.double())


def test_without_a_change_the_weight_stays_as_it_is() -> None:
    frozen, up, down = parts(1.0)
    assert torch.equal(merged(frozen, torch.zeros_like(up), down, 2.0), frozen)


@pytest.mark.parametrize("change", [1e-4, 1e-3, 1e-2, 1.0])
def test_every_element_is_one_of_its_two_neighbours(change: float) -> None:
    given = parts(change)
    error = (merged(*given, 2.0).double() - exact(*given, 2.0)).abs()
    assert bool((error <= exact(*given, 2.0).abs() / 128 + 1e-6).all())


@pytest.mark.parametrize("change", [1e-4, 1e-3])
def test_a_change_far_smaller_than_a_step_reaches_the_products(change: float) -> None:
    frozen, up, down = parts(change)
    wanted = exact(frozen, up, down, 1.0) - frozen.double()
    got = merged(frozen, up, down, 1.0).double() - frozen.double()
    nearest = exact(frozen, up, down, 1.0).to(BF16).double() - frozen.double()

    def kept(moved: Tensor) -> float:
        """How much of the change there is in its own direction."""
        return float((moved * wanted).sum() / (wanted * wanted).sum())

    assert kept(got) == pytest.approx(1.0, abs=0.35)
    # Rounding to nearest loses it or, where few elements jump, has it wrong.
    assert abs(kept(got) - 1) < abs(kept(nearest) - 1)


def test_the_same_adapter_gives_the_same_weight() -> None:
    assert torch.equal(merged(*parts(1e-3), 2.0), merged(*parts(1e-3), 2.0))


def test_what_is_not_finite_stays_so() -> None:
    frozen, up, down = parts(1e-3)
    up[3] = float("nan")
    up[5] = float("inf")
    result = merged(frozen, up, down.abs() + 1, 1.0)
    assert bool(result[3].isnan().all()) and bool(result[5].isinf().all())
    assert bool(result[[0, 1, 2, 4]].isfinite().all())


def test_float32_is_added_as_it_is() -> None:
    frozen, up, down = (part.float() for part in parts(1e-3))
    torch.testing.assert_close(merged(frozen, up, down, 2.0), torch.addmm(frozen, up, down, alpha=2.0))


def test_both_implementations_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    given = parts(1e-2)
    here = merged(*given, 2.0)
    monkeypatch.setattr("agentrft.models.merging.load_kernels", lambda: None)
    other = merged(*given, 2.0)
    # Sums in another order may fall on the other side of a threshold.
    assert float((here == other).float().mean()) > 0.99


def test_experts_in_blocks_are_experts_one_by_one() -> None:
    source = torch.Generator().manual_seed(3)
    frozen, up, down = (
        (torch.randn(shape, generator=source) * 0.05).bfloat16() for shape in ((5, 24, 40), (5, 24, 2), (5, 2, 40))
    )
    expected = merged_stack(frozen, up, down, 0.1)
    for at_once in (1, 2, 5):
        blocks = _in_blocks(frozen, up, down, 0.1, at_once)
        # The last bit of a product depends on how it is computed, and decides where it meets a threshold.
        assert float((blocks == expected).float().mean()) > 0.998
    assert 0.01 < float((expected != frozen).float().mean()) < 0.99
    assert torch.equal(
        merged_stack(frozen.float(), up.float(), down.float(), 0.1)[2],
        merged(*(one[2].float() for one in (frozen, up, down)), 0.1),
    )
