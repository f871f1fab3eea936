"""Counting what autograd keeps for a backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor


@contextmanager
def kept_for_backward(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[int, Tensor]]:
    """By the addresses of their memory: tensors that what runs inside keeps, also by hooks of its own."""
    kept: dict[int, Tensor] = {}
    hooks = torch.autograd.graph.saved_tensors_hooks

    def keep(tensor: Tensor) -> Tensor:
        # Held, so that no other tensor comes to stand in its place.
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    def counted(pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> Any:
        # Of hooks inside each other only the inner ones are asked.
        def pack_and_count(tensor: Tensor) -> Any:
            packed = pack(tensor)
            return keep(packed) if isinstance(packed, Tensor) else packed

        return hooks(pack_and_count, unpack)

    with monkeypatch.context() as patched, hooks(keep, lambda tensor: tensor):
        patched.setattr(torch.autograd.graph, "saved_tensors_hooks", counted)
        yield kept


def bytes_of(tensors: Iterator[Tensor]) -> int:
    """Of their whole memory."""
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)
