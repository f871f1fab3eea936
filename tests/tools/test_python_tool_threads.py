"""Python functions run in threads of their own: none waits for another's, and none keeps the process from ending."""

import asyncio
import subprocess
import sys
import threading

from agentrft.tools.python_calling import described, run

CALLS = 16


async def test_as_many_calls_run_at_once_as_are_made() -> None:
    barrier = threading.Barrier(CALLS)

    def meet() -> str:
        barrier.wait(60)
        return "met"

    outcomes = await asyncio.gather(*(run(meet, 90.0) for _ in range(CALLS)))
    assert {outcome.text for outcome in outcomes} == {"met"}


def test_a_call_that_never_returns_does_not_keep_the_process() -> None:
    code = """
import asyncio, threading
from agentrft.tools.python_calling import run
async def main():
    try:
        await run(lambda: threading.Event().wait(), 0.1)
    except TimeoutError:
        print("given up", flush=True)
asyncio.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0 and ended.stdout == "given up\n", ended.stderr


def test_a_text_that_ends_the_process_is_no_text() -> None:
    class Sly(Exception):
        def __str__(self) -> str:
            sys.exit(3)

    assert described(Sly()) == "Sly: (its text cannot be read: SystemExit)"
