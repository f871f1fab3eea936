"""Large zeroed memory is taken late and given back early."""

import torch

from agentrft.models.memory import LazyZeros

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
