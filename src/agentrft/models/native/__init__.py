"""Operators on a CPU, for bfloat16 and for paged caches, written in C++ and compiled on the machine that runs them.

Where there is no compiler everything is computed by PyTorch, with the same results and more slowly.
"""

from agentrft.models.native.build import build
from agentrft.models.native.cache_kernels import CacheKernels, cache_kernels_for
from agentrft.models.native.kernels import Kernels, TreeLayout, kernels_for, load_kernels

__all__ = ["CacheKernels", "Kernels", "TreeLayout", "build", "cache_kernels_for", "kernels_for", "load_kernels"]
