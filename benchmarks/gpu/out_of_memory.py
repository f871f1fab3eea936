"""An update whose pass the device has no room for: it is halved, and ends with the same gradient."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from agentrft.learner import Learner, Policy, UpdateMetrics
from agentrft.models.memory import device_memory
from agentrft.models.packed import PackedModel
from benchmarks.gpu.device_memory import DeviceMemory
from benchmarks.gpu.findings import Findings, Setting
from benchmarks.gpu.gradients import only_gradient, relative_difference
from benchmarks.gpu.models import shape, shaped_model
from benchmarks.gpu.updating import LORA_RANK, Load, group_of

# Of what a pass took that had room.
SHARE = 0.6
# In float32, where only the order of sums differs.
RELATIVE = 1e-4


def run(setting: Setting, findings: Findings) -> None:
    """The same update with room for it and without."""
    assert setting.model is not None
    load = Load(32, 4, 8, 12) if setting.small else Load(2048, 256, 512, 1024)
    memory = DeviceMemory(setting.device)
    with _updated(setting, load) as (whole, expected, seconds):
        before, peak = memory.used, memory.peak
        findings.note(seconds_with_room=seconds, peak_bytes=peak, passes_with_room=whole.passes)
    room = before + int(SHARE * (peak - before))
    with _room_for(setting, room, load), _updated(setting, load) as (halved, found, seconds):
        findings.note(seconds_without=seconds, room_bytes=room, passes_without=halved.passes)
        findings.note(passes_halved=halved.passes_halved, unique_tokens=halved.unique_tokens)
    findings.check("out of memory: updates that were not halved", float(not halved.passes_halved), at_most=0.0)
    difference = relative_difference(found, expected)
    findings.check("out of memory: gradient of halves", difference, at_most=RELATIVE)


@contextmanager
def _updated(setting: Setting, load: Load) -> Iterator[tuple[UpdateMetrics, Tensor, float]]:
    """A policy in float32 after one update, its gradient, and how long it took; while this lasts it is in memory."""
    DeviceMemory(setting.device).begin()
    torch.manual_seed(0)
    policy = Policy(shaped_model(str(setting.model), torch.float32, setting.device), lora_rank=LORA_RANK, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-5, temperature=1.0, max_grad_norm=1e9)
    group = group_of(load, shape(str(setting.model)).vocab_size)
    started = time.perf_counter()
    metrics = learner.update(learner.plan([group]))
    setting.wait()
    seconds = time.perf_counter() - started
    yield metrics, only_gradient(learner), seconds


@contextmanager
def _room_for(setting: Setting, size: int, load: Load) -> Iterator[None]:
    """No more memory than this, in bytes; a CPU fails on more than half of the load's tokens instead."""
    if setting.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(size / device_memory(setting.device), setting.device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, setting.device)
        return
    trunk: Callable[..., Tensor] = PackedModel.trunk

    def limited(self: PackedModel, ids: Tensor, *arguments: Any, **options: Any) -> Tensor:
        if torch.is_grad_enabled() and len(ids) > load.unique_tokens / 2:
            raise torch.OutOfMemoryError("there is room for half of it")
        return trunk(self, ids, *arguments, **options)

    PackedModel.trunk = limited  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        PackedModel.trunk = trunk  # pyright: ignore[reportAttributeAccessIssue]
