"""What agentrft's own processes do before they import anything.

    python -m agentrft.program MODULE ARGUMENTS     as `python -m MODULE ARGUMENTS`, but without that work

An import of torch and transformers makes half a million objects that live as long as the process. By its defaults
Python looks through them for garbage again and again while they come, and once more when the process ends: together
three tenths of the processor time of a process that imports them and does nothing (docs/benchmarks.md).
"""

import atexit
import gc
import runpy
import sys

# New objects after which Python looks for garbage among them, 700 by default. A step makes more than that, so tensors
# that refer to each other in a circle are still freed.
NEW_OBJECTS = 10_000


def collect_less() -> None:
    """For a process that is agentrft's from its first line, never for one that only imports it."""
    gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
    # What is frozen is not looked through when the process ends.
    atexit.register(gc.freeze)


def command(module: str, *arguments: str) -> list[str]:
    """What starts a module of agentrft's as such a process."""
    return [sys.executable, "-m", "agentrft.program", module, *arguments]


def main() -> None:
    del sys.argv[0]
    collect_less()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
