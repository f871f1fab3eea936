"""Compiling the C++ files beside this one for this very processor, once, into the cache folder."""

import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

from agentrft.models.catalog import cache_folder

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent
SOURCES, HEADERS = sorted(FOLDER.glob("*.cpp")), sorted(FOLDER.glob("*.h"))
FLAGS = ("-std=c++17", "-O3", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
COMPILE_TIMEOUT_S = 120.0


def build(machine: str = "native") -> Path | None:
    """The compiled library; None where it cannot be had, with the reason in the log.

    Args:
        machine: the compiler's name of the processor to compile for.
    """
    compiler = shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")
    if platform.system() != "Linux" or compiler is None:
        logger.info("no C++ compiler: generation on this CPU runs without its own kernels, which is slower")
        return None
    library = cache_folder() / "kernels" / _fingerprint(compiler, machine) / "kernels.so"
    if not library.is_file():
        try:
            _compile(compiler, machine, library)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error)
            logger.warning("the CPU kernels do not compile, so generation is slower: %s", said.strip()[-500:])
            return None
    return library


def _compile(compiler: str, machine: str, library: Path) -> None:
    """Compile beside the library, then rename it, so that no process ever loads half of one."""
    library.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        partial = Path(folder, library.name)
        command = [compiler, *FLAGS, f"-march={machine}", "-o", str(partial), *map(str, SOURCES)]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=COMPILE_TIMEOUT_S)
        partial.replace(library)


def _fingerprint(compiler: str, machine: str) -> str:
    """Of all that the library depends on: a cache folder can be shared by machines with different processors."""
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    flags = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith(("flags", "Features"))
    )
    told = "\n".join([version, machine, flags, *FLAGS]).encode() + b"".join(
        file.read_bytes() for file in (*HEADERS, *SOURCES)
    )
    return hashlib.sha256(told).hexdigest()[:16]
