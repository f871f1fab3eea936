"""Keeping freed memory for the next pass."""

import ctypes
import functools
import sys

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
