"""The policy: the model being trained, as LoRA adapters on frozen weights or as all of its weights."""

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from agentrft.learner.ranks.collective import Collective
from agentrft.models.experts import (
    ExpertAdapter,
    adopt_expert_adapters,
    expert_rank,
    expert_weights,
    experts_per_token,
    short_name,
)
from agentrft.models.forward import Forward, TransformersForward, forward_of
from agentrft.models.lora_targets import lora_targets
from agentrft.models.merging import merged
from agentrft.models.packed import PackedModel
from agentrft.models.planned import text_config
from agentrft.models.projections import Adapter

LORA_ALPHA_PER_RANK = 2


class Followers(Protocol):
    """Other ranks with the same policy, which do what this one does."""

    def load_masters(self, state: Mapping[str, Tensor]) -> None:
        """Take these for their masters."""
        ...

    def helping_to_gather(self) -> AbstractContextManager[None]:
        """While they take part in gathering all weights, which this rank does meanwhile."""
        ...


class Nobody:
    """There are no other ranks."""

    def load_masters(self, state: Mapping[str, Tensor]) -> None:
        """See `Followers`."""

    def helping_to_gather(self) -> AbstractContextManager[None]:
        """See `Followers`."""
        return nullcontext()


class Policy:
    """A model with its trainable weights and their float32 masters.

    In bfloat16 an update of 1e-4 of a weight's size would be rounded away, so the optimizer works on float32
    masters; the model's own weights are their rounded copies, and gradients are accumulated in float32.

    Attributes:
        model: what is saved: transformers' model, in PEFT's wrapper where adapters are trained.
        forward: what computes the policy, with gradients that end in the masters.
        engine_forward: what an engine generates with. On the same device and with adapters on a supported model that is
            `forward` itself: nothing is copied, and both compute with the same merged and rounded weights.
        version: how many updates it has seen.
        most_tokens: unique tokens that a pass with gradients may have; None as long as no pass ran out of memory.
        followers: other ranks with the same policy.

    Args:
        model: with planned attention; it is wrapped in place.
        lora_rank: None trains all weights.
        lora_experts: whether the experts of a mixture get adapters, of a rank that makes those that a token meets one
            of `lora_rank` together (as in https://thinkingmachines.ai/blog/lora/).
        seed: of the adapters' initial values.
        engine_device: where the engine gets a copy of its own, which it generates with while this one is trained; None
            shares what can be shared.
        generates: whether there is an engine at all; without one nothing is copied.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        lora_rank: int | None,
        lora_experts: bool = True,
        seed: int,
        engine_device: torch.device | None = None,
        generates: bool = True,
    ) -> None:
        self.lora_rank = lora_rank
        self.version = 0
        self.most_tokens: int | None = None
        self.followers: Followers = Nobody()
        packs = lora_rank is not None and not self.is_sharded and PackedModel.supports(model)
        packed = PackedModel(model) if packs else None
        for_engine: Forward | None = packed
        if generates and (packed is None or engine_device is not None):
            own = copy.deepcopy(model)
            own.to(device=engine_device or own.device)  # pyright: ignore[reportCallIssue]  # as in Runtime
            for_engine = forward_of(own)
        if lora_rank is None:
            self.model: nn.Module = model
            model.requires_grad_(True)
        else:
            config = _lora_config(model, lora_rank, lora_experts)
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                # peft still asks for a property that transformers renamed.
                warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
                # It knows no weights but layers' where it looks which ranks are used, and yet uses them.
                warnings.filterwarnings("ignore", message=".*_pattern keys did not match", category=RuntimeWarning)
                torch.manual_seed(seed)
                self.model = get_peft_model(model, config, autocast_adapter_dtype=False)
            adopt_expert_adapters(self.model)
        self.model.eval()
        self._trainable = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        self._place_adapters()
        self._masters = {name: p.detach().float().clone() for name, p in self._trainable.items()}
        for name, parameter in self._trainable.items():
            master = self._masters[name]
            master.grad = torch.zeros_like(master)
            parameter.register_post_accumulate_grad_hook(_move_gradient_to(master))
        if packed is not None:
            self._adapt(packed)
        self.forward: Forward = packed or self._modules_forward()
        self.engine_forward: Forward = for_engine or self.forward

    def _place_adapters(self) -> None:
        """Where masters and gradients will be; with the rest of the model."""

    def _modules_forward(self) -> Forward:
        """What computes the model by its own modules."""
        forward = TransformersForward(self.model)
        forward.count_routing()
        return forward

    def _frozen(self, layer: LoraLayer) -> Tensor:
        """A layer's weight without its adapter."""
        return layer.get_base_layer().get_parameter("weight")

    @property
    def is_sharded(self) -> bool:
        """Whether each rank has a part of the model's weights, so that all ranks take part in every pass."""
        return False

    @property
    def masters(self) -> list[Tensor]:
        """What the optimizer steps on, in a fixed order; `.grad` is always allocated."""
        return list(self._masters.values())

    def add_up_gradients(self, collective: Collective) -> Tensor:
        """Make the masters' gradients the sums of all ranks' own; returns the norm of all of them."""
        gradients = [gradient_of(master) for master in self.masters]
        collective.add(gradients)
        return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(one) for one in gradients]))

    def whole(self, place: int, part: Tensor) -> Tensor:
        """Of what belongs to master number `place`, such as a moment of its gradient, a copy on the CPU.

        Args:
            part: what this rank has of it.
        """
        return part.detach().to("cpu", copy=True)

    def own_part(self, whole: Tensor) -> Tensor:
        """What this rank has of something that belongs to a master."""
        return whole

    def publish_masters(self) -> None:
        """Round the masters into the model."""
        with torch.no_grad():
            for name, parameter in self._trainable.items():
                parameter.copy_(self._masters[name])
            if isinstance(self.forward, PackedModel):
                self._write_merged(self.forward)

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
            own = self.own_part(state[name])
            if own.shape != master.shape:
                raise ValueError(f"{name} has shape {list(own.shape)}, not {list(master.shape)}")
        self._put([self.own_part(state[name]) for name in self._masters])
        self.followers.load_masters(state)

    def in_order(self, state: Mapping[str, Tensor]) -> list[Tensor]:
        """A `master_state`'s weights as `masters` has its own, in the same places."""
        return [self.own_part(state[name]).to(own.device, own.dtype) for name, own in self._masters.items()]

    @contextmanager
    def holding(self, masters: Sequence[Tensor]) -> Iterator[None]:
        """Other weights for a while; as `in_order` gives them."""
        own = [master.detach().clone() for master in self.masters]
        self._put(masters)
        try:
            yield
        finally:
            self._put(own)

    def help_gather(self) -> None:
        """Take part in another rank's gathering of all weights: nothing, as every rank has them."""

    def saved_weights(self) -> dict[str, Tensor] | None:
        """What is to be saved of `model` where that does not have it whole itself."""
        return None

    def _put(self, masters: Sequence[Tensor]) -> None:
        for own, other in zip(self.masters, masters, strict=True):
            own.data.copy_(other)
        self.publish_masters()

    def write_to(self, target: Forward) -> None:
        """Write the current policy into a model of the same architecture without adapters."""
        if target is not self.forward:
            self._write_merged(target)

    @torch.no_grad()
    def _write_merged(self, target: Forward) -> None:
        if not isinstance(self.model, PeftModel):
            for name, own in self.model.named_parameters():
                target.write(name, own)
            return
        for name, layer in self._adapted_layers():
            if isinstance(layer, ExpertAdapter):
                target.write(f"{_plain(name)}.{layer.parameter_name}", layer.merged_weight())
                continue
            up, down = self._trainable[_up(name)], self._trainable[_down(name)]
            target.write(f"{_plain(name)}.weight", merged(self._frozen(layer), up, down, layer.scaling["default"]))

    def _adapted_layers(self) -> Iterator[tuple[str, LoraLayer]]:
        """Name in the wrapped model, and layer."""
        for name, layer in self.model.named_modules():
            if isinstance(layer, LoraLayer):
                yield name, layer

    def _adapt(self, packed: PackedModel) -> None:
        """Let the packed model's gradients end in the masters."""
        for name, layer in self._adapted_layers():
            down, up = _down(name), _up(name)
            adapter = Adapter(
                slice(0),
                self._trainable[down].detach(),
                self._trainable[up].detach(),
                gradient_of(self._masters[down]),
                gradient_of(self._masters[up]),
                layer.scaling["default"],
            )
            packed.adapt(_plain(name), adapter)


