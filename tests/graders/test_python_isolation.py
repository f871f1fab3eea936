"""A grader that runs the model's code: what one answer does reaches no other answer's grade."""

import asyncio
import logging
import os
import shutil
import tempfile
import textwrap
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from agentrft.graders import GraderFailure, GraderSample, create_grader, python_process
from agentrft.graders.python import PythonGrader
from agentrft.graders.worker_budget import WorkerBudget, worker_budget
from agentrft.spec.graders import MultiGraderSpec, PythonGraderSpec

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="there is no bubblewrap; scripts/system.sh installs it"
)

Make = Callable[..., PythonGrader]

# Scores the answer 1.0 if the function that it defines returns what the row says, else 0.0.
RUNS_ANSWERS = """
    import gc, sys, threading
    ROWS = []
    def grade(sample, item):
        ROWS.append(item["expected"])
        scope = {}
        exec(sample["output_text"], scope)
        return float(scope["answer"]() == item["expected"])
"""
HONEST_AND_WRONG = "def answer():\n    return 'wrong'"


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    graders: list[PythonGrader] = []

    def _make(source: str, n_workers: int = 1, **fields: Any) -> PythonGrader:
        spec = PythonGraderSpec(type="python", name="mine", source=textwrap.dedent(source), **fields)
        graders.append(PythonGrader(spec, n_workers))
        return graders[-1]

    yield _make
    for grader in graders:
        await grader.close()


async def graded(grader: PythonGrader, answer: str, **item: Any) -> float | str:
    """The score, or the kind of failure."""
    sample = GraderSample(textwrap.dedent(answer))
    try:
        return (await grader.grade(sample, item={"expected": "right", **item}, trace_id="trace_1")).score
    except GraderFailure as failure:
        return failure.kind


POISONS = {
    "replaces grade in the grader's module": """
        import sys
        sys.modules["agentrft_grader"].grade = lambda sample, item: 1.0
        sys.modules["__main__"]._graded = lambda grade, request, filename: {"score": 1.0}
        def answer():
            return "wrong"
    """,
    "replaces the code of grade": """
        import gc, types
        for found in gc.get_objects():
            if isinstance(found, types.FunctionType) and found.__name__ == "grade":
                found.__code__ = (lambda sample, item: 1.0).__code__
        def answer():
            return "wrong"
    """,
    "replaces grade in the worker's loop": """
        import ctypes, sys
        frame = sys._getframe()
        while frame is not None:
            if "grade" in frame.f_locals and frame.f_code.co_name == "main":
                frame.f_locals["grade"] = lambda sample, item: 1.0
                ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
            frame = frame.f_back
        def answer():
            return "wrong"
    """,
    "replaces exec": """
        import builtins
        builtins.exec = lambda text, scope: scope.update(answer=lambda: "right")
        def answer():
            return "wrong"
    """,
    "replaces float": """
        import builtins
        builtins.float = lambda value=0: 1.0
        def answer():
            return "wrong"
    """,
    "writes the reply of the next call in advance": """
        import os, struct
        forged = b'{"score": 1.0}'
        for number in range(3, 16):
            try:
                os.write(number, struct.pack(">I", len(forged)) + forged)
            except OSError:
                pass
        def answer():
            return "wrong"
    """,
    "leaves a thread that answers the next call": """
        import os, struct, sys, threading, time
        def reply():
            while True:
                for frame in sys._current_frames().values():
                    while frame is not None:
                        request = frame.f_locals.get("request")
                        if isinstance(request, dict) and "id" in request:
                            forged = b'{"id": "%s", "score": 1.0}' % request["id"].encode()
                            for number in range(3, 16):
                                try:
                                    os.write(number, struct.pack(">I", len(forged)) + forged)
                                except OSError:
                                    pass
                        frame = frame.f_back
        threading.Thread(target=reply, daemon=True).start()
        def answer():
            return "wrong"
    """,
}


@pytest.mark.parametrize("poison", POISONS)
async def test_an_answer_changes_no_other_answers_grade(make: Make, poison: str) -> None:
    grader = make(RUNS_ANSWERS)
    assert await graded(grader, "def answer():\n    return 'right'") == 1
    await graded(grader, POISONS[poison])
    assert await graded(grader, HONEST_AND_WRONG) == 0
    assert await graded(grader, "def answer():\n    return 'right'") == 1


async def test_without_isolation_an_answer_can(make: Make) -> None:
    """Why there is isolation: if this fails, the tests above show nothing."""
    grader = make(RUNS_ANSWERS, isolated=False)
    await graded(grader, POISONS["replaces exec"])
    assert await graded(grader, HONEST_AND_WRONG) == 1


