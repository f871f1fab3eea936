"""What the machine can do at most: the rates that the other parts' numbers are shares of."""

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from agentrft.models.memory import device_memory
from agentrft.models.peak import matmul_flops_per_s
from benchmarks.gpu.findings import Findings, Setting

PACKAGES = ("torch", "transformers", "peft", "triton", "tokenizers", "numpy", "renderers")
COPIED_BYTES = {"cpu": 1 << 26, "cuda": 1 << 32}
REPETITIONS = 10


def run(setting: Setting, findings: Findings) -> None:
    """Card or processor, versions, bandwidth of memory, rate of matrix products."""
    device = setting.device
    findings.note(device=device_facts(device), versions=versions())
    findings.note(copy_bytes_per_s=copy_rate(setting), matmul_flops_per_s={})
    for dtype in (torch.bfloat16, torch.float32) if device.type == "cuda" else (torch.float32,):
        findings.note(matmul_flops_per_s={str(dtype).removeprefix("torch."): matmul_flops_per_s(dtype, device)})


def device_facts(device: torch.device) -> dict[str, Any]:
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    facts = {"type": device.type, "system": system, "memory_bytes": device_memory(device)}
    if device.type == "cpu":
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        return {**facts, "name": next(iter(names), "cpu"), "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        **facts,
        "name": properties.name,
        "multiprocessors": properties.multi_processor_count,
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


def versions() -> dict[str, str]:
    """Of what is installed of the packages that matter."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def copy_rate(setting: Setting) -> float:
    """Bytes read and written each second by the best copy of a large tensor."""
    size = COPIED_BYTES[setting.device.type]
    source = torch.zeros(size, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(REPETITIONS):
        setting.wait()
        started = time.perf_counter()
        target.copy_(source)
        setting.wait()
        best = min(best, time.perf_counter() - started)
    return 2 * size / best
