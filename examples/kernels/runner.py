"""Kernels run in a jail, seen from outside: shared buffers, orders, and what became of them.

The jail is that of python graders (bubblewrap), and in it runs `runner.c`. Inputs and outputs are memory that both
sides see; in the jail inputs can only be read. Nothing that is read back is believed before it is compared: outputs are
numbers, and the time comes from `runner.c`'s own process, which no kernel can write to.

Layout, in pages. Inputs: the plan, a guard, a slot, a guard, a slot, a guard, then what is timed. Outputs: a guard, a
slot, a guard, then what is timed. Checked calls use the slots, and touching a guard ends the kernel.
"""

import fcntl
import mmap
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agentrft.errors import UserError
from agentrft.graders.python_process import WORKER
from agentrft.graders.sandbox import working_jail

SOURCE = Path(__file__).with_name("runner.c")
PAGE = 4096
SLOT_BYTES = 16 * PAGE
SLOT_FLOATS = SLOT_BYTES // 4
# Where the slots begin, and what is timed.
FIRST_SLOT, SECOND_SLOT = 2 * PAGE, 3 * PAGE + SLOT_BYTES
OUT_SLOT = PAGE
TIMED_INPUTS = 4 * PAGE + 2 * SLOT_BYTES
TIMED_OUTPUTS = 2 * PAGE + SLOT_BYTES
TIMED_CALLS = 64
TIMED_BYTES = 1024**2
INPUT_BYTES = TIMED_INPUTS + 2 * TIMED_BYTES
# Between outputs there is a page that nothing may write to.
OUTPUT_BYTES = TIMED_OUTPUTS + TIMED_BYTES + TIMED_CALLS * PAGE
MAX_CALLS = PAGE // 40
# Of a call, or of a timed series; the process has CPU_SECONDS of `runner.c` besides.
DEADLINE_S = 4.0
START_DEADLINE_S = 30.0
BUILD_TIMEOUT_S = 60.0

LOAD, TIME, OPEN, CALL, CLOSE = 1, 2, 3, 4, 5
FINISHED = 0
COMMAND, REPLY, PLANNED = struct.Struct("=II"), struct.Struct("=iiq"), struct.Struct("=iiiiQQQ")
F_ADD_SEALS = 1033
# Nobody maps it writable any more, and its size is fixed; the mapping that we have stays writable.
SEALS = 0x0002 | 0x0004 | 0x0010

SIGNALS = {
    signal.SIGSEGV: "it touched memory outside of its buffers, wrote to an input, or read the clock",
    signal.SIGBUS: "it touched memory outside of its buffers",
    signal.SIGSYS: "it made a system call",
    signal.SIGFPE: "it divided integers by zero",
    signal.SIGILL: "it ran an illegal instruction",
    signal.SIGXCPU: "it took too long",
    signal.SIGKILL: "it took too long",
    signal.SIGABRT: "it ended itself",
}


class KernelDied(Exception):
    """Why the kernel's process ended before its calls were done, in words."""


@dataclass(frozen=True)
class Call:
    """One call of a kernel.

    Attributes:
        signature: number of the C signature, as in `graphs.SIGNATURES`.
        rows, n: what it is told of the sizes.
        first, second, out: byte offsets into inputs and outputs.
    """

    signature: int
    rows: int
    n: int
    first: int
    second: int
    out: int


