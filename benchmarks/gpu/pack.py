"""python -m benchmarks.gpu.pack FOLDER: what agentrft needs beside torch and transformers, as wheels to take along.

For a machine without a network. Versions are those of this environment; what a machine for models has anyway, and what
would not fit into what can be taken along, is left out.
"""

import os
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

PYTHON = os.environ.get("PACK_PYTHON", "3.12")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# Beside a checkout of a few MB this is what fits into 64 MiB.
MOST_BYTES = 56 << 20
# What torch, transformers and peft come with, and what of agentrft's a random model has no use for. PyArrow alone is
# 55 MB: where there is none, rollouts are kept in another form (`standins`).
THERE = {
    "torch",
    "transformers",
    "peft",
    "triton",
    "numpy",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "hf-xet",
    "accelerate",
    "psutil",
    "regex",
    "sympy",
    "mpmath",
    "networkx",
    "setuptools",
    "filelock",
    "fsspec",
    "jinja2",
    "markupsafe",
    "packaging",
    "pyyaml",
    "tqdm",
}
LEFT_OUT = THERE | {"agentrft", "gguf", "pyarrow"}


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.whl"):
        old.unlink()
    wanted = sorted(f"{name}=={distribution(name).version}" for name in needed("agentrft") - LEFT_OUT)
    platforms = [argument for platform in PLATFORMS for argument in ("--platform", platform)]
    only = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp", *platforms]
    subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", *only, "-d", str(folder), *wanted], check=True)
    size = sum(wheel.stat().st_size for wheel in folder.glob("*.whl"))
    print(f"{len(wanted)} wheels for Python {PYTHON} in {folder}, {size / (1 << 20):.0f} MiB")
    if size > MOST_BYTES:
        sys.exit(f"That is more than the {MOST_BYTES >> 20} MiB that can be taken along.")


def needed(name: str) -> set[str]:
    """A distribution and all that it needs, of what is installed here; the rest is no dependency on this system."""
    found: set[str] = set()
    left = [name]
    while left:
        own = re.sub(r"[-_.]+", "-", left.pop()).lower()
        if own in found:
            continue
        try:
            requirements = [Requirement(text) for text in distribution(own).requires or []]
        except PackageNotFoundError:
            continue
        found.add(own)
        left += [one.name for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


if __name__ == "__main__":
    main()