async def test_an_answer_reads_no_other_row_and_no_file_of_another_answer(make: Make) -> None:
    grader = make(RUNS_ANSWERS, n_workers=2)
    read = """
        import gc, os, sys
        rows = set(sys.modules["agentrft_grader"].ROWS)
        rows |= {found["expected"] for found in gc.get_objects() if isinstance(found, dict) and "expected" in found}
        # Python itself may be installed below /tmp, and is there for every call.
        own = sys.prefix.split("/")[2:3] if sys.prefix.startswith("/tmp/") else []
        seen = sorted(rows - {"mine"}) + sorted({*os.listdir("/tmp")} - {*own}) + os.listdir("/dev/shm")
        for folder in ("/tmp", "/dev/shm"):
            open(os.path.join(folder, "mark"), "w").close()
        if seen:
            raise RuntimeError(f"it sees {seen}")
        def answer():
            return "mine"
    """
    sample = GraderSample(textwrap.dedent(read))
    for _ in range(3):
        await graded(grader, HONEST_AND_WRONG, expected="another row's")
        assert (await grader.grade(sample, item={"expected": "mine"}, trace_id="trace_1")).score == 1


async def test_each_call_has_a_process_of_its_own_that_was_started_before_it(make: Make) -> None:
    source = "import time\nSTARTED = time.monotonic()\ndef grade(sample, item):\n    return STARTED"
    grader = make(source, isolated=True)
    started = [(await grader.grade(GraderSample(""), item={}, trace_id="t")).score for _ in range(4)]
    assert len(set(started)) == 4
    async with asyncio.timeout(30):
        while not any(worker.alive for worker in grader._workers):
            await asyncio.sleep(0.01)
    assert len(grader._workers) == 1


async def test_isolation_is_by_default_where_text_is_run_and_by_order(make: Make, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="agentrft.graders.python")
    plain = "def grade(sample, item):\n    return 1.0"
    assert make(RUNS_ANSWERS).isolated
    assert "a fresh process for each call" in caplog.text and "line 7: exec" in caplog.text
    assert not make(plain).isolated
    assert make(plain, isolated=True).isolated
    assert "`isolated: false` lets one answer" not in caplog.text
    assert not make(RUNS_ANSWERS, isolated=False).isolated
    assert "`isolated: false` lets one answer" in caplog.text


async def test_a_trusted_grader_can_be_isolated(make: Make) -> None:
    grader = make("import os\ndef grade(sample, item):\n    return os.getpid()", isolated=True, trusted=True)
    scores = [(await grader.grade(GraderSample(""), item={}, trace_id="t")).score for _ in range(3)]
    assert len(set(scores)) == 3


async def test_an_isolated_grader_that_fails_to_load_says_so_each_time(make: Make) -> None:
    grader = make("import nothing_at_all\ndef grade(sample, item):\n    return 1.0", isolated=True)
    for _ in range(3):
        with pytest.raises(GraderFailure, match="nothing_at_all"):
            await grader.grade(GraderSample(""), item={}, trace_id="t")


async def test_a_closed_isolated_grader_leaves_no_process(make: Make) -> None:
    grader = make("def grade(sample, item):\n    return 1.0", isolated=True, n_workers=2)
    await asyncio.gather(*(grader.grade(GraderSample(""), item={}, trace_id="t") for _ in range(4)))
    await grader.close()
    assert grader._workers == set()
    assert worker_budget().n_taken == 0


