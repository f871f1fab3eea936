"""The jail that a python grader runs in: bubblewrap's namespaces around the worker, which then gives up what is left.

Inside there is a read-only system and Python, an empty network, no other process, no /proc and no /sys, a private /tmp
in memory, no home, no environment, and no capability. The worker is the only process in it: there is no helper of
bubblewrap's that a grader could take over. Where we are root, bubblewrap and the worker run as a user that nobody is.
`python_worker.py` sets the limits, `syscalls.py` says which system calls there are.
"""

import functools
import json
import os
import re
import secrets
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.graders.syscalls import seccomp_program

TMP_BYTES = 64 * 1024**2
# The kernel's memory for a file's name and attributes is not among the bytes.
TMP_FILES = 4096
MEMORY_FOLDERS = ("/tmp", "/dev/shm")
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
# What a merged-/usr system has as links, and an older one as folders.
SYSTEM_FOLDERS = ("/lib", "/lib64", "/lib32", "/bin", "/sbin")
CHECK_TIMEOUT_S = 60.0
# Numbers that no distribution gives out, and that systemd leaves free: 0x70000000 to 0x7fffffff.
FIRST_FREE_USER, N_FREE_USERS = 0x70000000, 0x0FFF0000

MAX_THREADS = 256
# On older kernels the limit counts what its user runs outside the jail, too.
MAX_PROCESSES_OF_USER = 1024
LIMIT_IS_PER_NAMESPACE_SINCE = (5, 14)

# Where root's Python lies in folders that only root may enter, another user reaches it through a mount of its own.
# Arguments: a folder to mount over, the user, the number of paths, the paths, the command that the user runs.
MOUNT_OVER = ("/mnt", "/media", "/srv", "/opt", "/home")
AS_ANOTHER_USER = """set -eu
place=$1 user=$2 n=$3
shift 3
mount -t tmpfs -o mode=0755,size=1m tmpfs "$place"
i=0
while [ "$i" -lt "$n" ]; do
    if [ -d "$1" ]; then mkdir "$place/$i"; else : > "$place/$i"; fi
    mount --rbind "$1" "$place/$i"
    shift
    i=$((i + 1))
done
exec setpriv --reuid="$user" --regid="$user" --clear-groups -- "$@"
"""


@dataclass(frozen=True)
class Launch:
    """How one jailed worker is started.

    Attributes:
        command: the command line.
        orders: what the worker is told to do before it runs any code of a grader.
    """

    command: list[str]
    orders: dict[str, Any]


@dataclass(frozen=True)
class Jail:
    """A way to jail a worker that works on this machine.

    Attributes:
        bubblewrap: the program's path.
        as_root: whether we are root, so that the worker must become another user.
    """

    bubblewrap: str
    as_root: bool

    def launch(self, command: list[str], worker: Path) -> Launch:
        """How `command` is started in the jail.

        Args:
            worker: the script that the command runs; everything else that it needs is Python's own.

        Raises:
            OSError: there is no other user, or no folder to mount over.
        """
        program = seccomp_program()
        assert program is not None, "`working_jail` refuses such a machine"
        orders = {
            "filter": program.hex(),
            "folders": list(MEMORY_FOLDERS),
            "options": f"size={TMP_BYTES},nr_inodes={TMP_FILES}",
            "max_processes": MAX_THREADS if self.as_root or _limits_are_per_namespace() else MAX_PROCESSES_OF_USER,
        }
        paths = _own_paths(worker)
        if not self.as_root:
            return Launch([self.bubblewrap, *_arguments({path: path for path in paths}), "--", *command], orders)
        place = _place_to_mount_over(paths)
        jailed = [self.bubblewrap, *_arguments({path: f"{place}/{i}" for i, path in enumerate(paths)}), "--", *command]
        prefix = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", AS_ANOTHER_USER, "sh"]
        user = _free_user(Path("/proc/self/uid_map").read_text())
        return Launch([*prefix, place, str(user), str(len(paths)), *paths, *jailed], orders)


@functools.cache
def working_jail(worker: Path) -> Jail:
    """The jail that works here. Tried once, with a real worker.

    Raises:
        UserError: there is no bubblewrap, it does not work here, or root cannot hand the worker to another user.
    """
    trust = (
        "if you wrote the grader's code yourself, say `trusted: true` in it: it then runs in a process of its own, but "
        "may read what you may read."
    )
    install = f"Install it (`apt install bubblewrap`, `dnf install bubblewrap`), or, {trust}"
    found = shutil.which("bwrap")
    if found is None:
        raise UserError("python graders run in a sandbox, and bubblewrap (bwrap), which makes it, is missing.", install)
    if seccomp_program() is None:
        raise UserError(
            f"python graders run in a sandbox, and there is no list of system calls for {os.uname().machine}.",
            f"Use an x86_64 or aarch64 machine, or, {trust}",
        )
    allow = (
        "let the kernel make user namespaces for it: `sysctl kernel.apparmor_restrict_unprivileged_userns=0` on "
        "Ubuntu, `sysctl kernel.unprivileged_userns_clone=1` on older Debian, in a container a seccomp and an AppArmor "
        "profile that allow them (`--security-opt seccomp=unconfined --security-opt apparmor=unconfined`)"
    )
    jail = Jail(found, os.geteuid() == 0)
    problem = _problem(jail, worker)
    if problem is None:
        return jail
    if jail.as_root:
        raise UserError(
            "python graders run in a sandbox, for root in one of another user's, and it cannot be made here: "
            f"{problem}",
            f"Run agentrft as an ordinary user, let others read its Python (`chmod -R o+rX {sys.prefix}`), {allow}, "
            f"or, {trust}",
        )
    raise UserError(
        f"python graders run in a sandbox, and bubblewrap cannot make one here: {problem}",
        f"{allow[0].upper()}{allow[1:]}, or, {trust}",
    )


