"""Commands in processes that are forked from one that has imported everything: torch alone takes seconds.

Each is a process with its own folder, environment and files, and its exit code is that of the command. What depends on
how Python itself starts or ends needs `run_fresh` of `commands.py`.

    python -m tests.cli.forked      reads a command per line from stdin, writes its exit code per line
"""

import gc
import json
import os
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any


class Forked:
    """The parent's side. Starts with the first command, and ends with the process that it is in."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: list[str], *, folder: Path, environment: dict[str, str], files: tuple[Path, Path], limit_s: int
    ) -> int:
        """The exit code of `agentrft ARGUMENTS`, whose standard output and error go to `files`.

        Raises:
            TimeoutError: it took longer, and was killed.
        """
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.cli.forked"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
                cwd=Path(__file__).parents[2],
            )
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {
            "arguments": arguments,
            "folder": str(folder),
            "environment": environment,
            "files": [str(file) for file in files],
            "limit_s": limit_s,
        }
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        if code == -signal.SIGALRM:
            raise TimeoutError(f"agentrft {' '.join(arguments)} took longer than {limit_s} s")
        return code


def _serve() -> None:
    import agentrft.cli.main
    import agentrft.job.run  # noqa: F401

    gc.freeze()
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            _become(request)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _become(request: dict[str, Any]) -> None:
    """In the child: run the command, and never return."""
    from agentrft.cli.__main__ import main

    code = 0
    try:
        signal.alarm(request["limit_s"])
        os.chdir(request["folder"])
        os.environ.clear()
        os.environ.update(request["environment"])
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for target, path in enumerate(request["files"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), target)
        sys.argv = ["agentrft", *request["arguments"]]
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
    _serve()
