"""The process that runs a python grader's code; `python_process.py` starts it. It needs nothing but Python.

Messages on stdin and stdout are a 4-byte big-endian length and that many bytes of JSON.
First in: {"source", "name", "jail"}; out: {"ready", "network": "namespace" or "blocked"}, or an error.
Then in: {"id", "sample", "item"}; out: {"id", "score": float}, or {"id", "error": kind, "message": text}. The id is
random: a reply that was written before its request came is none.

With "jail", the orders of `sandbox.py`, it runs inside the jail's namespaces. Before it runs any of the grader's code,
it takes the last rights from itself: its capabilities, and the system calls that a grader has no use for.
"""

import ctypes
import io
import json
import linecache
import math
import numbers
import os
import resource
import signal
import struct
import sys
import traceback
from decimal import Decimal
from types import ModuleType
from typing import Any, BinaryIO

MEMORY_BYTES = 2 * 1024**3
MAX_MESSAGE_CHARACTERS = 2000
FILE_BYTES = 64 * 1024**2
# Pipes and sockets have buffers that count as nobody's memory.
MAX_OPEN_FILES = 64
MAX_PROCESSES = 1024

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
MS_NOSUID, MS_NODEV, MS_REMOUNT = 2, 4, 32
PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
CAPABILITY_VERSION_3 = 0x20080522

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
    start = _read(requests)
    if start is None:
        return
    orders = start.get("jail")
    if orders is not None:
        try:
            _enter_jail(libc, orders)
        except OSError as error:
            _write(replies, {"error": "sandbox", "message": f"the worker cannot give up its rights: {error}"})
            return
        own_network = True
    else:
        # Before its user has another number, and with it no home: libraries look for their data there, and some, such
        # as NLTK, cannot be imported where there is none.
        home = os.path.expanduser("~")
        os.environ["HOME"] = home if os.path.isabs(home) else os.getcwd()
        own_network = _leave_network(libc)
        _set_limits(MAX_PROCESSES if own_network else None)
        _refuse_events(NETWORK_EVENTS if own_network else NETWORK_EVENTS | PROCESS_EVENTS)
    filename = f"<grader {start['name']}>"
    try:
        grade = _load(start["source"], filename)
    except MemoryError:
        raise
    except Exception as error:  # whatever the user's code raises is reported, with its line
        _write(replies, {"error": "exception", "message": _describe(error, filename)})
        return
    _write(replies, {"ready": True, "network": "namespace" if own_network else "blocked"})
    while (request := _read(requests)) is not None:
        _write(replies, {**_graded(grade, request, filename), "id": request["id"]})


def _enter_jail(libc: ctypes.CDLL, orders: dict[str, Any]) -> None:
    """Carry out the orders of `sandbox.py`.

    Raises:
        OSError: one of them cannot be.
    """
    # Libraries look for their data in it, and some cannot be imported without.
    os.environ["HOME"] = orders["folders"][0]
    for folder in orders["folders"]:
        flags = MS_REMOUNT | MS_NOSUID | MS_NODEV
        _succeed(libc.mount(None, folder.encode(), None, flags, orders["options"].encode()), f"bounding {folder}")
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    _succeed(libc.capset(header, bytes(24)), "dropping the capabilities")
    for folder in sys.path:
        if os.path.exists(folder) and not os.access(folder, os.R_OK | os.X_OK):
            raise OSError(f"other users may not read {folder}")
    _set_limits(orders["max_processes"])
    for limit, value in (
        (resource.RLIMIT_NOFILE, MAX_OPEN_FILES),
        (resource.RLIMIT_SIGPENDING, MAX_OPEN_FILES),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
    ):
        _limit(limit, value)
    # The events give a better message than a system call that is not there.
    _refuse_events(NETWORK_EVENTS | PROCESS_EVENTS)
    _filter_system_calls(libc, bytes.fromhex(orders["filter"]))


def _succeed(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def _graded(grade: Any, request: dict[str, Any], filename: str) -> dict[str, Any]:
    try:
        score = _plain(grade(request["sample"], request["item"]))
    except MemoryError:
        # The heap is not to be trusted any more: the process ends, and the next call gets a new one.
        raise
    except Exception as error:  # as in `main`
        return {"error": "exception", "message": _describe(error, filename)}
    if not isinstance(score, numbers.Real | Decimal):
        kind = type(score).__name__
        return {"error": "bad_answer", "message": f"grade() must return a finite number, it returned a {kind}"}
    # As float(): a subclass such as numpy's float64 may write itself in a way that is not JSON.
    try:
        number = float(score)
    except OverflowError:
        number = math.inf
    except ValueError:  # a Decimal's signalling NaN
        number = math.nan
    if not math.isfinite(number):
        return {"error": "bad_answer", "message": f"grade() must return a finite number, it returned {number}"}
    return {"score": number}


def _plain(score: Any) -> Any:
    """A number or a truth value of numpy, torch and the like as Python's own; arrays of several stay what they are."""
    return score.item() if getattr(score, "shape", None) == () else score


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


def _filter_system_calls(libc: ctypes.CDLL, program: bytes) -> None:
    """Install a seccomp program for this process and its threads; it cannot be taken off again."""
    code = ctypes.create_string_buffer(program, len(program))
    filter_program = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(code))
    result = libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(filter_program), 0, 0)
    _succeed(result, "filtering system calls")


def _set_limits(max_processes: int | None) -> None:
    """Limits of the process.

    Args:
        max_processes: threads count, too. None outside a user namespace: the limit would count every process of the
            user, and the grader could start no thread.
    """
    _limit(resource.RLIMIT_AS, MEMORY_BYTES)
    _limit(resource.RLIMIT_FSIZE, FILE_BYTES)
    _limit(resource.RLIMIT_CORE, 0)
    if max_processes is not None:
        _limit(resource.RLIMIT_NPROC, max_processes)
    # Writing past the limit raises OSError in the grader instead of ending the process.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def _limit(limit: int, value: int) -> None:
    hard = resource.getrlimit(limit)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (value, value))


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
