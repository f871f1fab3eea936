"""Merging weights in a process of its own, which takes torch and the memory of two models.

What to merge comes as JSON on standard input: `name`, `base`, `checkpoint` and `out`.
"""

import json
import os
import sys
from pathlib import Path

from agentrft.errors import UserError
from agentrft.job.export import describe_weights, export_merged
from agentrft.job.references import ModelReference
from agentrft.server.workers.leases import NICE


def main() -> None:
    os.nice(NICE)
    told = json.loads(sys.stdin.read())
    reference = ModelReference(told["name"], folder=Path(told["checkpoint"]))
    try:
        export_merged(describe_weights(reference, None, model=told["base"]), Path(told["out"]))
    except UserError as error:
        sys.exit(f"{error.cause} {error.remedy}".replace("\n", " "))


if __name__ == "__main__":
    main()
