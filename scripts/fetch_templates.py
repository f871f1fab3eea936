"""Fetch real chat templates for `make test-models`: TRL's wheel ships those of some twenty families.

They are a test asset. The wheel is kept in the cache, its templates are read out of it, and it is never installed.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

VERSION = "1.16.0"
WHEEL = f"trl-{VERSION}-py3-none-any.whl"
SHA256 = "c4726e139dd40e1a41661511c639c8a68416782b2e3e8c0befebd77bb7ba0396"


def cached_wheel() -> Path | None:
    """The wheel, if it was fetched already."""
    path = _folder() / WHEEL
    return path if path.exists() else None


def fetch() -> Path:
    """The wheel in the cache, from the package index where it is not there yet.

    Raises:
        ValueError: what came is not the wheel that was meant.
    """
    cached = cached_wheel()
    if cached is not None:
        return cached
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, f"trl=={VERSION}"]
        subprocess.run(command, check=True)
        content = (Path(folder) / WHEEL).read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != SHA256:
        raise ValueError(f"{WHEEL} has the SHA-256 {found}, and not {SHA256}")
    path = _folder() / WHEEL
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_bytes(content)
    partial.rename(path)
    return path


def _folder() -> Path:
    cache = Path(os.environ.get("AGENTRFT_CACHE") or Path.home() / ".cache" / "agentrft")
    return cache / "chat_templates"


if __name__ == "__main__":
    print(fetch())
