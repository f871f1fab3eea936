"""Hostile code in a python grader: what it tries fails, and leaves nothing behind."""

import asyncio
import os
import shutil
import socket
import statistics
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import UserError
from agentrft.graders import GraderFailure, GraderSample, sandbox
from agentrft.graders.python import PythonGrader
from agentrft.spec.graders import PythonGraderSpec

# scripts/system.sh installs it before `make test` wherever it may.
pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")

Make = Callable[..., PythonGrader]
SAMPLE = GraderSample("the answer")
SECRET = "sk-of-the-parent-0123456789"


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    graders: list[PythonGrader] = []

    def _make(source: str, timeout_s: float = 30.0) -> PythonGrader:
        spec = PythonGraderSpec(type="python", name="mine", source=textwrap.dedent(source), timeout_s=timeout_s)
        graders.append(PythonGrader(spec, 1))
        return graders[-1]

    yield _make
    for grader in graders:
        await grader.close()


async def outcome(grader: PythonGrader, **item: Any) -> str:
    """What a grader that tries something brings: "reached" if it returned 1, else why not."""
    try:
        grade = await grader.grade(SAMPLE, item=item, trace_id="trace_1")
    except GraderFailure as failure:
        return f"{failure.kind}: {failure}"
    return "reached" if grade.score == 1 else "nothing"


async def works(grader: PythonGrader) -> bool:
    """Whether the grader's next call is answered, on an item that it does nothing with."""
    return (await grader.grade(SAMPLE, item={"rest": True}, trace_id="trace_2")).score == 0


ATTEMPTS = {
    "reads a file of its user": "return float(len(open(item['path']).read()) > 0)",
    "reads the passwords": "return float('root' in open('/etc/passwd').read())",
    "lists the home folders": (
        "names = [name for home in ('/root', '/home') for name in os.listdir(home)]\n"
        "return float(any(not name.startswith('.') for name in names))"
    ),
    "reads the parent's environment": (
        "return float(b'sk-of-the-parent' in open(f'/proc/{item[\"pid\"]}/environ', 'rb').read())"
    ),
    "finds another process": "return float(any(n.isdigit() and int(n) > 5 for n in os.listdir('/proc')))",
    "reads a key from its environment": "return float(bool(set(os.environ) - {'LC_CTYPE', 'PWD'}))",
    "reads a key of process 1": "return float(b'sk-' in open('/proc/1/environ', 'rb').read())",
    "connects to the network": "import socket; socket.create_connection(('127.0.0.1', item['port']), 2); return 1.0",
    "opens a raw socket through ctypes": ("import ctypes; return float(ctypes.CDLL(None).socket(2, 1, 0) >= 0)"),
    "starts a program": (
        "import subprocess, sys; return float(subprocess.run([sys.executable, '-c', '']).returncode == 0)"
    ),
    "starts a program through ctypes": ("import ctypes; return float(ctypes.CDLL(None).system(b'true') == 0)"),
    "forks through ctypes": (
        "import ctypes; pid = ctypes.CDLL(None).fork()\nif pid == 0: os._exit(0)\nreturn float(pid > 0)"
    ),
    "becomes another program": "os.execv('/usr/bin/true', ['true'])",
    "writes to the system": "open('/usr/lib/x.py', 'w').write('x'); return 1.0",
    "writes beside Python": "import sys; open(os.path.join(sys.prefix, 'x.py'), 'w').write('x'); return 1.0",
    "writes at the root": "open('/x', 'w').write('x'); return 1.0",
    "writes through a link": ("os.symlink(item['path'], '/tmp/link'); open('/tmp/link', 'a').write('x'); return 1.0"),
    "leaves its root by a relative path": "return float('root' in open('/tmp/../../../../etc/shadow').read())",
    "signals the parent": "import signal; os.kill(item['pid'], signal.SIGTERM); return 1.0",
    "traces another process": "import ctypes; return float(ctypes.CDLL(None).ptrace(16, 1, 0, 0) == 0)",
    "makes namespaces": "import ctypes; return float(ctypes.CDLL(None).unshare(0x10000000) == 0)",
    "mounts": "import ctypes; return float(ctypes.CDLL(None).mount(b'x', b'/tmp', b'tmpfs', 0, None) == 0)",
    "gets more rights": "os.setuid(0); return float(os.getuid() == 0)",
    "loads a kernel module": "import ctypes; return float(ctypes.CDLL(None).syscall(175, 0, 0, b'') == 0)",
}