def _problem(jail: Jail, worker: Path) -> str | None:
    """What keeps a worker from starting in the jail; None if it starts."""
    try:
        launch = jail.launch([sys.executable, "-I", "-B", "-X", "utf8", str(worker)], worker)
        start = {"source": "def grade(sample, item): return 1", "name": "check", "jail": launch.orders}
        body = json.dumps(start).encode()
        tried = subprocess.run(
            launch.command,
            input=struct.pack(">I", len(body)) + body,
            capture_output=True,
            timeout=CHECK_TIMEOUT_S,
            env={},
            cwd="/",
            start_new_session=True,
        )
        if tried.returncode != 0 or len(tried.stdout) < 4:
            ended = tried.stderr.decode(errors="replace").strip()[-300:]
            return ended or f"it ended with exit code {tried.returncode}"
        reply = json.loads(tried.stdout[4:])
        return None if "error" not in reply else str(reply["message"])
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return str(error)


def _limits_are_per_namespace() -> bool:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return found is not None and (int(found[1]), int(found[2])) >= LIMIT_IS_PER_NAMESPACE_SINCE


def _own_paths(worker: Path) -> list[str]:
    """Python's own folders and the worker, as far as they are not the system's."""
    paths = [
        prefix
        for prefix in dict.fromkeys((sys.base_prefix, sys.prefix))
        if not prefix.startswith("/usr/") and prefix != "/usr"
    ]
    if not worker.is_relative_to(sys.prefix):
        paths.append(str(worker))
    return paths


def _place_to_mount_over(paths: list[str]) -> str:
    for place in MOUNT_OVER:
        if os.path.isdir(place) and not any(Path(path).is_relative_to(place) for path in paths):
            return place
    raise OSError(f"none of {', '.join(MOUNT_OVER)} is a folder to mount over")


def _free_user(uid_map: str) -> int:
    """A user number that nobody has, another one for each worker: limits are counted for each number.

    Args:
        uid_map: the kernel's list of the numbers that there are in our user namespace.

    Raises:
        OSError: root is the only one.
    """
    ranges = [tuple(map(int, line.split())) for line in uid_map.splitlines()]
    first, _, count = max(ranges, key=lambda found: found[2])
    if first <= FIRST_FREE_USER and first + count >= FIRST_FREE_USER + N_FREE_USERS:
        return FIRST_FREE_USER + secrets.randbelow(N_FREE_USERS)
    # A container's range: the upper end is the least likely to be used.
    spare = min(4096, count // 2)
    if spare < 1:
        raise OSError("there is no user but root in this container")
    return first + count - 1 - secrets.randbelow(spare)


def _arguments(sources: dict[str, str]) -> list[str]:
    """bubblewrap's arguments.

    Args:
        sources: what is readable besides the system, by its path in the jail.
    """
    arguments = [
        "--unshare-user",
        "--unshare-ipc",
        "--unshare-pid",
        "--unshare-net",
        "--unshare-uts",
        "--unshare-cgroup-try",
        "--uid",
        "65534",
        "--gid",
        "65534",
        "--hostname",
        "grader",
        "--die-with-parent",
        # Without it, bubblewrap leaves a process of its own inside, which no filter holds.
        "--as-pid-1",
        "--new-session",
        "--clearenv",
        "--cap-drop",
        "ALL",
        # In the jail's own namespace only, for what the worker does first; then it gives it up.
        "--cap-add",
        "CAP_SYS_ADMIN",
        "--perms",
        "0755",
        "--tmpfs",
        "/dev",
    ]
    for device in filter(os.path.exists, DEVICES):
        arguments += ["--dev-bind", device, device]
    # Before the binds: Python itself may be below /tmp.
    for folder in MEMORY_FOLDERS:
        arguments += ["--perms", "1777", "--size", str(TMP_BYTES), "--tmpfs", folder]
    arguments += ["--ro-bind", "/usr", "/usr"]
    for folder in map(Path, SYSTEM_FOLDERS):
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    if Path("/etc/ld.so.cache").is_file():
        arguments += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for path, source in sources.items():
        arguments += ["--ro-bind", source, path]
    return [*arguments, "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