@pytest.mark.parametrize("delay_ms", [0, 1, 2, 4, 8, 12, 16, 24, 32, 64])
async def test_a_call_that_is_cancelled_while_its_worker_starts_leaves_no_process(
    make: Make, delay_ms: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    shutil.copyfile(python_process.WORKER, worker)
    monkeypatch.setattr(python_process, "WORKER", worker)
    grader = make("def grade(sample, item):\n    return 1.0")
    call = asyncio.create_task(grader.grade(GraderSample(""), item={}, trace_id="t"))
    await asyncio.sleep(delay_ms / 1000)
    call.cancel()
    await asyncio.wait([call], timeout=30)
    assert call.done()
    await grader.close()
    assert worker_budget().n_taken == 0
    async with asyncio.timeout(30):
        while any(runs(process, worker) for process in Path("/proc").glob("[0-9]*")):
            await asyncio.sleep(0.01)


def runs(process: Path, script: Path) -> bool:
    try:
        return str(script).encode() in (process / "cmdline").read_bytes()
    except OSError:
        return False


class Idle:
    """A worker that has nothing to do."""

    def __init__(self, budget: WorkerBudget) -> None:
        self.budget = budget
        self.is_gone = False

    async def reap(self) -> None:
        self.is_gone = True
        self.budget.give_back()


async def test_a_needed_worker_takes_the_place_of_the_one_that_is_idle_for_longest() -> None:
    budget = WorkerBudget(2)
    workers = [Idle(budget), Idle(budget)]
    for worker in workers:
        await budget.take()
        budget.idle(worker)
    await budget.take()
    assert [worker.is_gone for worker in workers] == [True, False]
    assert budget.n_taken == 2


async def test_who_needs_a_worker_waits_while_all_are_busy() -> None:
    budget = WorkerBudget(1)
    await budget.take()
    waiting = [asyncio.create_task(budget.take()) for _ in range(3)]
    await asyncio.sleep(0)
    assert not any(task.done() for task in waiting)
    waiting.pop(0).cancel()
    budget.give_back()
    await asyncio.wait_for(waiting[0], 10)
    assert not waiting[1].done()
    assert not budget.take_free()
    budget.give_back()
    await asyncio.wait_for(waiting[1], 10)


async def test_many_python_graders_hold_no_more_processes_than_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    budget = WorkerBudget(3)
    monkeypatch.setattr("agentrft.graders.python.worker_budget", lambda: budget)
    source = "def grade(sample, item):\n    return 1.0"
    names = [f"g{number}" for number in range(8)]
    spec = MultiGraderSpec.model_validate(
        {
            "type": "multi",
            "graders": {name: {"type": "python", "source": source} for name in names},
            "calculate_output": " + ".join(names),
        }
    )
    grader = create_grader(spec)
    most = 0

    async def watch() -> None:
        nonlocal most
        while True:
            most = max(most, budget.n_taken)
            await asyncio.sleep(0.001)

    watching = asyncio.create_task(watch())
    try:
        grades = await asyncio.gather(*(grader.grade(GraderSample(""), item={}, trace_id="t") for _ in range(3)))
        assert [grade.score for grade in grades] == [8, 8, 8]
        assert most <= 3
    finally:
        watching.cancel()
        await grader.close()
    assert budget.n_taken == 0


def test_a_multi_grader_has_a_bound() -> None:
    python = {"type": "python", "source": "def grade(sample, item):\n    return 1.0"}
    check = {"type": "string_check", "input": "a", "reference": "a", "operation": "eq"}

    def multi(**graders: Any) -> MultiGraderSpec:
        return MultiGraderSpec.model_validate({"type": "multi", "graders": graders, "calculate_output": "g0"})

    multi(**{f"g{number}": python for number in range(16)})
    with pytest.raises(ValueError, match="at most 16 python graders, found 17"):
        multi(**{f"g{number}": python for number in range(17)})
    multi(**{f"g{number}": check for number in range(64)})
    with pytest.raises(ValueError, match="at most 64 graders"):
        multi(**{f"g{number}": check for number in range(65)})


async def test_folders_that_a_killed_process_left_are_removed(make: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = [tmp_path / "agentrft-grader-999999999-abc", tmp_path / f"agentrft-grader-{os.getpid()}-abc"]
    other = tmp_path / "agentrft-grader-abc"
    for folder in (*left, other):
        folder.mkdir()
    grader = make("def grade(sample, item):\n    return 1.0", trusted=True)
    await grader.grade(GraderSample(""), item={}, trace_id="t")
    assert [folder.exists() for folder in (*left, other)] == [False, True, True]


async def test_a_place_that_somebody_waits_for_is_no_free_one() -> None:
    budget = WorkerBudget(1)
    await budget.take()
    waiting = asyncio.create_task(budget.take())
    await asyncio.sleep(0)
    budget.give_back()
    assert not budget.take_free(), "who was woken has not run yet"
    await waiting
    assert budget.n_taken == 1
    budget.give_back()
    assert budget.take_free()


async def test_a_sandbox_that_cannot_be_made_is_a_failure_and_gives_its_place_back(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    grader = make("def grade(sample, item):\n    return 1.0")
    if grader._jail is None:
        pytest.skip("there is no sandbox here")

    def launch(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(type(grader._jail), "launch", launch)
    for _ in range(3):
        with pytest.raises(GraderFailure, match="its sandbox cannot be made"):
            await grader.grade(GraderSample(""), item={}, trace_id="t")
    assert worker_budget().n_taken == 0
