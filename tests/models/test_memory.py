"""Large zeroed memory is taken late and given back early."""

import torch

from agentrft.models.memory import LazyZeros, ReleasableZeros

SIZE = 64 << 20


def resident_bytes() -> int:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def test_memory_is_taken_on_first_use_and_given_back() -> None:
    before = resident_bytes()
    zeros = LazyZeros((16, SIZE // 16), torch.uint8)
    assert resident_bytes() - before < SIZE // 4
    zeros.tensor[3:] = 7
    assert resident_bytes() - before > SIZE // 2
    zeros.clear()
    assert resident_bytes() - before < SIZE // 4
    assert not zeros.tensor.any()


def test_a_devices_memory_is_given_back_and_taken_again_under_the_same_views() -> None:
    # To the allocator, that is: whether a CPU's gives it back to the system depends on what ran before.
    zeros = ReleasableZeros((16, SIZE // 16), torch.uint8, torch.device("cpu"))
    view = zeros.tensor[3:, :5].view(13, 5)
    zeros.tensor.fill_(7)
    assert zeros.tensor.untyped_storage().nbytes() == SIZE
    zeros.clear()
    assert zeros.tensor.untyped_storage().nbytes() == 0
    zeros.ready()
    assert not zeros.tensor.any() and not view.any()
    view[0, 0] = 9
    assert zeros.tensor[3, 0] == 9
    zeros.ready()
    assert zeros.tensor[3, 0] == 9, "what was not given back stays"
