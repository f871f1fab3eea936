"""The seccomp program, run by a small interpreter: what the kernel would answer to a call."""

import errno
import re
import struct
from pathlib import Path

import pytest

from agentrft.graders.syscalls import _HARMLESS, seccomp_program

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, KILL, FAIL = 0x7FFF0000, 0x80000000, 0x00050000


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """What the program returns for a call."""
    program = seccomp_program(machine)
    assert program is not None
    lines = list(struct.iter_unpack("=HBBI", program))
    values = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("=iIQ6Q", number, architecture or ARCHITECTURES[machine], 0, *values)
    place, value = 0, 0
    while True:
        code, if_true, if_false, operand = lines[place]
        place += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x54:
            value &= operand
        elif code == 0x15:
            place += if_true if value == operand else if_false
        elif code == 0x45:
            place += if_true if value & operand else if_false
        else:
            assert code == 0x06
            return operand


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_every_call_has_an_answer_and_most_are_not_there(machine: str) -> None:
    answers = [answer(machine, number) for number in range(1024)]
    n_allowed = answers.count(ALLOW)
    assert 100 < n_allowed < 190
    assert answers[600] == FAIL | errno.ENOSYS
    assert answer(machine, 0x40000000 + 1) == FAIL | errno.ENOSYS
    assert set(answers) <= {ALLOW, *(FAIL | code for code in (errno.EPERM, errno.ENOSYS, errno.EINVAL, errno.ENOTTY))}


def test_the_numbers_of_another_architecture_end_the_process() -> None:
    assert answer("x86_64", 1, architecture=0x40000003) == KILL
    assert answer("aarch64", 64, architecture=0x40000028) == KILL


def test_an_unknown_architecture_has_no_program() -> None:
    assert seccomp_program("riscv64") is None


def test_threads_may_be_made_and_neither_processes_nor_namespaces() -> None:
    thread = 0x3D0F00
    assert answer("x86_64", 56, thread) == ALLOW
    assert answer("aarch64", 220, thread) == ALLOW
    for flags in (17, 0x4111, 0x10000000 | 17, thread | 0x40000000, thread | 0x20000000, thread | 0x20000):
        assert answer("x86_64", 56, flags) == FAIL | errno.EPERM
    assert answer("x86_64", 435) == FAIL | errno.ENOSYS, "the C library then takes clone"


def test_a_pair_of_streams_may_be_made_and_used_for_nothing_but_bytes() -> None:
    socketpair, sendto, recvfrom = 53, 44, 45
    assert answer("x86_64", socketpair, 1, 1 | 0o2004000) == ALLOW
    for family, kind in ((1, 2), (1, 5), (2, 1), (16, 3), (30, 1)):
        assert answer("x86_64", socketpair, family, kind) == FAIL | errno.EPERM
    assert answer("x86_64", sendto, 3, 1, 1, 0x4000, 0, 0) == ALLOW
    assert answer("x86_64", sendto, 3, 1, 1, 1, 0, 0) == FAIL | errno.EPERM
    assert answer("x86_64", sendto, 3, 1, 1, 0, 0x1000, 16) == FAIL | errno.EPERM
    assert answer("x86_64", sendto, 3, 1, 1, 0, 0x1000 << 32, 16) == FAIL | errno.EPERM
    assert answer("x86_64", recvfrom, 3, 1, 1, 0x40) == ALLOW
    assert answer("x86_64", recvfrom, 3, 1, 1, 1) == FAIL | errno.EPERM
    for number in (41, 42, 43, 46, 47, 49, 50, 54, 288, 299, 307):
        assert answer("x86_64", number) != ALLOW, (
            "socket, connect, accept, sendmsg, recvmsg, bind, listen, setsockopt …"
        )


def test_locks_succeed_without_being_made() -> None:
    for command in (6, 7, 37, 38):
        assert answer("x86_64", 72, 3, command) == FAIL
    assert answer("x86_64", 72, 3, 1031) == FAIL | errno.EINVAL, "F_SETPIPE_SZ"
    assert answer("x86_64", 72, 3, 3) == ALLOW


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_numbers_are_the_kernels(machine: str) -> None:
    headers = {"x86_64": "x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}
    header = Path("/usr/include") / headers[machine]
    if not header.is_file():
        pytest.skip("the kernel's headers are not installed")
    found = re.findall(r"#define __NR(?:3264)?_(\w+) (\d+)", header.read_text())
    kernels = {name: int(number) for name, number in found}
    place = list(ARCHITECTURES).index(machine)
    for entry in _HARMLESS.split(","):
        name, *numbers = entry.split()
        kernels_name = "fstatat" if name == "newfstatat" and machine == "aarch64" else name
        if int(numbers[place]) >= 0 and kernels_name in kernels:
            assert kernels[kernels_name] == int(numbers[place]), name
