"""Commands in processes that are forked from one that has imported what they need: torch alone takes seconds.

Each is a process with its own folder, environment and files, and its exit code is that of the command. What depends on
how Python itself starts or ends needs a Python of its own.

    python -m tests.cli.forked FD MODULES      takes commands from that socket, and says there how they ended
"""

import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

MESSAGE_BYTES = 65_536
FILES = 2


@dataclass(frozen=True)
class Command:
    """What to run as `agentrft`. `limit_s` kills it then; 0 never does."""

    arguments: list[str]
    folder: Path
    environment: dict[str, str]
    limit_s: int = 0


class Forked:
    """The parent's side. Starts with the first command, and ends with the process that it is in.

    Args:
        modules: what is imported before the forks.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, command: Command, stdout: int, stderr: int) -> psutil.Process:
        """Run it with these files, and do not wait for its end."""
        if self._socket is None:
            self._socket, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with its:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "tests.cli.forked", str(its.fileno()), *self._modules],
                    env=command.environment,
                    cwd=Path(__file__).parents[2],
                    pass_fds=(its.fileno(),),
                )
        request = json.dumps({**vars(command), "folder": str(command.folder)}).encode()
        socket.send_fds(self._socket, [request], [stdout, stderr])
        return psutil.Process(self._heard("pid"))

    def run(self, command: Command, stdout: int, stderr: int) -> int:
        """Its exit code, negative for the signal that ended it.

        Raises:
            TimeoutError: it took longer than its limit.
        """
        code = self._heard(str(self.start(command, stdout, stderr).pid))
        if code == -signal.SIGALRM:
            raise TimeoutError(f"agentrft {' '.join(command.arguments)} took longer than {command.limit_s} s")
        return code

    def _heard(self, key: str) -> int:
        assert self._socket is not None
        while True:
            message = json.loads(self._socket.recv(MESSAGE_BYTES) or '{"pid": 0}')
            if key in message:
                return message[key]


def _serve(told: socket.socket, modules: list[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    gc.freeze()
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([told, woken], [], [])
        if woken in ready:
            os.read(woken, MESSAGE_BYTES)
            _tell_of_ended(told)
        if told not in ready:
            continue
        try:
            message, files, _, _ = socket.recv_fds(told, MESSAGE_BYTES, FILES)
        except ConnectionResetError:  # it ended with answers that it had not read
            return
        if not message:
            return
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for one in (told.detach(), woken, wakes):
                os.close(one)
            _become(json.loads(message), files)
        for one in files:
            os.close(one)
        told.send(json.dumps({"pid": pid}).encode())


def _tell_of_ended(told: socket.socket) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            told.send(json.dumps({str(pid): os.waitstatus_to_exitcode(status)}).encode())


def _become(command: dict[str, Any], files: list[int]) -> None:
    """In the child: run the command, and never return."""
    from agentrft.cli.__main__ import main

    code = 0
    try:
        signal.alarm(command["limit_s"])
        os.chdir(command["folder"])
        os.environ.clear()
        os.environ.update(command["environment"])
        for target, file in enumerate((os.open(os.devnull, os.O_RDONLY), *files)):
            os.dup2(file, target)
            os.close(file)
        sys.argv = ["agentrft", *command["arguments"]]
        main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
    except BaseException:  # as Python itself would show it
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