@pytest.mark.parametrize("attempt", ATTEMPTS)
async def test_an_attack_reaches_nothing_and_the_grader_goes_on(
    make: Make, attempt: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTRFT_TEST_KEY", SECRET)
    file = tmp_path / "secret.txt"
    file.write_text(SECRET)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        source = "import os\ndef grade(sample, item):\n    if item.get('rest'):\n        return 0.0\n"
        grader = make(source + textwrap.indent(ATTEMPTS[attempt], "    "))
        item = {"path": str(file), "pid": os.getpid(), "port": listening.getsockname()[1]}
        assert await outcome(grader, **item) != "reached"
    assert await works(grader)
    assert file.read_text() == SECRET


async def test_a_fork_bomb_starts_nothing(make: Make) -> None:
    grader = make("""
        import os
        def grade(sample, item):
            started = 0
            for _ in range(10_000):
                try:
                    if os.fork() == 0:
                        os._exit(0)
                    started += 1
                except OSError:
                    pass
            return float(started)
    """)
    assert (await grader.grade(SAMPLE, item={}, trace_id="t")).score == 0


async def test_a_bomb_of_threads_ends_in_an_error_of_its_own(make: Make) -> None:
    grader = make("""
        import threading, time
        def grade(sample, item):
            if item.get("rest"):
                return 0.0
            for _ in range(100_000):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
            return 1.0
    """)
    assert "reached" not in await outcome(grader)


async def test_memory_is_bounded(make: Make) -> None:
    grader = make("""
        def grade(sample, item):
            if item.get("rest"):
                return 0.0
            return float(len(bytearray(3 * 1024**3)) > 0)
    """)
    assert "reached" not in await outcome(grader)
    assert await works(grader)


async def test_files_in_memory_are_bounded(make: Make) -> None:
    grader = make("""
        def grade(sample, item):
            if item.get("rest"):
                return 0.0
            for folder in ("/tmp", "/dev/shm"):
                for number in range(40):
                    open(f"{folder}/{number}", "wb").write(bytes(32 * 1024**2))
            return 1.0
    """)
    assert "No space left" in await outcome(grader)
    assert await works(grader)


async def test_an_endless_loop_is_ended_at_its_time_out(make: Make) -> None:
    grader = make(
        """
        def grade(sample, item):
            while not item.get("rest"):
                try:
                    while True:
                        pass
                except BaseException:
                    pass
            return 0.0
    """,
        timeout_s=1.0,
    )
    started = time.monotonic()
    assert (await outcome(grader)).startswith("timeout")
    assert time.monotonic() - started < 10
    assert await works(grader)


async def test_one_graders_files_and_globals_are_not_anothers(make: Make) -> None:
    source = """
        import os, sys
        def grade(sample, item):
            seen = os.path.exists("/tmp/mark") or hasattr(sys, "mark")
            open("/tmp/mark", "w").write("x")
            sys.mark = True
            return float(seen)
    """
    first, second = make(source), make(source)
    assert await outcome(first) == "nothing"
    assert await outcome(first) == "reached"
    assert await outcome(second) == "nothing"


async def test_a_grader_that_writes_on_the_protocols_streams_forges_no_score(make: Make) -> None:
    grader = make("""
        import os, struct
        def grade(sample, item):
            forged = b'{"score": 1.0}'
            for stream in range(3):
                try:
                    os.write(stream, struct.pack(">I", len(forged)) + forged)
                except OSError:
                    pass
            return 0.25
    """)
    grade = await grader.grade(SAMPLE, item={}, trace_id="t")
    assert grade.score == 0.25


async def test_nothing_outlives_the_grader(make: Make) -> None:
    grader = make("def grade(sample, item):\n    return 0.0\n")
    await works(grader)
    (worker,) = grader._workers
    pid = worker._process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    assert children
    await grader.close()
    async with asyncio.timeout(10):
        while any(Path(f"/proc/{child}").exists() for child in [str(pid), *children]):
            await asyncio.sleep(0.01)


async def test_the_libraries_that_graders_use_can_be_imported(make: Make) -> None:
    grader = make("""
        import jsonschema, numpy, pandas, pydantic, rapidfuzz, rouge_score, scipy.stats, sklearn.metrics, yaml
        def grade(sample, item):
            frame = pandas.DataFrame({"a": numpy.arange(4)})
            return float(sklearn.metrics.f1_score([0, 1], [0, 1])) + float(scipy.stats.norm.cdf(0)) + frame.a.sum()
    """)
    assert (await grader.grade(SAMPLE, item={}, trace_id="t")).score == 7.5


async def test_a_warm_call_takes_milliseconds(make: Make) -> None:
    grader = make("def grade(sample, item):\n    return 1.0\n")
    await grader.grade(SAMPLE, item={}, trace_id="t")
    seconds = []
    for _ in range(200):
        started = time.perf_counter()
        await grader.grade(SAMPLE, item={}, trace_id="t")
        seconds.append(time.perf_counter() - started)
    print(f"warm call: {1000 * statistics.median(seconds):.2f} ms")
    # The median is below 1 ms on an idle machine; this only catches a process that is started for each call.
    assert statistics.median(seconds) < 0.05


def test_without_bubblewrap_the_grader_is_refused_unless_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    sandbox.working_jail.cache_clear()
    source = "def grade(sample, item):\n    return 0.0\n"
    try:
        with pytest.raises(UserError, match="bubblewrap") as refused:
            PythonGrader(PythonGraderSpec(type="python", source=source))
        assert "trusted: true" in refused.value.remedy
        PythonGrader(PythonGraderSpec(type="python", source=source, trusted=True))
    finally:
        sandbox.working_jail.cache_clear()
