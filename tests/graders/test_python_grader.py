import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from agentrft.errors import UserError
from agentrft.graders import GraderFailure, GraderSample, python_process
from agentrft.graders.python import PythonGrader
from agentrft.spec.graders import PythonGraderSpec

Make = Callable[..., PythonGrader]
SAMPLE = GraderSample("the answer", output_tools=[{"id": "1", "function": {"name": "search", "arguments": "{}"}}])


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    graders: list[PythonGrader] = []

    def _make(source: str, timeout_s: float = 30.0, n_workers: int = 1) -> PythonGrader:
        spec = PythonGraderSpec(
            type="python", name="mine", source=textwrap.dedent(source), trusted=True, timeout_s=timeout_s
        )
        graders.append(PythonGrader(spec, n_workers))
        return graders[-1]

    yield _make
    for grader in graders:
        await grader.close()


async def score(grader: PythonGrader, sample: GraderSample = SAMPLE, **item: Any) -> float:
    return (await grader.grade(sample, item=item, trace_id="trace_1")).score


async def failure(grader: PythonGrader, **item: Any) -> GraderFailure:
    with pytest.raises(GraderFailure) as error:
        await grader.grade(SAMPLE, item=item, trace_id="trace_1")
    return error.value


def running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def test_grade_gets_the_sample_and_the_item(make: Make) -> None:
    grader = make("""
        def grade(sample, item):
            assert sample["output_text"] == "the answer", sample
            assert sample["output_tools"][0]["function"]["name"] == "search"
            return item["x"] / 4
    """)
    grade = await grader.grade(SAMPLE, item={"x": 1}, trace_id="trace_1")
    assert grade.score == 0.25
    assert grade.latency_s > 0


