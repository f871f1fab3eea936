"""The policy: the model being trained, as LoRA adapters on frozen weights or as all of its weights."""

import warnings
from collections.abc import Callable, Iterator

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

LORA_TARGETS = "all-linear"
LORA_ALPHA_PER_RANK = 2


class Policy:
    """A model with its trainable weights and their float32 masters.

    In bfloat16 an update of 1e-4 of a weight's size would be rounded away, so the optimizer works on float32
    masters; the model's own weights are their rounded copies, and gradients are accumulated in float32.

    Args:
        model: with planned attention; it is wrapped in place.
        lora_rank: None trains all weights.
        seed: of the adapters' initial values.
    """

    def __init__(self, model: PreTrainedModel, *, lora_rank: int | None, seed: int) -> None:
        self.lora_rank = lora_rank
        self.version = 0
        if lora_rank is None:
            self.model: nn.Module = model
            model.requires_grad_(True)
        else:
            config = LoraConfig(
                r=lora_rank, lora_alpha=LORA_ALPHA_PER_RANK * lora_rank, target_modules=LORA_TARGETS, lora_dropout=0.0,
                task_type="CAUSAL_LM",
            )  # fmt: skip
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                # peft still asks for a property that transformers renamed.
                warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
                torch.manual_seed(seed)
                self.model = get_peft_model(model, config, autocast_adapter_dtype=False)
        self.model.eval()
        self._trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self._masters = {name: p.detach().float().clone() for name, p in self._trainable.items()}
        for name, parameter in self._trainable.items():
            master = self._masters[name]
            master.grad = torch.zeros_like(master)
            parameter.register_post_accumulate_grad_hook(_move_gradient_to(master))

    @property
    def masters(self) -> list[Tensor]:
        """What the optimizer steps on, in a fixed order; `.grad` is always allocated."""
        return list(self._masters.values())

    def publish_masters(self) -> None:
        """Round the masters into the model."""
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                parameter.copy_(self._masters[name])

    def master_state(self) -> dict[str, Tensor]:
        """Copies of the masters on the CPU, by the name of their weight."""
        return {name: master.detach().to("cpu", copy=True) for name, master in self._masters.items()}

    def load_master_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of `master_state`.

        Raises:
            ValueError: the state belongs to other weights.
        """
        if state.keys() != self._masters.keys():
            raise ValueError("the trainable weights are not this policy's")
        for name, master in self._masters.items():
            if state[name].shape != master.shape:
                raise ValueError(f"{name} has shape {list(state[name].shape)}, not {list(master.shape)}")
        for name, master in self._masters.items():
            master.data.copy_(state[name])
        self.publish_masters()

    def writer_for_engine(self) -> Callable[[PreTrainedModel], None]:
        """A function that writes the current policy into a model of the same architecture without adapters."""
        return self._write_merged

    @torch.no_grad()
    def _write_merged(self, target: PreTrainedModel) -> None:
        if not isinstance(self.model, PeftModel):
            for (_, own), (_, other) in zip(self.model.named_parameters(), target.named_parameters(), strict=True):
                other.copy_(own)
            return
        modules = dict(target.named_modules())
        for name, base, delta in self._adapted_layers():
            modules[name].get_parameter("weight").copy_(base.get_parameter("weight").float() + delta)

    def _adapted_layers(self) -> Iterator[tuple[str, nn.Module, Tensor]]:
        """Name in the plain model, frozen layer and the float32 change that the adapter makes to its weight."""
        prefix = "base_model.model."
        for name, layer in self.model.named_modules():
            if isinstance(layer, LoraLayer):
                a = self._masters[f"{name}.lora_A.default.weight"]
                b = self._masters[f"{name}.lora_B.default.weight"]
                yield name.removeprefix(prefix), layer.get_base_layer(), (b @ a) * layer.scaling["default"]


def _move_gradient_to(master: Tensor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None and master.grad is not None:
            master.grad.add_(parameter.grad)
            parameter.grad = None

    return hook
