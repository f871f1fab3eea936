"""How long a warm call of a jailed python grader takes.

python -m benchmarks.graders [--calls 3000] [--rounds 3]
"""

import argparse
import asyncio
import json
import time

from agentrft.graders import create_grader
from agentrft.graders.base import GraderSample
from agentrft.spec.graders import PythonGraderSpec

SOURCE = "def grade(sample, item):\n    return float(len(sample['output_text']) == item['length'])"
SAMPLE = GraderSample("an answer of some words")


async def measure(calls: int) -> dict[str, float]:
    """Percentiles in milliseconds, of calls one after another, behind those that start the workers."""
    grader = create_grader(PythonGraderSpec(type="python", name="length", source=SOURCE))
    took: list[float] = []
    try:
        for number in range(calls + 20):
            started = time.perf_counter()
            await grader.grade(SAMPLE, item={"length": number}, trace_id="trace_1")
            took.append((time.perf_counter() - started) * 1000)
    finally:
        await grader.close()
    warm = sorted(took[20:])
    return {f"p{percent}_ms": round(warm[len(warm) * percent // 100], 2) for percent in (50, 95, 99)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    for _ in range(arguments.rounds):
        print(json.dumps(asyncio.run(measure(arguments.calls))))


if __name__ == "__main__":
    main()
