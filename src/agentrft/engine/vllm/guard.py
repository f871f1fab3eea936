"""Runs a command, and ends it with all that it started when whoever started this is gone: `python guard.py COMMAND …`.

Whoever starts it holds the other end of its standard input, which the system closes with them, however they end. Only
the standard library is imported: it starts in no time, in whatever environment.
"""

import os
import signal
import subprocess
import sys
import threading

NOT_FOUND = 127


def main() -> int:
    try:
        child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"{sys.argv[1]} cannot be run: {error.strerror}", file=sys.stderr, flush=True)
        return NOT_FOUND
    # Whoever is asked to end is the command; the guard ends when that has.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_the_other_end, daemon=True).start()
    code = child.wait()
    return code if code >= 0 else 128 - code


def _end_with_the_other_end() -> None:
    # Not by `sys.stdin`, whose lock this thread would still hold when the interpreter ends.
    while os.read(0, 1024):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
