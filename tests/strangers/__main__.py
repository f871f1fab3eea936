"""`make test-strangers`: so many generated inputs through every door. The last line is JSON; the exit code is 1 where
any did something other than being taken or refused in words.

    python -m tests.strangers --inputs 20000 --batch 2000 --doors rows "job file"
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.strangers.api_doors import API_DOORS
from tests.strangers.doors import DOORS, Door
from tests.strangers.odd_documents import generated

SHOWN = 5


def main() -> int:
    doors = {door.name: door for door in (*DOORS, *API_DOORS)}
    parser = argparse.ArgumentParser(prog="python -m tests.strangers", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="through each door")
    parser.add_argument("--batch", type=int, default=4_000, help="inputs between two restarts of a server")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--doors", nargs="*", choices=list(doors), default=list(doors))
    given = parser.parse_args()
    sent = failed = 0
    for name in given.doors:
        started = time.monotonic()
        count, faults = through(doors[name], given.inputs, given.batch, given.seed)
        sent, failed = sent + count, failed + len(faults)
        print(f"{name}: {count} inputs, {len(faults)} failures, {time.monotonic() - started:.0f} s", flush=True)
        for fault in faults[:SHOWN]:
            print(f"  {fault}", flush=True)
    print(json.dumps({"inputs": sent, "doors": len(given.doors), "failures": failed}))
    return 1 if failed else 0


def through(door: Door, inputs: int, batch: int, seed: int) -> tuple[int, list[str]]:
    """Send inputs through a door, in batches that share a folder; how many, and what went wrong."""
    faults: list[str] = []
    sent = 0
    with tempfile.TemporaryDirectory() as folder:
        while sent < inputs:
            given = generated(door.inputs, min(batch, inputs - sent), at=hash((seed, sent)))
            faults += door.run(given, Path(folder))
            sent += len(given)
    return sent, faults


if __name__ == "__main__":
    sys.exit(main())
