"""Which system calls the code of a python grader may make, as a seccomp program.

Everything that is not listed is refused: what arithmetic, text, files in /tmp, threads and the scientific packages need
is here; new processes and programs, sockets, tracing, mounts, keys, and whatever a later kernel adds are not. A call
that is refused fails as on a kernel that lacks it (ENOSYS), so that libraries fall back to another one.
"""

import errno
import os
import struct

# Name, number on x86_64, number on aarch64; -1 where an architecture has none.
_HARMLESS = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, preadv 295 69, pwritev 296 70,
preadv2 327 286, pwritev2 328 287, lseek 8 62, close 3 57, close_range 436 436, dup 32 23, dup2 33 -1, dup3 292 24,
open 2 -1, openat 257 56, creat 85 -1, access 21 -1, faccessat 269 48, faccessat2 439 439, stat 4 -1, lstat 6 -1,
fstat 5 80, newfstatat 262 79, statx 332 291, statfs 137 43, fstatfs 138 44, getdents 78 -1, getdents64 217 61,
readlink 89 -1, readlinkat 267 78, getcwd 79 17, chdir 80 49, fchdir 81 50, mkdir 83 -1, mkdirat 258 34, rmdir 84 -1,
rename 82 -1, renameat 264 38, renameat2 316 276, link 86 -1, linkat 265 37, unlink 87 -1, unlinkat 263 35,
symlink 88 -1, symlinkat 266 36, chmod 90 -1, fchmod 91 52, fchmodat 268 53, fchmodat2 452 452, utime 132 -1,
utimes 235 -1, utimensat 280 88, futimesat 261 -1, umask 95 166, truncate 76 45, ftruncate 77 46, fallocate 285 47,
fadvise64 221 223, fsync 74 82, fdatasync 75 83, flock 73 32, sendfile 40 71, copy_file_range 326 285,
listxattr 194 11, llistxattr 195 12, flistxattr 196 13, getxattr 191 8, lgetxattr 192 9, fgetxattr 193 10,
pipe 22 -1, pipe2 293 59, poll 7 -1, ppoll 271 73, select 23 -1, pselect6 270 72, epoll_create 213 -1,
epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -1, epoll_pwait 281 22, epoll_pwait2 441 441, eventfd 284 -1,
eventfd2 290 19, shutdown 48 210, getsockopt 55 209, getsockname 51 204, getpeername 52 205,
mmap 9 222, mprotect 10 226, munmap 11 215, mremap 25 216, msync 26 227, madvise 28 233, mincore 27 232, brk 12 214,
membarrier 324 283, rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136,
rt_sigtimedwait 128 137, rt_sigsuspend 130 133, sigaltstack 131 132, kill 62 129, tkill 200 130, tgkill 234 131,
pause 34 -1, alarm 37 -1, getitimer 36 102, setitimer 38 103, restart_syscall 219 128, nanosleep 35 101,
clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114, gettimeofday 96 169, time 201 -1, times 100 153,
futex 202 98, set_robust_list 273 99, get_robust_list 274 100, set_tid_address 218 96, rseq 334 293,
sched_yield 24 124, sched_getaffinity 204 123, sched_setaffinity 203 122, sched_getparam 143 121,
sched_getscheduler 145 120, sched_get_priority_max 146 125, sched_get_priority_min 147 126, getpriority 140 141,
setpriority 141 140, getcpu 309 168, get_mempolicy 239 236, arch_prctl 158 -1, exit 60 93, exit_group 231 94,
wait4 61 260, waitid 247 95, getpid 39 172, getppid 110 173, gettid 186 178, getpgrp 111 -1, getpgid 121 155,
getsid 124 156, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177, getresuid 118 148,
getresgid 120 150, getgroups 115 158, capget 125 90, uname 63 160, sysinfo 99 179, getrusage 98 165,
getrlimit 97 163, setrlimit 160 164, prlimit64 302 261, getrandom 318 278
"""
# Refused as not permitted, which Python turns into the error that people expect.
_NOT_PERMITTED = "fork 57 -1, vfork 58 -1, execve 59 221, execveat 322 281, socket 41 198"
_FCNTL, _IOCTL, _PRCTL, _CLONE, _SOCKETPAIR = (72, 25), (16, 29), (157, 167), (56, 220), (53, 199)
_SENDTO, _RECVFROM = (44, 206), (45, 207)

# F_DUPFD, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_OFD_GETLK, F_DUPFD_CLOEXEC, F_GETPIPE_SZ
_FCNTL_COMMANDS = (0, 1, 2, 3, 4, 5, 36, 1030, 1032)
# F_SETLK, F_SETLKW, F_OFD_SETLK, F_OFD_SETLKW: the kernel keeps memory for each lock, and counts it nowhere. Nobody
# else is in the jail to be locked out, so they succeed without being made, and SQLite works.
_LOCK_COMMANDS = (6, 7, 37, 38)
# TCGETS, TIOCGWINSZ, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX
_IOCTL_REQUESTS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
# PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME, PR_CAPBSET_READ; not PR_SET_PDEATHSIG, by which the worker dies with its
# parent.
_PRCTL_OPTIONS = (3, 15, 16, 23)
_CLONE_THREAD = 0x10000
_CLONE_NAMESPACES = 0x7E020000
_AF_UNIX, _SOCK_STREAM, _SOCK_TYPES = 1, 1, 0xF
# MSG_NOSIGNAL and MSG_DONTWAIT; MSG_PEEK, MSG_TRUNC, MSG_DONTWAIT and MSG_WAITALL. Not MSG_OOB, where kernels broke.
_SEND_FLAGS, _RECEIVE_FLAGS = 0x4040, 0x0162

_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_LOAD, _JUMP_EQUAL, _JUMP_BITS, _AND, _RETURN = 0x20, 0x15, 0x45, 0x54, 0x06
_KILL, _ALLOW, _FAIL = 0x80000000, 0x7FFF0000, 0x00050000

Line = tuple[int, int, int, int]


def seccomp_program(machine: str | None = None) -> bytes | None:
    """The program, as the kernel takes it; None where there is none for the machine's architecture.

    Args:
        machine: as `os.uname()` names it; this machine's by default.
    """
    machine = machine or os.uname().machine
    if machine not in _ARCHITECTURES:
        return None
    place = list(_ARCHITECTURES).index(machine)
    # A process may call the kernel by another architecture's numbers (on x86_64, those of i386): that ends it. The x32
    # numbers of x86_64 are none of those listed.
    program: list[Line] = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 1, 0, _ARCHITECTURES[machine]),
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, 0),
    ]
    for number in _numbers(_HARMLESS, place):
        program += _if_call(number, [(_RETURN, 0, 0, _ALLOW)])
    for number in _numbers(_NOT_PERMITTED, place):
        program += _if_call(number, [(_RETURN, 0, 0, _FAIL | errno.EPERM)])
    for numbers, rules in _CONDITIONS:
        program += _if_call(numbers[place], rules)
    program.append((_RETURN, 0, 0, _FAIL | errno.ENOSYS))
    return b"".join(struct.pack("=HBBI", *line) for line in program)


def _numbers(listed: str, place: int) -> list[int]:
    found = [int(entry.split()[1 + place]) for entry in listed.split(",")]
    return [number for number in found if number >= 0]


def _if_call(number: int, rules: list[Line]) -> list[Line]:
    """Rules, each path of which ends in a return, for one call."""
    return [(_JUMP_EQUAL, 0, len(rules), number), *rules]


def _argument(index: int, *, high: bool = False) -> Line:
    """Load half of an argument; both architectures put the lower half first."""
    return (_LOAD, 0, 0, 16 + 8 * index + 4 * high)


def _one_of(index: int, values: tuple[int, ...], answer: int) -> list[Line]:
    rules = [_argument(index)]
    for value in values:
        rules += [(_JUMP_EQUAL, 0, 1, value), (_RETURN, 0, 0, answer)]
    return rules


def _fail_if_bits(bits: int, code: int) -> list[Line]:
    return [(_JUMP_BITS, 0, 1, bits), (_RETURN, 0, 0, _FAIL | code)]


def _fail_unless(value: int, code: int) -> list[Line]:
    return [(_JUMP_EQUAL, 1, 0, value), (_RETURN, 0, 0, _FAIL | code)]


_ALLOWED: Line = (_RETURN, 0, 0, _ALLOW)
_CONDITIONS: list[tuple[tuple[int, int], list[Line]]] = [
    (
        _FCNTL,
        [
            *_one_of(1, _FCNTL_COMMANDS, _ALLOW),
            *_one_of(1, _LOCK_COMMANDS, _FAIL),
            (_RETURN, 0, 0, _FAIL | errno.EINVAL),
        ],
    ),
    (_IOCTL, [*_one_of(1, _IOCTL_REQUESTS, _ALLOW), (_RETURN, 0, 0, _FAIL | errno.ENOTTY)]),
    (_PRCTL, [*_one_of(0, _PRCTL_OPTIONS, _ALLOW), (_RETURN, 0, 0, _FAIL | errno.EINVAL)]),
    # Threads. The C library falls back to clone from clone3, whose flags a filter cannot read.
    (
        _CLONE,
        [
            _argument(0),
            *_fail_if_bits(_CLONE_NAMESPACES, errno.EPERM),
            (_JUMP_BITS, 1, 0, _CLONE_THREAD),
            (_RETURN, 0, 0, _FAIL | errno.EPERM),
            _ALLOWED,
        ],
    ),
    # A pair for asyncio's own wake-ups. No file descriptor can be sent through it, to be held beyond the limit.
    (
        _SOCKETPAIR,
        [
            _argument(0),
            *_fail_unless(_AF_UNIX, errno.EPERM),
            _argument(1),
            (_AND, 0, 0, _SOCK_TYPES),
            *_fail_unless(_SOCK_STREAM, errno.EPERM),
            _ALLOWED,
        ],
    ),
    (
        _SENDTO,
        [
            _argument(3),
            *_fail_if_bits(0xFFFFFFFF ^ _SEND_FLAGS, errno.EPERM),
            _argument(4),
            *_fail_unless(0, errno.EPERM),
            _argument(4, high=True),
            *_fail_unless(0, errno.EPERM),
            _ALLOWED,
        ],
    ),
    (_RECVFROM, [_argument(3), *_fail_if_bits(0xFFFFFFFF ^ _RECEIVE_FLAGS, errno.EPERM), _ALLOWED]),
]
