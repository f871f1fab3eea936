"""The process that runs a python grader's code. Started by `python.py` as `python -I python_worker.py`, stdlib only.

Messages on stdin and stdout are a 4-byte big-endian length and that many bytes of JSON.
First in: {"source", "name", "timeout_s"}; out: {"ready": true, "network": "namespace" or "blocked"}, or an error.
Then in: {"sample", "item"}; out: {"score": float}, or an error: {"error": kind, "message": text}.

With `--jailed` it runs inside the namespaces of `sandbox.py`, and bars system calls that a grader has no use for: new
processes, sockets, tracing, mounts, and those in which kernels were broken before.
"""

import ctypes
import io
import json
import linecache
import math
import os
import resource
import signal
import struct
import sys
import time
import traceback
from types import ModuleType
from typing import Any, BinaryIO

MEMORY_BYTES = 2 * 1024**3
MAX_MESSAGE_CHARACTERS = 2000
FILE_BYTES = 64 * 1024**2
MAX_PROCESSES = 1024
# The grader may use several cores and the parent holds the wall clock, so this only ends what escaped the parent.
CPU_SECONDS_PER_TIMEOUT = 4.0
CPU_SECONDS_SPARE = 10.0

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2

# Linux system calls by number: x86_64, aarch64. -1 where an architecture has none.
BARRED = {
    "fork": (57, -1),
    "vfork": (58, -1),
    "execve": (59, 221),
    "execveat": (322, 281),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "socket": (41, 198),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "kexec_load": (246, 104),
    "userfaultfd": (323, 282),
    "open_by_handle_at": (304, 265),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
}
CLONE, CLONE3 = (56, 220), 435
CLONE_THREAD = 0x10000
AUDIT_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
X32_CALLS = 0x40000000

NETWORK_EVENTS = {
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyaddr",
    "socket.gethostbyname",
    "socket.getnameinfo",
    "socket.sendmsg",
    "socket.sendto",
}
PROCESS_EVENTS = {
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
}


def main() -> None:
    requests, replies = _private_streams()
    os.environ.clear()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    jailed = "--jailed" in sys.argv[1:]
    own_network = jailed or _leave_network(libc)
    _set_limits(own_network)
    # The events give a better message than a barred system call.
    _refuse_events(NETWORK_EVENTS if own_network and not jailed else NETWORK_EVENTS | PROCESS_EVENTS)
    if jailed:
        _bar_system_calls(libc)
    start = _read(requests)
    if start is None:
        return
    filename = f"<grader {start['name']}>"
    timeout_s = start["timeout_s"]
    _allow_cpu_seconds(timeout_s)
    try:
        grade = _load(start["source"], filename)
    except MemoryError:
        raise
    except Exception as error:  # whatever the user's code raises is reported, with its line
        _write(replies, {"error": "exception", "message": _describe(error, filename)})
        return
    _write(replies, {"ready": True, "network": "namespace" if own_network else "blocked"})
    while (request := _read(requests)) is not None:
        _allow_cpu_seconds(timeout_s)
        _write(replies, _graded(grade, request, filename))


def _graded(grade: Any, request: dict[str, Any], filename: str) -> dict[str, Any]:
    try:
        score = grade(request["sample"], request["item"])
    except MemoryError:
        # The heap is not to be trusted any more: the process ends, and the next call gets a new one.
        raise
    except Exception as error:  # as in `main`
        return {"error": "exception", "message": _describe(error, filename)}
    if isinstance(score, bool) or not isinstance(score, int | float):
        kind = type(score).__name__
        return {"error": "bad_answer", "message": f"grade() must return a finite number, it returned a {kind}"}
    # As float(): a subclass such as numpy's float64 may write itself in a way that is not JSON.
    try:
        number = float(score)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        return {"error": "bad_answer", "message": f"grade() must return a finite number, it returned {number}"}
    return {"score": number}


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's streams, moved away from stdin and stdout: what the grader prints goes to stderr."""
    requests = os.fdopen(os.dup(0), "rb")
    replies = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # What it printed last is what explains a crash.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="backslashreplace")
    return requests, replies


