"""Random LoRA adapters of a tiny model: as PEFT computes them, and as our model does."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from agentrft.models.lora import LoraAdapter
from agentrft.models.packed import PackedModel
from tests.tiny_model import TinyModel

ALL = "all-linear"


@dataclass(frozen=True)
class RandomAdapter:
    """`reference` is the plain model in PEFT's wrapper, with the adapter beside its weights."""

    reference: nn.Module
    layers: dict[str, tuple[Tensor, Tensor]]
    scale: float

    def on(self, model: PackedModel) -> LoraAdapter:
        return model.lora(self.layers, self.scale)


def random_adapter(
    model: TinyModel, rank: int, *, seed: int, rslora: bool = False, targets: str | Sequence[str] = ALL
) -> RandomAdapter:
    """An adapter that changes what the model says a lot."""
    chosen = targets if isinstance(targets, str) else list(targets)
    config = LoraConfig(r=rank, lora_alpha=3 * rank, use_rslora=rslora, target_modules=chosen, task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        reference = get_peft_model(copy.deepcopy(model.plain), config, autocast_adapter_dtype=False).eval()
        state = {}
        for name, parameter in reference.named_parameters():
            if "lora_" in name:
                parameter.data.normal_(0.0, (0.15 if rslora else 0.1) / rank**0.5)
                state[name.removeprefix("base_model.model.")] = parameter.detach().clone()
    names = sorted(name.split(".lora_A.")[0] for name in state if ".lora_A." in name)
    layers = {n: (state[f"{n}.lora_A.default.weight"], state[f"{n}.lora_B.default.weight"]) for n in names}
    return RandomAdapter(reference, layers, 3 * rank**0.5 if rslora else 3.0)
