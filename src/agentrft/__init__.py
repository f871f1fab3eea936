"""agentrft: agent reinforcement fine-tuning of open-weight models on your own tools and grader."""

import os
from typing import Any

__version__ = "0.1.0"

# Read by GNU OpenMP when torch is imported. By default its threads spin about a millisecond for each other before they
# sleep; where anything else runs on the same cores, such as the user's tool server, they then wait for a thread that
# cannot run because they spin. On two shared cores a short spin makes generation two to four times faster, on idle ones
# not slower. The policy is for processes in which two threads have computed: without it GNU OpenMP then hardly spins at
# all, and a step of generation takes twice as long.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ["OMP_WAIT_POLICY"] = "active"
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def __getattr__(name: str) -> Any:
    """`from agentrft import OpenAI`: loaded when it is asked for, since the SDK belongs to an extra."""
    if name != "OpenAI":
        raise AttributeError(f"module 'agentrft' has no attribute {name!r}")
    from agentrft.client import OpenAI

    return OpenAI
