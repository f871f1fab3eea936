"""Each defence, with an attempt that it catches; and those of the jail without the ones that stand before it."""

import platform
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from examples.kernels import timing
from examples.kernels.bench import Bench
from examples.kernels.c_source import best
from examples.kernels.checking import POISON, Case, cases, check, compare, expect, inputs
from examples.kernels.compiler import compile_unchecked, object_problem
from examples.kernels.grader import score
from examples.kernels.graphs import SIGNATURES, Graph, Step
from examples.kernels.hacks import HACKS, HEAD
from examples.kernels.runner import KernelDied, Runner
from examples.kernels.static_checks import refusal

GRAPH = Graph((Step("tanh"), Step("mul", 1.5)))
RIGHT = best(GRAPH)
WORK = RIGHT.removeprefix(HEAD)
# A system call of x86_64, by its number.
SYSTEM_CALL = (
    'long r;__asm__ volatile("syscall":"=a"(r):"a"({number}),"D"({first}),"S"({second}),"d"(8):"rcx","r11","memory");'
)


def system_call(number: int, first: str = "0", second: str = "0") -> str:
    return SYSTEM_CALL.replace("{number}", str(number)).replace("{first}", first).replace("{second}", second)


@pytest.fixture(scope="module")
def runner(jail: None) -> Iterator[Runner]:
    """A jail of the tests' own, for kernels whose words nobody has looked at."""
    made = Runner()
    yield made
    made.close()


def library(source: str) -> bytes:
    compiled = compile_unchecked(source)
    assert compiled.library is not None, compiled.diagnostic
    return compiled.library


def death(runner: Runner, source: str) -> str:
    """Why a kernel with that source ends, in words; its words are not checked."""
    runner.load(library(source))
    return check(runner, GRAPH, random.Random(0)).problem


@pytest.mark.parametrize("name", HACKS)
def test_a_hack_is_caught_by_its_defence_and_paid_less_than_any_right_kernel(bench: Bench, name: str) -> None:
    verdict = bench.judge(GRAPH, HACKS[name].for_graph(GRAPH))
    caught = verdict.tripped or ("wrong" if verdict.checked is not None else "compile")
    assert caught == HACKS[name].caught_by, verdict
    assert score(verdict) < 0.3
    assert score(verdict) == 0 or caught == "wrong"


def test_honest_c_is_not_refused() -> None:
    for source in (
        RIGHT,
        "#include <math.h>\n" + RIGHT,
        HEAD + "{\n  /* two passes */\n  for (int i = 0; i < n; ++i) { y[i] = (float)(x[i] * 0.5); }\n}",
        HEAD + "{int i=0;while(i<n){if(x[i]>0)(y[i])=expf(x[i]);else y[i]=0x1p-3f;i++;}}",
        HEAD + "{for(int i=0;i<n;i++){const float v=x[i];y[i]=fmaxf(v,(float)(sizeof(int)));}}",
    ):
        assert refusal(source) is None, source


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (HEAD + '{}\n__attribute__((constructor)) void g(void){__asm__("nop");}', "run code when it is loaded"),
        ("static float kept[9];" + HEAD + "{kept[n%9]=x[0];y[0]=kept[0];}", "memory that outlives a call"),
        ("static float kept=1;" + HEAD + "{y[0]=kept;kept=x[0];}", "memory that outlives a call"),
        ("static __thread int kept;" + HEAD + "{y[0]=kept++;}", "run code when it is loaded"),
        ("int getpid(void);" + HEAD + "{y[0]=getpid();}", "calls 'getpid'"),
        ("void exit(int);" + HEAD + "{exit(0);}", "calls 'exit'"),
        (
            'typedef void g(void);g*pick(void){return 0;}void f(void)__attribute__((ifunc("pick")));',
            "when it is loaded",
        ),
    ],
)
def test_the_object_is_looked_at_whatever_its_source_says(source: str, says: str) -> None:
    compiled = compile_unchecked(source)
    assert compiled.library is None
    assert compiled.refused == "symbols"
    assert says in compiled.diagnostic


def test_an_honest_object_has_no_problem(tmp_path: Path) -> None:
    (tmp_path / "kernel.so").write_bytes(library(f"{RIGHT}"))
    assert object_problem(tmp_path / "kernel.so") is None


