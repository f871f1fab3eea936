"""The Python environments that clients run in, by the version of the SDK.

AGENTRFT_CLIENT_SDKS names them, such as "newest 1.91" after `scripts/setup_client.sh newest 1.91`; without it there is
one, the environment of the tests, and checks that take long are left out.
"""

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALLED = "installed"
LONG = "AGENTRFT_CLIENT_SDKS" in os.environ
NAMES = os.environ.get("AGENTRFT_CLIENT_SDKS", INSTALLED).split()


def python_of(name: str) -> str:
    return sys.executable if name == INSTALLED else str(ROOT / f".venv-client-{name}/bin/python")


@cache
def version_of(name: str) -> str:
    """The SDK's version in an environment."""
    asked = [python_of(name), "-c", "import openai; print(openai.__version__)"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
