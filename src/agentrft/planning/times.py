"""How long a step takes, part by part: rollouts, the update, and the way of new weights to the engines."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from agentrft.job.training_state import TrainingState
from agentrft.planning.efficiency import (
    DISK_BYTES_PER_S,
    PUBLISH_PASSES,
    PUBLISHED_SEND_BYTES_PER_S,
    PUBLISHED_SEND_S,
    SERVER_LOAD_S,
    SLEEP_S,
    LearnerRates,
)
from agentrft.planning.generation import Engines, GenerationTimes, generation_times
from agentrft.planning.hardware import Device
from agentrft.planning.model import PlannedModel
from agentrft.planning.workload import Workload

Publishing = Literal["in_process", "files", "links"]


@dataclass(frozen=True)
class Ranks:
    """What updates the weights.

    Attributes:
        count: devices, with a part of the tokens each.
        rates: of the learner.
        recomputes: whether a pass computes its layers again in the backward pass.
        crosses_nodes: whether they are on several nodes.
        shards_base: whether each has a part of the frozen weights under adapters; of all weights that are trained each
            has a part anyway.
    """

    count: int
    rates: LearnerRates
    recomputes: bool = False
    crosses_nodes: bool = False
    shards_base: bool = False


@dataclass(frozen=True)
class StepTimes:
    """Of one step, in seconds.

    Attributes:
        rollouts: of generation, tools and graders.
        update: of passes, their communication and the optimizer.
        publish: until engines sample from the new weights.
        overlaps: whether rollouts of the next step run during the update.
        shared: whether both are on the same devices.
    """

    rollouts: GenerationTimes
    update: float
    publish: float
    overlaps: bool
    shared: bool

    @property
    def total(self) -> float:
        """From step to step."""
        if not self.overlaps:
            return self.rollouts.total + self.update + self.publish
        if self.shared:
            # They take turns on the device; what overlaps is waiting for tools and graders.
            return max(self.rollouts.total, self.rollouts.engine + self.update) + self.publish
        return max(self.rollouts.total, self.update) + self.publish

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "rollouts": self.rollouts.as_dict(), "total": self.total}


def step_times(
    model: PlannedModel,
    work: Workload,
    device: Device,
    *,
    engines: Engines,
    ranks: Ranks,
    shared: bool,
    publishing: Publishing,
    sleeps: bool,
) -> StepTimes:
    """Of one step.

    Args:
        shared: whether engines and learner are on the same devices.
        sleeps: whether engines give their memory back during updates, and take it again.
    """
    publish = publish_s(model, device, publishing, apart=not shared) + (SLEEP_S if sleeps else 0.0)
    rollouts = generation_times(model, work, engines, device)
    return StepTimes(rollouts, update_s(model, work, device, ranks), publish, work.runs_ahead, shared)


def update_flops_of(model: PlannedModel, work: Workload) -> float:
    """What `learner.flops` counts, of the step's mean rollouts: forward and backward of every epoch, and passes without
    gradient."""
    costs, passes = model.costs, 6 if model.lora_rank is None else 4
    linear = costs.weights * work.unique_tokens + model.head_weights * work.predictions
    attention = costs.pair_products * work.visible_pairs
    return work.update_epochs * (passes * linear + 6 * attention) + work.extra_forwards * 2 * (linear + attention)


def update_s(model: PlannedModel, work: Workload, device: Device, ranks: Ranks) -> float:
    """Passes, with weights gathered and gradients summed meanwhile, and the optimizer."""
    flops = update_flops_of(model, work)
    if ranks.recomputes:
        again = 2 * (model.costs.weights * work.unique_tokens + model.costs.pair_products * work.visible_pairs)
        flops += work.update_epochs * again
    products_s = flops / (device.flops * ranks.rates.flops_share * ranks.count)
    steps = work.minibatches * work.update_epochs
    return max(products_s, steps * _moved_s(model, device, ranks)) + steps * _optimizer_s(model, device, ranks)


def _moved_s(model: PlannedModel, device: Device, ranks: Ranks) -> float:
    """Of a minibatch, between the ranks: weights gathered for forward and backward, where each has a part of them, and
    gradients scattered; those of adapters are summed in float32, which every rank gets."""
    if ranks.count == 1:
        return 0.0
    rate = (device.network if ranks.crosses_nodes else device.link) * ranks.rates.link_share
    all_weights = model.lora_rank is None
    gathered = 2 * model.weights if all_weights or ranks.shards_base else 0
    gradients = model.trained * (model.itemsize if all_weights else 2 * torch.float32.itemsize)
    return (ranks.count - 1) / ranks.count * (gathered + gradients) / rate


def _optimizer_s(model: PlannedModel, device: Device, ranks: Ranks) -> float:
    """Masters and moments are read and written, gradients read, cut and cleared, and weights written; each rank has its
    part of all weights, and all of the adapters."""
    state = TrainingState.of(model.trained, model.dtype, all_weights=model.lora_rank is None)
    moved = 2 * (state.masters + state.optimizer) + 4 * state.gradients + state.weights
    return moved / (ranks.count if state.all_weights else 1) / (device.bandwidth * ranks.rates.bandwidth_share)


def publish_s(model: PlannedModel, device: Device, publishing: Publishing, *, apart: bool) -> float:
    """New weights to the engines: merged in memory and copied to other devices, through files, or over links.

    Args:
        apart: whether engines are on other devices.
    """
    if publishing == "in_process":
        copied = model.weights / device.link if apart else 0.0
        return PUBLISH_PASSES * model.weights / device.bandwidth + copied
    if publishing == "links":
        return PUBLISHED_SEND_S + model.weights / PUBLISHED_SEND_BYTES_PER_S
    written = model.trained * model.itemsize
    return 2 * written / DISK_BYTES_PER_S + SERVER_LOAD_S
