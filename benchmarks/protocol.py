"""What every worker speaks: one JSON line when ready, then one measured repetition per JSON line on stdin.

-> {"ready": true, "versions": {...}}
<- {"seed": 3}
-> {"seconds": ..., "peak_rss_mb": ..., ...}

A worker that trains answers after each step with what the step was, and is told whether to take another:

-> {"step": 1, "seconds": ..., ...}
<- {"go_on": true}

Nothing of agentrft is imported here: workers of the peers run in environments without it.
"""

import json
import os
import random
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

Repetition = Callable[[int], dict[str, Any]]
# Takes what a training step was; returns whether to take another.
AfterStep = Callable[[dict[str, Any]], bool]
Training = Callable[[dict[str, Any], int, AfterStep], dict[str, Any]]


def configuration() -> dict[str, Any]:
    """The JSON file that is named on the command line."""
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))


def serve(load: Callable[[dict[str, Any]], Repetition], packages: Sequence[str]) -> None:
    """Load, then answer stdin until it ends.

    Args:
        load: takes the configuration, returns a function from a seed to what one repetition measured.
        packages: whose versions are told.
    """
    answers = _claim_stdout()
    config = configuration()
    import torch

    torch.set_num_threads(config["threads"])
    repeat = load(config)
    _answer(answers, {"ready": True, "versions": {name: version(name) for name in packages}})
    for line in sys.stdin:
        if line.strip():
            _answer(answers, {**repeat(json.loads(line)["seed"]), "peak_rss_mb": _peak_rss_mb()})


def serve_training(train: Training, packages: Sequence[str]) -> None:
    """Answer one line of stdin by a whole training.

    Args:
        train: takes the configuration, a seed and what to call after each step; returns what the training was.
        packages: whose versions are told.
    """
    answers = _claim_stdout()
    config = configuration()
    import torch

    torch.set_num_threads(config["threads"])
    _answer(answers, {"ready": True, "versions": {name: version(name) for name in packages}})
    seed = json.loads(sys.stdin.readline())["seed"]

    def after_step(told: dict[str, Any]) -> bool:
        _answer(answers, {**told, "peak_rss_mb": _peak_rss_mb()})
        return json.loads(sys.stdin.readline())["go_on"]

    _answer(answers, {**train(config, seed, after_step), "peak_rss_mb": _peak_rss_mb()})


def adapter_values(name: str, count: int) -> list[float]:
    """Weights of an adapter, small and not zero, the same wherever an adapter has this name."""
    source = random.Random(name)
    return [source.gauss(0.0, 0.01) for _ in range(count)]


def _peak_rss_mb() -> float:
    # Not getrusage: what it says begins with the size that the parent had when it started this process.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    (peak_kb,) = (int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return round(peak_kb / 1024, 1)


def _claim_stdout() -> TextIO:
    """The real stdout, for answers alone: whatever libraries print goes to stderr from here on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _answer(answers: TextIO, values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()