def _lora_config(model: PreTrainedModel, rank: int, with_experts: bool) -> LoraConfig:
    experts = list(expert_weights(model)) if with_experts else []
    own = expert_rank(rank, experts_per_token(text_config(model)))
    others = {} if own == rank else dict.fromkeys(map(short_name, experts), own)
    return LoraConfig(
        r=rank,
        lora_alpha=LORA_ALPHA_PER_RANK * rank,
        target_modules=lora_targets(model),
        target_parameters=experts or None,
        rank_pattern=others,
        alpha_pattern={name: LORA_ALPHA_PER_RANK * own for name in others},
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )


def _plain(name: str) -> str:
    """A layer's name in the model without PEFT's wrappers."""
    parts = name.removeprefix("base_model.model.").split(".")
    return ".".join(part for part in parts if part != "base_layer")


def _down(name: str) -> str:
    return f"{name}.lora_A.default.weight"


def _up(name: str) -> str:
    return f"{name}.lora_B.default.weight"


def gradient_of(master: Tensor) -> Tensor:
    """The buffer that a master's gradient is added to."""
    if master.grad is None:
        raise RuntimeError("a master weight lost its gradient buffer")
    return master.grad


def _move_gradient_to(master: Tensor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        if parameter.grad is not None and master.grad is not None:
            master.grad.add_(parameter.grad)
            parameter.grad = None

    return hook
