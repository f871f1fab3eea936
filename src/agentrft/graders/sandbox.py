"""The jail that a python grader runs in: bubblewrap's namespaces around the worker, which then bars system calls.

Inside there is a read-only system and Python, an empty network, no other process, a private /tmp in memory, no home, no
environment, and no capability. See `python_worker.py` for the limits and the system calls.
"""

import functools
import shutil
import subprocess
import sys
from pathlib import Path

from agentrft.errors import UserError

TMP_BYTES = 64 * 1024**2
# What a merged-/usr system has as links, and an older one as folders.
SYSTEM_FOLDERS = ("/lib", "/lib64", "/lib32", "/bin", "/sbin")
CHECK_TIMEOUT_S = 20.0


def jailed(command: list[str], worker: Path) -> list[str]:
    """The command line that runs `command` in the jail.

    Args:
        worker: the script that the command runs; everything else that it needs is Python's own.

    Raises:
        UserError: there is no bubblewrap, or it does not work here.
    """
    bubblewrap = _working_bubblewrap()
    return [bubblewrap, *_arguments(worker), "--", *command]


@functools.cache
def _working_bubblewrap() -> str:
    found = shutil.which("bwrap")
    remedy = (
        "Install it (`apt install bubblewrap`, `dnf install bubblewrap`), or, if you wrote the grader's code yourself, "
        "say `trusted: true` in it: it then runs in a process of its own, but may read what you may read."
    )
    if found is None:
        raise UserError("python graders run in a sandbox, and bubblewrap (bwrap), which makes it, is missing.", remedy)
    command = [found, *_arguments(None), "--", sys.executable, "-I", "-c", "pass"]
    try:
        tried = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, env={})
        problem = tried.stderr.strip()[-300:] if tried.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        raise UserError(f"python graders run in a sandbox, and bubblewrap cannot make one here: {problem}", remedy)
    return found


def _arguments(worker: Path | None) -> list[str]:
    size = ["--size", str(TMP_BYTES)]
    arguments = [
        "--unshare-all",
        "--unshare-user",
        "--uid",
        "65534",
        "--gid",
        "65534",
        "--hostname",
        "grader",
        "--die-with-parent",
        "--new-session",
        "--clearenv",
        "--cap-drop",
        "ALL",
        # Before the binds: Python itself may be below /tmp.
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        *size,
        "--tmpfs",
        "/dev/shm",
        *size,
        "--tmpfs",
        "/tmp",
        "--ro-bind",
        "/usr",
        "/usr",
    ]
    for folder in map(Path, SYSTEM_FOLDERS):
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    if Path("/etc/ld.so.cache").is_file():
        arguments += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for prefix in dict.fromkeys((sys.base_prefix, sys.prefix)):
        if not prefix.startswith("/usr/") and prefix != "/usr":
            arguments += ["--ro-bind", prefix, prefix]
    if worker is not None and not worker.is_relative_to(sys.prefix):
        arguments += ["--ro-bind", str(worker), str(worker)]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