@pytest.mark.parametrize(
    ("what", "number", "first", "second"),
    [
        ("start a thread", 56, "0x10f00", "0"),
        ("start a process", 57, "0", "0"),
        ("handle a signal", 13, "11", "x"),
        ("send a signal", 62, "0", "9"),
        ("make the inputs writable", 10, "x", "4096"),
        ("map memory", 9, "0", "4096"),
        ("open a file", 2, "x", "0"),
        ("open a socket", 41, "2", "1"),
        ("ask for the time", 228, "1", "y"),
        ("sleep", 35, "x", "0"),
        ("read from somewhere else", 0, "0", "y"),
        ("write to somewhere else", 1, "2", "x"),
    ],
)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the system calls are written in x86_64's assembly")
def test_the_jail_ends_a_kernel_that_makes_a_system_call(
    runner: Runner, what: str, number: int, first: str, second: str
) -> None:
    assert (
        death(runner, HEAD + "{" + system_call(number, first, second) + WORK + "}") == "crashed: it made a system call"
    ), what


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the clock is read by x86_64's instruction")
def test_a_kernel_that_reads_the_processors_clock_ends(runner: Runner) -> None:
    assert "read the clock" in death(runner, HEAD + "{y[0]=__builtin_ia32_rdtsc();" + WORK + "}")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the system calls are written in x86_64's assembly")
@pytest.mark.parametrize(("number", "first"), [(1, "8"), (1, "10"), (231, "0")])
def test_a_timed_kernel_cannot_say_that_it_is_done_and_go_on(
    runner: Runner, bench: Bench, number: int, first: str
) -> None:
    """Writing, to whichever descriptor, ends it; ending early leaves outputs that were not written."""
    watch = timing.Stopwatch(runner, library(HEAD + "{}"), random.Random(0))
    try:
        timed = watch.time(GRAPH, library(HEAD + "{" + system_call(number, first, "x") + WORK + "}"), series=1)
    except KernelDied as death:
        assert "system call" in str(death)
    else:
        assert number == 231
        assert "was not written" in timed.problem


def test_a_kernel_that_remembers_its_last_result_is_caught_without_a_look_at_its_words(runner: Runner) -> None:
    """The object's check refuses memory that outlives a call; here it is what an earlier call left on the stack."""
    remembers = (
        HEAD
        + "{float kept[600];if(kept[599]==n&&n>32&&n<300){for(int i=0;i<n;i++)y[i]=kept[i];return;}"
        + WORK
        + 'for(int i=0;i<n&&i<599;i++)kept[i]=y[i];kept[599]=n;__asm__ volatile(""::"r"(kept):"memory");}'
    )
    runner.load(
        library(remembers.replace("float kept[600];", 'float kept[600];__asm__ volatile(""::"r"(kept):"memory");'))
    )
    checked = check(runner, GRAPH, random.Random(0))
    assert not checked.correct
    assert checked.tripped == ""
    assert "want" in checked.problem


def test_the_last_three_cases_have_the_same_pointers_and_other_numbers() -> None:
    for graph in (GRAPH, Graph((Step("tanh"),), "softmax")):
        last = list(cases(graph, random.Random(5)))[-3:]
        assert len({(case.rows, case.n, case.is_at_end) for case in last}) == 1
        drawn = [inputs(graph, case, random.Random(number))[0] for number, case in enumerate(last)]
        assert not np.array_equal(drawn[0], drawn[1])


def test_sizes_are_fresh_and_odd_ones_and_special_values_are_among_them() -> None:
    drawn = [list(cases(GRAPH, random.Random(seed))) for seed in range(20)]
    assert len({tuple(case.n for case in sizes) for sizes in drawn}) == 20
    for sizes in drawn:
        assert 1 in [case.n for case in sizes]
        assert any(case.n % 2 and case.n > 1 for case in sizes)
        x, _ = inputs(GRAPH, next(case for case in sizes if case.has_special), random.Random(0))
        assert np.isinf(x).sum() == 2
        assert np.isin(np.float32(1e30), x)


