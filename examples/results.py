"""Trains the example systems, and measures each on its test samples before and after: `make results`.

    python -m examples.results [SYSTEM ...] [--seeds 0 1 2] [--quick] [--steps N] [--model MODEL] [--difficulty LEVEL]

Each run's numbers go to `examples/SYSTEM/results/`, its report to the folder of its job, and the table of all runs to
docs/results.md, but for `--quick`, which writes neither. A run that was interrupted goes on when it is asked for again
with the same settings. The last line on standard output is one JSON object.
"""

import argparse
import asyncio
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from examples.common.running import Settings, run_system
from examples.common.system import ROOT, System
from examples.common.tables import keep, summary, write_table

NAMES = ("file_planning", "medical_notes", "finance", "kernels")
QUICK_SEEDS = (0,)


def system_named(name: str) -> System:
    """The system of a folder of `examples/`."""
    return importlib.import_module(f"examples.{name}.system").SYSTEM


def main() -> None:
    arguments = _arguments()
    systems = [system_named(name) for name in arguments.systems]
    found: dict[str, dict[str, Any]] = {}
    for system in systems:
        for seed in QUICK_SEEDS if arguments.quick else arguments.seeds:
            print(f"{system.title}, seed {seed} ...", file=sys.stderr, flush=True)
            result = _run(system, seed, arguments)
            if not arguments.quick:
                keep(system, seed, result)
            found.setdefault(system.key, {})[str(seed)] = summary(system, result)
    if not arguments.quick:
        write_table(ROOT / "docs" / "results.md", [system_named(name) for name in NAMES])
    print(json.dumps(found), flush=True)


def _run(system: System, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    started = time.monotonic()
    settings = Settings(
        seed=seed,
        out=arguments.out / "runs",
        data=arguments.out / "data" / f"{system.name}-{arguments.difficulty}",
        difficulty=arguments.difficulty,
        model=arguments.model,
        hyperparameters=() if arguments.steps is None else (("max_steps", arguments.steps),),
    )
    outcome = asyncio.run(run_system(system, settings))
    report = [sys.executable, "-m", "agentrft.cli", "report", outcome.job_id, "--output-dir", str(settings.out)]
    subprocess.run(report, check=True, stdout=sys.stderr)
    return {
        "job": outcome.job_id,
        "seed": seed,
        "difficulty": arguments.difficulty,
        "minutes": round((time.monotonic() - started) / 60, 1),
        "changes": {name: change.as_dict() for name, change in outcome.changes.items()},
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"{', '.join(NAMES)}; all of them without")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--quick", action="store_true", help="one seed of each, and nothing is kept")
    parser.add_argument("--steps", type=int, help="fewer or more updates than the job files say")
    parser.add_argument("--model", help="a folder or hub id, in place of the job files'")
    parser.add_argument("--difficulty", default="small", help="of the data; each example's page names its levels")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "results", help="folder of data, jobs and reports")
    arguments = parser.parse_args()
    if unknown := set(arguments.systems) - set(NAMES):
        parser.error(f"no such system: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    arguments.systems = arguments.systems or list(NAMES)
    return arguments


if __name__ == "__main__":
    main()
