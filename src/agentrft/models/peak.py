"""What this machine can do at most: the rate of one large matrix product."""

import functools
import time

import torch

SIZE = {"cpu": 2048}
SIZE_ELSEWHERE = 8192
REPETITIONS = 5


@functools.cache
def matmul_flops_per_s(dtype: torch.dtype, device: torch.device) -> float:
    """FLOP/s of the best of a few square products; measured once, which takes a tenth of a second."""
    size = SIZE.get(device.type, SIZE_ELSEWHERE)
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    torch.matmul(left, right)
    best = min(_seconds(left, right) for _ in range(REPETITIONS))
    return 2 * size**3 / best


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    _wait_for(left.device)
    started = time.perf_counter()
    torch.matmul(left, right)
    _wait_for(left.device)
    return time.perf_counter() - started


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