async def test_the_code_runs_in_another_process_without_environment(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_KEY", "value")
    grader = make("""
        import os
        def grade(sample, item):
            assert set(os.environ) == {"HOME"}, sorted(os.environ)
            assert not os.listdir(".")
            return os.getpid()
    """)
    pid = await score(grader)
    assert pid != os.getpid()
    assert await score(grader) == pid, "one worker serves call after call"


# As python_worker.py, on a kernel that refuses network namespaces.
WORKER_WITHOUT_NAMESPACE = """
import importlib.util
spec = importlib.util.spec_from_file_location("worker", {path!r})
worker = importlib.util.module_from_spec(spec)
spec.loader.exec_module(worker)
worker._leave_network = lambda libc: False
worker.main()
"""


@pytest.fixture(params=["with the kernel's namespaces", "without namespaces"])
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    if request.param == "without namespaces":
        worker = tmp_path / "worker.py"
        worker.write_text(WORKER_WITHOUT_NAMESPACE.format(path=str(python_process.WORKER)))
        monkeypatch.setattr(python_process, "WORKER", worker)
    return request.param


async def test_the_code_reaches_no_server_neither_itself_nor_through_a_child(
    make: Make, kernel: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(text="reached")

    app = web.Application()
    app.router.add_get("/", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        grader = make("""
            import socket, subprocess, sys
            CONNECT = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1])), 2)"
            def grade(sample, item):
                reached = 0
                try:
                    socket.create_connection(("127.0.0.1", item["port"]), timeout=2)
                    reached += 1
                except OSError:
                    pass
                try:
                    reached += subprocess.run([sys.executable, "-c", CONNECT, str(item["port"])]).returncode == 0
                except OSError:
                    pass
                return reached
        """)
        connect = f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)"
        control = await asyncio.create_subprocess_exec(sys.executable, "-c", connect)
        assert await control.wait() == 0, "without the grader's walls the server is reached"
        assert await score(grader, port=port) == 0
        assert await score(grader, port=port) == 0
        if kernel == "without namespaces":
            assert caplog.text.count("no network namespace") == 1
    finally:
        await runner.cleanup()


async def test_a_grader_that_does_not_end_is_stopped_and_the_next_call_works(make: Make) -> None:
    grader = make(
        """
        import os
        def grade(sample, item):
            if "hang" in item:
                open(item["hang"], "w").write(str(os.getpid()))
                while True:
                    pass
            return 1.0
        """,
        timeout_s=1.0,
    )
    folder = Path(os.environ.get("TMPDIR", "/tmp")) / f"agentrft-test-{os.getpid()}"
    try:
        assert (await failure(grader, hang=str(folder))).kind == "timeout"
        assert not running(int(folder.read_text()))
    finally:
        folder.unlink(missing_ok=True)
    assert await score(grader) == 1.0


@pytest.mark.parametrize(
    ("crash", "message"),
    [
        ("sys.exit(3)", "exit code 3"),
        ("os._exit(0)", "exit code 0"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("os.kill(os.getpid(), 11)", "SIGSEGV"),
        ("bytearray(8 * 1024**3)", "MemoryError"),
    ],
)
async def test_a_crash_is_a_failure_and_the_next_call_gets_a_fresh_process(
    make: Make, crash: str, message: str
) -> None:
    grader = make(f"""
        import os, sys
        def grade(sample, item):
            print("before the crash")
            if item.get("crash"):
                {crash}
            return 1.0
    """)
    assert await score(grader) == 1.0
    found = await failure(grader, crash=True)
    assert found.kind == "crashed"
    assert message in str(found)
    assert "before the crash" in str(found)
    assert await score(grader) == 1.0


async def test_an_exception_names_type_message_and_line(make: Make) -> None:
    grader = make("""
        def helper(item):
            return item["answer"]
        def grade(sample, item):
            return helper(item)
    """)
    found = await failure(grader)
    assert found.kind == "exception"
    assert "KeyError: 'answer'" in str(found)
    assert 'line 3: return item["answer"]' in str(found)
    assert await score(grader, answer=1) == 1.0


async def test_an_exception_while_loading_is_reported_for_every_call(make: Make) -> None:
    grader = make("""
        import a_module_that_is_not_there
        def grade(sample, item):
            return 1.0
    """)
    for _ in range(2):
        found = await failure(grader)
        assert found.kind == "exception"
        assert "ModuleNotFoundError" in str(found) and "line 2" in str(found)


@pytest.mark.parametrize(
    "value", ["float('nan')", "float('inf')", "-float('inf')", "None", "'1.0'", "[1]", "10**400", "1j"]
)
async def test_what_is_not_a_finite_number_is_no_score(make: Make, value: str) -> None:
    grader = make(f"def grade(sample, item):\n    return {value}")
    assert (await failure(grader)).kind == "bad_answer"


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("True", 1.0),
        ("'answer' in sample['output_text']", 1.0),
        ("np.bool_(False)", 0.0),
        ("np.float32(0.5)", 0.5),
        ("np.float64(0.25)", 0.25),
        ("np.int64(3)", 3.0),
        ("np.mean([0, 1])", 0.5),
        ("np.array(0.5)", 0.5),
        ("np.float16('nan')", None),
        ("np.array([0.5, 1])", None),
        ("np.array(['0.5'])", None),
        ("np.complex64(1)", None),
        ("Decimal('0.75')", 0.75),
        ("Decimal('sNaN')", None),
        ("Fraction(1, 4)", 0.25),
    ],
)
async def test_truth_values_and_the_numbers_of_libraries_are_scores(
    make: Make, value: str, number: float | None
) -> None:
    imports = "import numpy as np\nfrom decimal import Decimal\nfrom fractions import Fraction\n"
    grader = make(f"{imports}def grade(sample, item):\n    return {value}")
    if number is None:
        assert (await failure(grader)).kind == "bad_answer"
    else:
        assert await score(grader) == number


async def test_prints_do_not_disturb_the_scores(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    grader = make("""
        import os, sys
        def grade(sample, item):
            print("x" * 300_000, "\\ud800")
            sys.stdout.flush()
            os.write(1, b'\\x00\\x00\\x00\\x02{}')
            sys.stderr.write("noise\\n")
            os.system("echo from a child")
            assert sys.stdin.read() == ""
            return 0.75
    """)
    caplog.set_level(logging.DEBUG, logger="agentrft.graders.python_process")
    for _ in range(3):
        assert await score(grader) == 0.75
    await until(lambda: "noise" in caplog.text)


async def test_concurrent_calls_each_get_their_own_score(make: Make) -> None:
    grader = make("def grade(sample, item):\n    return item['x']", n_workers=2)
    numbers = list(range(50))
    assert await asyncio.gather(*(score(grader, x=x) for x in numbers)) == numbers


async def test_any_text_reaches_the_grader_unchanged(make: Make) -> None:
    text = "umlaut ü, emoji \N{GRINNING FACE}, lone surrogate \ud800, zero \x00, line\r\n" + "long " * 300_000
    grader = make("def grade(sample, item):\n    return sample['output_text'] == item['text'] and 1.0")
    assert await score(grader, GraderSample(text), text=text) == 1.0


async def test_a_cancelled_call_ends_its_process(make: Make) -> None:
    grader = make("""
        import os, time
        def grade(sample, item):
            if "path" in item:
                open(item["path"], "w").write(str(os.getpid()))
                time.sleep(60)
            return 1.0
    """)
    path = Path(f"/tmp/agentrft-test-cancel-{os.getpid()}")
    try:
        call = asyncio.create_task(score(grader, path=str(path)))
        await until(lambda: path.exists() and path.read_text() != "")
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        pid = int(path.read_text())
        await until(lambda: not running(pid))
    finally:
        path.unlink(missing_ok=True)
    assert await score(grader) == 1.0


async def test_close_ends_the_process_and_removes_its_folder(make: Make) -> None:
    grader = make("import os\ndef grade(sample, item):\n    return os.getpid()")
    pid = int(await score(grader))
    folder = Path(f"/proc/{pid}/cwd").readlink()
    await grader.close()
    assert not running(pid)
    assert not folder.exists()
    assert (await failure(grader)).kind == "crashed"


async def test_no_worker_outlives_a_killed_parent() -> None:
    program = """
import asyncio, time
from agentrft.graders import GraderSample
from agentrft.graders.python import PythonGrader
from agentrft.spec.graders import PythonGraderSpec

SOURCE = '''
import os, time
def grade(sample, item):
    if item:
        time.sleep(60)
    return os.getpid()
'''

async def main():
    grader = PythonGrader(PythonGraderSpec(type="python", source=SOURCE, trusted=True))
    grade = await grader.grade(GraderSample(""), item={}, trace_id="")
    print(int(grade.score), flush=True)
    await grader.grade(GraderSample(""), item={"busy": True}, trace_id="")

asyncio.run(main())
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    pid = int(await asyncio.to_thread(parent.stdout.readline))
    assert running(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    await until(lambda: not running(pid))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def grade(sample, item)\n    return 1", "line 1"),
        ("x = 1", "there is none"),
        ("class A:\n    def grade(self, item): return 1", "there is none"),
        ("async def grade(sample, item):\n    return 1", "there is none"),
        ("def grade(sample):\n    return 1", "other arguments"),
        ("def grade(a, b, c):\n    return 1", "other arguments"),
        ("def grade(a, b, *, c):\n    return 1", "other arguments"),
        ("return 1\ndef grade(a, b): pass", "line 1"),
        ("def grade(a, b): pass\n\x00", "null bytes"),
    ],
)
def test_source_without_a_usable_grade_is_refused_at_creation(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        PythonGrader(PythonGraderSpec(type="python", source=source, trusted=True))


def test_creating_a_grader_runs_none_of_its_code(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    source = f"open({json.dumps(str(marker))}, 'w')\ndef grade(sample, item, extra=1, **more):\n    return 1"
    PythonGrader(PythonGraderSpec(type="python", source=source, trusted=True))
    assert not marker.exists()


def test_an_image_tag_is_said_to_have_no_effect(caplog: pytest.LogCaptureFixture) -> None:
    source = "def grade(*arguments):\n    return 1"
    PythonGrader(PythonGraderSpec(type="python", source=source, trusted=True, image_tag="2025-05-08"))
    assert "image_tag '2025-05-08' has no effect" in caplog.text
