"""One real conversion of the built-in model for the tests of that; others have what `make setup` converted."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from agentrft.models.convert import ensure_smollm2
from agentrft.models.native import Kernels, load_kernels

CONVERT = "from agentrft.models.convert import ensure_smollm2; print(ensure_smollm2())"


@dataclass(frozen=True)
class Conversion:
    """`answers` is what each of the processes that converted at the same time printed."""

    cache: Path
    answers: list[str]


@pytest.fixture(scope="session")
def conversion(tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    cache = tmp_path_factory.mktemp("cache")
    leftover = cache / "models" / ".smollm2-135m-killed"
    leftover.mkdir(parents=True)
    (leftover / "model.safetensors").write_bytes(b"half a")
    environment = {**os.environ, "AGENTRFT_CACHE": str(cache)}
    processes = [
        subprocess.Popen([sys.executable, "-c", CONVERT], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate()[0].strip() for process in processes]
    return Conversion(cache, answers)


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with the converted model alone, in use."""
    converted = ensure_smollm2()
    folder = tmp_path_factory.mktemp("cache")
    own = folder / "models" / converted.name
    own.mkdir(parents=True)
    for path in converted.iterdir():
        (own / path.name).symlink_to(path)
    monkeypatch.setenv("AGENTRFT_CACHE", str(folder))
    return folder


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def kernels() -> Kernels:
    found = load_kernels()
    if found is None:
        pytest.skip("no C++ compiler here")
    return found


@pytest.fixture
def two_threads() -> Iterator[None]:
    """The operators divide their work among threads; `make test` gives each of its processes only one."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
