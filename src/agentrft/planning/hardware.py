"""What a job runs on: a GPU of the table, or this machine with its rates as they are measured now."""

import time
from dataclasses import dataclass

import torch

from agentrft.models.gpus import find_gpu
from agentrft.models.memory import device_memory
from agentrft.models.peak import matmul_flops_per_s

COPY_BYTES = 1 << 28
COPIES = 5


@dataclass(frozen=True)
class Device:
    """One device, or a machine without a GPU.

    Attributes:
        name: as the user gave it; "this machine" where nothing was given.
        memory: in bytes.
        bandwidth: bytes/s of its memory.
        flops: FLOP/s of large products in the data type that a job has there.
        link, network: bytes/s to other devices of the node, and to other nodes.
        itemsize: bytes of a weight in that data type.
        is_cpu: whether it is a processor.
        measured: whether the rates were measured here; else they are of a data sheet.
    """

    name: str
    memory: int
    bandwidth: float
    flops: float
    link: float
    network: float
    itemsize: int = 2
    is_cpu: bool = False
    measured: bool = False


def gpu_device(name: str, *, float32: bool = False) -> Device:
    """A GPU of the table, at the rates of its data sheet.

    Args:
        float32: whether a job's weights are; products of them run at half the bfloat16 rate at best (TF32).

    Raises:
        UserError: there is none of that name.
    """
    gpu = find_gpu(name)
    flops = gpu.flops / 2 if float32 else gpu.flops
    return Device(name, gpu.memory, gpu.bandwidth, flops, gpu.link, gpu.network, itemsize=4 if float32 else 2)


def this_machine(device: torch.device, dtype: torch.dtype) -> Device:
    """A device of this machine, with rates measured now: that takes a second.

    Args:
        dtype: of a job's weights there.
    """
    bandwidth = copy_bytes_per_s(device)
    return Device(
        "this machine",
        device_memory(device),
        bandwidth,
        matmul_flops_per_s(dtype, device),
        # A second device is reached over PCIe, or over memory.
        link=min(bandwidth, 25e9),
        network=1.25e9,
        itemsize=dtype.itemsize,
        is_cpu=device.type == "cpu",
        measured=True,
    )


def copy_bytes_per_s(device: torch.device) -> float:
    """Bytes that a large copy reads and writes each second, at best."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(COPIES):
        started = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - started)
    return 2 * COPY_BYTES / best
