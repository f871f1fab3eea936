"""What a model is here, before anything is made of it: its chat, how it is computed, and the memory that it takes."""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from agentrft.chat import load_codec
from agentrft.chat.proof import CodecProof
from agentrft.errors import UserError
from agentrft.job.memory_needs import MemoryNeeds, memory_needs
from agentrft.models import ModelSource
from agentrft.models.architecture import Architecture, inspect_architecture
from agentrft.models.gpus import find_gpu
from agentrft.models.load import dtype_on, load_config, load_tokenizer_and_texts
from agentrft.models.memory import device_memory

DEFAULT_CONTEXT_TOKENS = 8192


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        architecture: None where it is refused.
        chat: what is known of its codec; None where it is refused.
        texts: tokens of the chat template that the model never learned, and that are written as text.
        needs: of memory, on `device`; None without an architecture.
        context_tokens: of the rollouts that `needs` counts.
        refusals: what it cannot be used for, and what to take instead.
    """

    model: str
    device: str
    context_tokens: int
    architecture: Architecture | None
    chat: CodecProof | None
    texts: list[str]
    needs: MemoryNeeds | None
    refusals: list[UserError]

    def as_dict(self) -> dict[str, Any]:
        architecture, needs = self.architecture, self.needs
        return {
            "model": self.model,
            "device": self.device,
            "context_tokens": self.context_tokens,
            "architecture": None if architecture is None else _architecture(architecture),
            "chat": None if self.chat is None else {k: v for k, v in asdict(self.chat).items() if k != "blocked"},
            "written_as_text": self.texts,
            "memory": None if needs is None else {**asdict(needs), "total": needs.total, "fits": needs.fits},
            "refused": [{"cause": one.cause, "remedy": one.remedy} for one in self.refusals],
        }


def inspect_model(
    source: ModelSource, *, gpu: str | None, context_tokens: int | None, rollouts: int, lora_rank: int | None
) -> Inspection:
    """Look at a model's configuration and tokenizer. Its weights are not loaded.

    Args:
        gpu: one of `models.gpus`; None for this machine.
        context_tokens: of a rollout; None for what the model takes, up to `DEFAULT_CONTEXT_TOKENS`.
        rollouts: at once.
        lora_rank: None trains all weights.

    Raises:
        UserError: the model cannot be had, or there is no such GPU.
    """
    known = None if gpu is None else find_gpu(gpu)
    config = load_config(source)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    refusals: list[UserError] = []
    architecture, needs, chat = None, None, None
    texts: list[str] = []
    context = context_tokens or DEFAULT_CONTEXT_TOKENS
    try:
        architecture = inspect_architecture(config, torch.bfloat16 if gpu else dtype_on(device, "auto"))
        if context_tokens is None and architecture.context_tokens is not None:
            context = min(context, architecture.context_tokens)
        needs = memory_needs(
            architecture,
            memory=known.memory if known else device_memory(device),
            on_cpu=gpu is None and device.type == "cpu",
            context_tokens=context,
            rollouts=rollouts,
            lora_rank=lora_rank,
        )
    except UserError as error:
        refusals.append(error)
    try:
        tokenizer, texts = load_tokenizer_and_texts(source)
        chat = load_codec(tokenizer, source.path_or_id).proof
    except UserError as error:
        refusals.append(error)
    return Inspection(source.name, gpu or f"this {device.type}", context, architecture, chat, texts, needs, refusals)


def _architecture(architecture: Architecture) -> dict[str, Any]:
    shapes = architecture.cache_shapes
    windows = [shape.window for shape in shapes.keys.values() if shape.window is not None]
    return {
        "family": architecture.family,
        "path": architecture.path,
        "parameters": architecture.parameters,
        "context_tokens": architecture.context_tokens,
        "attention_layers": len(shapes.keys),
        "recurrent_layers": len(shapes.states),
        "window_tokens": max(windows, default=None),
        "experts_per_token": None if architecture.experts is None else architecture.experts.per_token,
        "lora_layers": architecture.lora_layers,
        "lora_expert_parameters": 0 if architecture.experts is None else architecture.experts.parameters,
        "kv_numbers_per_token": shapes.elements_per_token,
        "state_bytes": shapes.state_bytes,
    }