class Runner:
    """The jailed process. Use it from one thread, which must live as long: the jail ends with the thread that made it.

    Attributes:
        inputs, outputs: the shared memory as float32; see the module for its layout.

    Args:
        trusted: without bubblewrap. The kernel still has its limits and three system calls.

    Raises:
        UserError: the jail cannot be made, or `runner.c` cannot be compiled.
    """

    def __init__(self, *, trusted: bool = False) -> None:
        self._jail = None if trusted else working_jail(WORKER)
        self._folder = Path(tempfile.mkdtemp(prefix="kernels-"))
        self._folder.chmod(0o755)
        self._program = self._folder / "runner"
        _build(self._program)
        self._input_fd, input_memory = _shared(INPUT_BYTES)
        self._output_fd, output_memory = _shared(OUTPUT_BYTES)
        fcntl.fcntl(self._input_fd, F_ADD_SEALS, SEALS)
        self._plan = memoryview(input_memory)[:PAGE]
        self.inputs: NDArray[np.float32] = np.frombuffer(input_memory, np.float32)
        self.outputs: NDArray[np.float32] = np.frombuffer(output_memory, np.float32)
        self._library = b""
        self._process: subprocess.Popen[bytes] | None = None
        self._commands = self._replies = -1
        self._start()

    def load(self, library: bytes) -> None:
        """The shared object that later calls run; its function is `f`."""
        if library == self._library and self._process is not None:
            return
        self._library = library
        if self._process is None:
            self._start()
        self._send(LOAD, len(library), library)
        self._answer(START_DEADLINE_S)

    def plan(self, calls: list[Call]) -> None:
        """The calls that `call` and `timed` refer to by their number."""
        assert len(calls) <= MAX_CALLS
        for number, call in enumerate(calls):
            values = (call.signature, call.rows, call.n, 0, call.first, call.second, call.out)
            PLANNED.pack_into(self._plan, number * PLANNED.size, *values)

    def open(self) -> None:
        """Start a process for checked calls; it lives until `close_calls`, so what a kernel remembers, it remembers."""
        self._send(OPEN)
        self._answer(DEADLINE_S)

    def call(self, number: int) -> None:
        """Make one planned call.

        Raises:
            KernelDied: the process ended in it.
        """
        self._send(CALL, number)
        what, _, _ = self._answer(DEADLINE_S)
        if what != FINISHED:
            raise KernelDied(_cause(self.close_calls()))

    def threads(self) -> int:
        """How many threads the process of checked calls has, as the kernel of the system sees it from outside."""
        assert self._process is not None
        process = self._process.pid
        if self._jail is not None:
            process = _only_child(process)
        return len(os.listdir(f"/proc/{_only_child(process)}/task"))

    def close_calls(self) -> int:
        """End the process of checked calls. Returns its wait status."""
        self._send(CLOSE)
        return self._answer(DEADLINE_S)[1]

    def timed(self, count: int) -> int:
        """Nanoseconds that a fresh process takes for the first `count` planned calls, and to end.

        Raises:
            KernelDied: it ended otherwise than by itself.
        """
        self._send(TIME, count)
        _, status, nanoseconds = self._answer(DEADLINE_S)
        if status != 0:
            raise KernelDied(_cause(status))
        return nanoseconds

    def close(self) -> None:
        """End the jail and remove what was made for it."""
        self._end()
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._input_fd)
        os.close(self._output_fd)

    def _start(self) -> None:
        commands, self._commands = os.pipe()
        self._replies, replies = os.pipe()
        library = "/tmp/kernel.so" if self._jail is not None else str(self._folder / "kernel.so")
        fds = (commands, replies, self._input_fd, self._output_fd)
        sizes = (INPUT_BYTES, OUTPUT_BYTES, SLOT_BYTES)
        command = [str(self._program), library, *map(str, (*fds, *sizes))]
        if self._jail is not None:
            command = self._jail.launch(command, self._program).command
        self._process = subprocess.Popen(command, pass_fds=fds, env={}, cwd="/", start_new_session=True)
        os.close(commands)
        os.close(replies)
        self._answer(START_DEADLINE_S)

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            os.close(self._commands)
            os.close(self._replies)

    def _send(self, what: int, number: int = 0, body: bytes = b"") -> None:
        if self._process is None:
            self._start()
            self._send(LOAD, len(self._library), self._library)
            self._answer(START_DEADLINE_S)
        remaining = memoryview(COMMAND.pack(what, number) + body)
        while remaining:
            remaining = remaining[os.write(self._commands, remaining) :]

    def _answer(self, deadline_s: float) -> tuple[int, int, int]:
        """What, status, nanoseconds. The jail is ended where none comes in time, and the next order starts another.

        Raises:
            KernelDied: none came.
            UserError: the jail ended by itself.
        """
        until = time.monotonic() + deadline_s
        got = b""
        while len(got) < REPLY.size:
            ready, _, _ = select.select([self._replies], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                self._end()
                raise KernelDied(SIGNALS[signal.SIGKILL])
            part = os.read(self._replies, REPLY.size - len(got))
            if not part:
                self._end()
                raise UserError("the process that runs kernels has ended.", "Its last words are in this log.")
            got += part
        return REPLY.unpack(got)


def _build(program: Path) -> None:
    command = ["gcc", "-O2", "-o", str(program), str(SOURCE), "-Wl,--no-as-needed", "-lm", "-ldl"]
    # With the vector mathematics of the C library, where it has some, so that loading a kernel takes no time.
    for libraries in (["-lmvec"], []):
        try:
            built = subprocess.run([*command, *libraries], capture_output=True, text=True, timeout=BUILD_TIMEOUT_S)
        except OSError as error:
            raise UserError(
                f"kernels need gcc, which cannot be run: {error}", "Install gcc (`apt install gcc`)."
            ) from error
        if built.returncode == 0:
            program.chmod(0o755)
            return
    raise UserError(
        f"gcc cannot compile {SOURCE.name}: {built.stderr[-300:]}", "Install gcc with the C library's headers."
    )


def _shared(size: int) -> tuple[int, mmap.mmap]:
    fd = os.memfd_create("kernels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    return fd, mmap.mmap(fd, size)


def _only_child(process: int) -> int:
    return int(Path(f"/proc/{process}/task/{process}/children").read_text().split()[0])


def _cause(status: int) -> str:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return SIGNALS.get(signal.Signals(number), f"signal {number} ended it")
    return "it ended before its call was over"
