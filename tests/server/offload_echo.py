"""A process for `test_offload.py`: it does what it is told."""

import os
import sys
import time

from agentrft.server.offload.child import Told


def main() -> None:
    told = Told()
    for request in told:
        print("what is printed is no answer")
        if "die" in request:
            sys.exit(request["die"])
        time.sleep(request.get("sleep", 600 if "out" in request else 0))
        told.answer(os.getpid() if request.get("pid") else request.get("say"))


if __name__ == "__main__":
    main()