def _leave_network(libc: ctypes.CDLL) -> bool:
    """Move into an empty network namespace; False where the kernel does not let us."""
    return libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0 or libc.unshare(CLONE_NEWNET) == 0


def _bar_system_calls(libc: ctypes.CDLL) -> None:
    """Install a seccomp filter for this process and its threads; it cannot be taken off again."""
    machine = os.uname().machine
    if machine not in AUDIT_ARCHITECTURES:
        return  # the namespaces hold on every architecture
    place = list(AUDIT_ARCHITECTURES).index(machine)
    load, jump_equal, jump_at_least, jump_bits, give_back = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, kill, not_permitted, not_there = 0x7FFF0000, 0x80000000, 0x00050000 | 1, 0x00050000 | 38
    program = [
        (load, 0, 0, 4),
        (jump_equal, 1, 0, AUDIT_ARCHITECTURES[machine]),
        (give_back, 0, 0, kill),
        (load, 0, 0, 0),
        (jump_at_least, 0, 1, X32_CALLS),
        (give_back, 0, 0, not_permitted),
    ]
    for numbers in BARRED.values():
        if numbers[place] >= 0:
            program += [(jump_equal, 0, 1, numbers[place]), (give_back, 0, 0, not_permitted)]
    # The C library falls back from clone3, whose flags a filter cannot read, to clone.
    program += [(jump_equal, 0, 1, CLONE3), (give_back, 0, 0, not_there)]
    program += [
        (jump_equal, 0, 3, CLONE[place]),
        (load, 0, 0, 16),
        (jump_bits, 1, 0, CLONE_THREAD),
        (give_back, 0, 0, not_permitted),
        (give_back, 0, 0, allow),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in program))
    filter_program = struct.pack("HxxxxxxP", len(program), ctypes.addressof(code))
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no seccomp filter")


def _set_limits(own_namespace: bool) -> None:
    limits = [
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_CORE, 0),
    ]
    if own_namespace:
        # Outside a user namespace this limit counts every process of the user, and the grader could start no thread.
        # The kernel does not hold root to it.
        limits.append((resource.RLIMIT_NPROC, MAX_PROCESSES))
    for limit, value in limits:
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    # Writing past the limit raises OSError in the grader instead of ending the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _allow_cpu_seconds(timeout_s: float) -> None:
    """The soft limit counts from the process's start, so it moves on with every call."""
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    soft = math.ceil(time.process_time() + CPU_SECONDS_PER_TIMEOUT * timeout_s + CPU_SECONDS_SPARE)
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def _refuse_events(events: set[str]) -> None:
    def refuse(event: str, _: tuple[Any, ...]) -> None:
        if event in events:
            raise PermissionError(f"a grader may not do this ({event}): it runs without network")

    sys.addaudithook(refuse)


def _load(source: str, filename: str) -> Any:
    # The lines are put where traceback looks for them.
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    module = ModuleType("agentrft_grader")
    # Dataclasses and pickle look their module up by name.
    sys.modules[module.__name__] = module
    exec(compile(source, filename, "exec"), module.__dict__)
    return module.__dict__["grade"]


def _describe(error: Exception, filename: str) -> str:
    """Type, message, and the innermost line of the user's own code."""
    text = "".join(traceback.format_exception_only(error)).strip()[:MAX_MESSAGE_CHARACTERS]
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == filename]
    return f"{text} (line {lines[-1].lineno}: {lines[-1].line})" if lines else text


def _read(stream: BinaryIO) -> dict[str, Any] | None:
    header = stream.read(4)
    if len(header) < 4:
        return None
    return json.loads(stream.read(struct.unpack(">I", header)[0]))


def _write(stream: BinaryIO, message: dict[str, Any]) -> None:
    body = json.dumps(message).encode()
    stream.write(struct.pack(">I", len(body)) + body)
    stream.flush()


if __name__ == "__main__":
    main()
