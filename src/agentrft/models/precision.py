"""Computing with a model in float32 whose weights stay as they are, without room for a second copy of them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from agentrft.models.planned import text_decoder


@contextmanager
def in_float32(model: PreTrainedModel) -> Iterator[None]:
    """Every pass through the model computes in float32; a decoder layer's weights are that wide only while it runs.

    Afterwards each weight is the same tensor over the same memory as before.
    """
    decoder = text_decoder(model)
    layers = [module for module in decoder.modules() if isinstance(module, GradientCheckpointingLayer)]
    in_layers = {id(tensor) for layer in layers for tensor in _rounded(layer)}
    with ExitStack() as stack:
        for layer in layers:
            stack.enter_context(_widened_in_passes(layer))
        stack.enter_context(_widened(tensor for tensor in _rounded(model) if id(tensor) not in in_layers))
        yield


def _rounded(module: nn.Module) -> list[Tensor]:
    """Its weights and buffers of less precision than float32; tied ones once."""
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    return [tensor for tensor in tensors.values() if tensor.dtype in (torch.bfloat16, torch.float16)]


@contextmanager
def _widened(tensors: Iterable[Tensor]) -> Iterator[None]:
    before = [(tensor, tensor.data) for tensor in tensors]
    try:
        for tensor, data in before:
            tensor.data = data.float()
        yield
    finally:
        for tensor, data in before:
            tensor.data = data


@contextmanager
def _widened_in_passes(layer: nn.Module) -> Iterator[None]:
    running: list[ExitStack] = []

    def enter(*_: object) -> None:
        stack = ExitStack()
        stack.enter_context(_widened(_rounded(layer)))
        running.append(stack)

    def leave(*_: object) -> None:
        running.pop().close()

    hooks = [layer.register_forward_pre_hook(enter), layer.register_forward_hook(leave)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        # A pass that ended in an error left it.
        while running:
            leave()
