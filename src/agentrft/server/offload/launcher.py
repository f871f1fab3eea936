"""Where processes for heavy work come from: a small one beside the server that makes them when it is told to.

The server itself would stand still while it starts one, as long as the system takes for that, seconds on a busy
machine. This one has imported already what graders take, so a process that it forks works at once.
"""

import gc
import importlib
import json
import os
import signal
import socket
import sys
import traceback
from contextlib import suppress

PRELOADED = (
    "agentrft.server.offload.grading_process",
    "agentrft.server.creation.validation_process",
    "agentrft.server.models.archive",
)
MESSAGE_BYTES = 4096
# Of a process: the socket for what it is told and answers, and where its errors go.
FILES = 2


def main() -> None:
    """`python -m agentrft.server.offload.launcher FD`: takes messages from that socket until it is closed.

    `{"start": id, "module": name}` comes with two file descriptors, `{"kill": id}` with none.
    """
    told = socket.socket(fileno=int(sys.argv[1]))
    for signum in (signal.SIGINT, signal.SIGTERM):
        # The server ends it, by closing the socket.
        signal.signal(signum, signal.SIG_IGN)
    for module in PRELOADED:
        importlib.import_module(module)
    # Shared with all that it forks, which would get copies where they look through it for garbage.
    gc.freeze()
    running: dict[int, int] = {}
    while True:
        message, files, _, _ = socket.recv_fds(told, MESSAGE_BYTES, FILES)
        _forget_ended(running)
        if not message:
            for pid in running.values():
                _kill(pid)
            return
        request = json.loads(message)
        if "kill" in request:
            _kill(running.get(request["kill"]))
            continue
        pid = os.fork()
        if pid == 0:
            _become(request["module"], told, files)
        running[request["start"]] = pid
        for one in files:
            os.close(one)


def _become(module: str, told: socket.socket, files: list[int]) -> None:
    """In the new process: do the work, and never return."""
    status = 1
    try:
        told.close()
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_DFL)
        for source, target in ((files[0], 0), (files[0], 1), (files[1], 2)):
            os.dup2(source, target)
        for one in files:
            os.close(one)
        importlib.import_module(module).main()
        status = 0
    except SystemExit as error:
        if isinstance(error.code, str):
            print(error.code, file=sys.stderr)
    except BaseException:  # the boundary: nothing of the launcher's may go on here
        traceback.print_exc()
    finally:
        with suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(status)


def _kill(pid: int | None) -> None:
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _forget_ended(running: dict[int, int]) -> None:
    """Collect those that have ended, so that no other gets one of their numbers while it is still known."""
    for number, pid in list(running.items()):
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            del running[number]


if __name__ == "__main__":
    main()