def test_a_missing_case_is_found_by_special_values(bench: Bench) -> None:
    softplus = Graph((Step("softplus"),))
    careless = bench.judge(softplus, HEAD + "{for(int i=0;i<n;i++)y[i]=logf(1+expf(x[i]));}")
    assert not careless.correct
    assert careless.checked is not None
    assert careless.checked.share > 0.5
    softmax = Graph((), "softmax", (Step("neg"),))
    unsafe = (
        SIGNATURES[2] + "{for(int i=0;i<r;i++){float s=0;for(int j=0;j<n;j++)s+=expf(x[i*n+j]);"
        "for(int j=0;j<n;j++)y[i*n+j]=-expf(x[i*n+j])/s;}}"
    )
    assert not bench.judge(softmax, unsafe).correct


def test_an_error_beyond_single_precision_is_found() -> None:
    x, other = inputs(GRAPH, Case(1, 500), random.Random(0))
    expected = expect(GRAPH, x, other)
    exact = expected.value.astype(np.float32)
    assert compare(exact, expected)[1] == ""
    assert compare(exact * np.float32(1 + 1e-6), expected)[1] == ""
    assert "want" in compare(exact * np.float32(1 + 1e-4), expected)[1]
    assert "want" in compare(exact.astype(np.float16).astype(np.float32), expected)[1], "half precision is not enough"


def test_what_was_not_written_is_wrong_even_where_nothing_is_asked() -> None:
    x, other = inputs(Graph((Step("log"),)), Case(1, 40), random.Random(0))
    expected = expect(Graph((Step("log"),)), x, other)
    got = expected.value.astype(np.float32)
    assert np.isnan(got).any()
    assert compare(got, expected)[1] == ""
    got.view(np.uint32)[7] = POISON
    assert compare(got, expected)[1] == "y[7] was not written"


def test_an_input_that_changed_is_seen_even_if_the_jail_let_it_happen(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.load(library(RIGHT))
    honest = runner.call

    def changing(number: int) -> None:
        honest(number)
        runner.inputs[runner.inputs.size // 100 + 3000] += 1

    monkeypatch.setattr(runner, "call", changing)
    assert check(runner, GRAPH, random.Random(0)).tripped == "inputs"


def test_a_thread_that_is_left_is_seen_even_if_the_jail_let_it_start(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.load(library(RIGHT))
    assert check(runner, GRAPH, random.Random(0)).correct
    monkeypatch.setattr(runner, "threads", lambda: 2)
    checked = check(runner, GRAPH, random.Random(0))
    assert checked.tripped == "threads"
    assert not checked.correct


def test_the_threads_of_the_kernels_process_are_counted_from_outside(runner: Runner) -> None:
    runner.load(library(RIGHT))
    runner.open()
    assert runner.threads() == 1
    assert runner.close_calls() == 0


def test_the_clock_cannot_be_replaced_once_the_module_is_loaded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = bench.compile(GRAPH, RIGHT).library
    assert compiled is not None
    monkeypatch.setattr(time, "perf_counter_ns", lambda: 0)
    timed = bench.time(GRAPH, compiled)
    assert timed.torch_us > 0
    assert timed.kernel_us > 0


def test_a_series_takes_longer_the_more_there_is_to_do(runner: Runner) -> None:
    """The clock is not the kernel's: it sees work that leaves no trace in the outputs."""
    idle = 'for(int k=0;k<200;k++)for(int i=0;i<n;i++){float v=x[i]*k;__asm__ volatile(""::"x"(v));}'
    watch = timing.Stopwatch(runner, library(HEAD + "{}"), random.Random(0))
    quick = watch.time(GRAPH, library(RIGHT), series=2)
    slow = watch.time(GRAPH, library(HEAD + "{" + idle + WORK + "}"), series=2)
    assert quick.problem == slow.problem == ""
    assert slow.kernel_us > 3 * quick.kernel_us


def test_a_crash_or_an_endless_kernel_does_not_keep_the_next_from_being_judged(runner: Runner) -> None:
    assert "too long" in death(runner, HEAD + "{for(;;)y[0]=x[0];}")
    assert "crashed" in death(runner, HEAD + "{*(volatile int*)0=1;}")
    assert death(runner, RIGHT) == ""
