"""What GPUs have and can do at most, by the names that commands take."""

from dataclasses import dataclass

from agentrft.errors import UserError


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Attributes:
        memory: bytes, as PyTorch says them.
        bandwidth: bytes/s of its memory.
        flops: FLOP/s of dense bfloat16 products summed in float32.
        link: bytes/s to the other GPUs of its node, one way.
        network: bytes/s to other nodes, one way; what nodes of such GPUs usually have.
    """

    memory: int
    bandwidth: float
    flops: float
    link: float
    network: float


# Rates are of NVIDIA's data sheets, where a product with sparsity counts twice; memory is what PyTorch says of them.
# https://resources.nvidia.com/en-us-gpu-resources/h100-datasheet-24306
# https://www.nvidia.com/en-us/data-center/h200/
# https://www.nvidia.com/content/dam/en-zz/Solutions/Data-Center/a100/pdf/nvidia-a100-datasheet.pdf
# https://resources.nvidia.com/en-us-dgx-systems/dgx-b200-datasheet
# https://resources.nvidia.com/en-us-l40s/l40s-datasheet-28413
# https://resources.nvidia.com/en-us-data-center-overview/l4-gpu-datasheet
# https://images.nvidia.com/aem-dam/Solutions/geforce/ada/nvidia-ada-gpu-architecture.pdf
# https://images.nvidia.com/aem-dam/Solutions/geforce/blackwell/nvidia-rtx-blackwell-gpu-architecture.pdf
# Networks: a DGX H100, H200 or B200 has 400 Gbit/s for each GPU, a DGX A100 200; the others are assumed to have 100.
GPUS = {
    "4090": Gpu(25_300_000_000, 1.008e12, 165.2e12, 25e9, 12.5e9),
    "5090": Gpu(33_600_000_000, 1.792e12, 209.5e12, 50e9, 12.5e9),
    "a100-40g": Gpu(42_300_000_000, 1.555e12, 312e12, 300e9, 25e9),
    "a100": Gpu(85_000_000_000, 2.039e12, 312e12, 300e9, 25e9),
    "b200": Gpu(191_000_000_000, 8.0e12, 2250e12, 900e9, 50e9),
    "h100": Gpu(85_000_000_000, 3.35e12, 989e12, 450e9, 50e9),
    "h200": Gpu(150_000_000_000, 4.8e12, 989e12, 450e9, 50e9),
    "l4": Gpu(23_600_000_000, 0.300e12, 121e12, 25e9, 12.5e9),
    "l40s": Gpu(47_700_000_000, 0.864e12, 362e12, 25e9, 12.5e9),
}


def find_gpu(name: str) -> Gpu:
    """The GPU of that name.

    Raises:
        UserError: there is none; it lists them.
    """
    if name not in GPUS:
        raise UserError(f"--gpu: '{name}' is not known.", f"Name one of {', '.join(sorted(GPUS))}.")
    return GPUS[name]
