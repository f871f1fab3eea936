"""Where a program of the shell runs: in bubblewrap, with the repository, itself and its libraries, and nothing else.

There is no network, no other process, no file of the system, no shell and nothing that can be written. Where
bubblewrap is missing, or may not make namespaces, the program runs as it is: then the list of `programs.py` is the
only wall. In both cases it has an empty environment, at most 512 MB of memory, and may write no file.
"""

import functools
import os
import re
import shutil
import subprocess
from pathlib import Path

SEARCH_PATH = "/usr/bin:/bin"
ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": SEARCH_PATH}
MEMORY_BYTES = 512 * 1024**2
CPU_S = 10
# Where the repository is inside the jail; error messages have it.
PLACE = "/repository"
LIBRARY = re.compile(r"(/\S+) \(0x")
CHECK_TIMEOUT_S = 10.0


def jailed(command: list[str], root: Path, folder: Path) -> list[str]:
    """The command line that runs a program of the system in the jail.

    Args:
        command: the program's name and its arguments.
        root: of the repository.
        folder: in it, where the program runs.
    """
    program = program_path(command[0])
    arguments = ["--unshare-all", "--die-with-parent", "--new-session", "--clearenv", "--cap-drop", "ALL"]
    # After `--unshare-all`, for root too: inside it is a user that nobody is.
    arguments += ["--uid", "65534", "--gid", "65534"]
    for name, value in ENVIRONMENT.items():
        arguments += ["--setenv", name, value]
    for path in (program, *_libraries(program)):
        arguments += ["--ro-bind", path, path]
    arguments += ["--ro-bind", str(root), PLACE, "--chdir", f"{PLACE}/{folder.relative_to(root)}", "--remount-ro", "/"]
    return [*limits(), bubblewrap_path(), *arguments, "--", program, *command[1:]]


def limits() -> list[str]:
    """What goes before a command so that it takes little memory and processor time and writes no file; nothing where
    the system has no `prlimit`."""
    found = shutil.which("prlimit", path=SEARCH_PATH)
    return [] if found is None else [found, f"--as={MEMORY_BYTES}", f"--cpu={CPU_S}", "--fsize=0", "--"]


def program_path(name: str) -> str:
    """Where the system has a program.

    Raises:
        FileNotFoundError: nowhere.
    """
    found = shutil.which(name, path=SEARCH_PATH)
    if found is None:
        raise FileNotFoundError(f"the shell tool needs {name} in {SEARCH_PATH}")
    return os.path.realpath(found)


def bubblewrap_path() -> str:
    found = shutil.which("bwrap")
    assert found is not None, "`works` was asked before"
    return found


@functools.cache
def works() -> bool:
    """Whether a jail can be made here. Tried once."""
    if shutil.which("bwrap") is None:
        return False
    here = Path(__file__).resolve().parent
    try:
        tried = subprocess.run(jailed(["ls"], here, here), capture_output=True, timeout=CHECK_TIMEOUT_S, env={})
    except (OSError, subprocess.TimeoutExpired):
        return False
    return tried.returncode == 0 and Path(__file__).name in tried.stdout.decode().split()


@functools.cache
def _libraries(program: str) -> tuple[str, ...]:
    """The shared libraries of a program; none of one that has all in itself."""
    ldd = shutil.which("ldd", path=SEARCH_PATH)
    if ldd is None:
        return ()
    told = subprocess.run([ldd, program], capture_output=True, text=True, timeout=CHECK_TIMEOUT_S, env=ENVIRONMENT)
    return tuple(LIBRARY.findall(told.stdout))
