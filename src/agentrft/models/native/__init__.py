"""Operators for bfloat16 on a CPU, written in C++ and compiled on the machine that runs them.

Where there is no compiler everything is computed by PyTorch, with the same results and more slowly.
"""

from agentrft.models.native.build import build
from agentrft.models.native.kernels import Kernels, TreeLayout, kernels_for, load_kernels

__all__ = ["Kernels", "TreeLayout", "build", "kernels_for", "load_kernels"]
