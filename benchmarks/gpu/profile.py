"""Where a device's time goes, kernel by kernel: what whoever makes it faster reads first."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.findings import Findings, Setting

MOST_KERNELS = 15


@contextmanager
def profiled(setting: Setting, findings: Findings, name: str) -> Iterator[None]:
    """Note the operators and kernels that take most, and how much of the time the device had work."""
    on_gpu = setting.device.type == "cuda"
    setting.wait()
    started = time.perf_counter()
    # Of an update on a GPU the operators are a million, whose summing up takes a minute; its kernels are fewer.
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        yield
        setting.wait()
    seconds = time.perf_counter() - started

    def own_us(event: Any) -> float:
        return event.self_device_time_total if on_gpu else event.self_cpu_time_total

    # On a GPU operators are listed beside the kernels that they start; only these have the device's own time.
    events = [event for event in seen.key_averages() if not on_gpu or str(event.device_type).endswith("CUDA")]
    top = sorted(events, key=own_us, reverse=True)[:MOST_KERNELS]
    busy_ms = sum(map(own_us, events)) / 1000
    findings.note(
        **{
            name: {
                "wall_ms": 1000 * seconds,
                "busy_ms": busy_ms,
                "calls": sum(event.count for event in events),
                "top": [{"name": e.key[:120], "calls": e.count, "ms": own_us(e) / 1000} for e in top],
            }
        }
    )
