"""Memory: what a CPU freed is kept for the next pass, large zeros can be given back, and running out is told."""

import ctypes
import functools
import math
import mmap
import os
import sys
from collections.abc import Callable, Sequence

import torch

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc reuse the buffers of one pass for the next instead of giving them back to the system.

    By default every activation above a few MB is mapped anew and its pages are zeroed on first use, and what a thread
    other than the main one frees is given back sooner still: a quarter of an update's time. The price is that the
    process stays as large as it ever was. Without glibc nothing happens.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_TRIM_THRESHOLD, -1)
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)


class LazyZeros:
    """Zeros on the CPU, whose memory is taken where and when it is first written to.

    In huge pages where the system has them: reading a key-value cache is then a sixth faster.

    Attributes:
        tensor: the zeros.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype) -> None:
        size = math.prod(shape)
        self._memory = mmap.mmap(-1, size * dtype.itemsize, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._advise("MADV_HUGEPAGE")
        self.tensor = torch.frombuffer(self._memory, dtype=dtype, count=size).view(*shape)

    def clear(self) -> None:
        """Make it all zeros again, and give its memory back where the system can take it."""
        if not self._advise("MADV_DONTNEED"):
            self.tensor.zero_()

    def ready(self) -> None:
        """Nothing: what was given back comes by itself."""

    def _advise(self, name: str) -> bool:
        advice = getattr(mmap, name, None)
        if advice is None or not sys.platform.startswith("linux"):
            return False
        try:
            self._memory.madvise(advice)
        except OSError:
            return False
        return True


def most_tokens_within(budget: int, bytes_of: Callable[[int], int], *, most: int) -> int:
    """The longest sequence, up to `most` tokens, of which `bytes_of` (a function that never falls) is within budget."""
    low, high = 0, most
    while low < high:
        middle = -(-(low + high) // 2)
        if bytes_of(middle) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


class ReleasableZeros:
    """Zeros on any device, whose memory can be given back for a while.

    Attributes:
        tensor: the zeros. Between `clear` and `ready` neither it nor any view of it may be used.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> None:
        self.tensor = torch.zeros(*shape, dtype=dtype, device=device)
        self._bytes = self.tensor.untyped_storage().nbytes()

    def clear(self) -> None:
        """Give its memory back, to PyTorch's own allocator at least."""
        self.tensor.untyped_storage().resize_(0)

    def ready(self) -> None:
        """Take the memory again, all zeros, if it was given back. Views of the tensor stay what they were."""
        storage = self.tensor.untyped_storage()
        if storage.nbytes() < self._bytes:
            storage.resize_(self._bytes)
            self.tensor.zero_()


# What PyTorch says of a CPU's memory.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of a GPU or of the machine; PyTorch's allocator for CPUs has no error of its own."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and (
        "can't allocate memory" in str(error) or "not enough memory" in str(error)
    )


def device_memory(device: torch.device) -> int:
    """Bytes that the device has in all, free or not."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
