"""What a device's memory holds now, and at most since it was last asked."""

import contextlib
from pathlib import Path

import torch


class DeviceMemory:
    """In bytes: what PyTorch has given out on a GPU; on a CPU what the whole process has."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    @property
    def used(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return _of_process("VmRSS:")

    @property
    def peak(self) -> int:
        """Since `begin`."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return _of_process("VmHWM:")

    def begin(self) -> None:
        """Count the peak from here, and give back what nobody uses."""
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            return
        # Where the system does not let a process do this, the peak is that of its whole life.
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _of_process(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
