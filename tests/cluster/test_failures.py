"""Ranks that end, fail or hang: the others end with them, and the error names the one that was the cause."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from agentrft.cluster import Ranks
from agentrft.errors import JobFailedError
from agentrft.learner import TrainingGroup
from tests.cluster.pairs import TwoRanks, save, setup, two_ranks
from tests.learner.rows import on_policy_group
from tests.tiny_model import tiny_model

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model("llama"), tmp_path_factory.mktemp("model"))


def groups(count: int) -> list[TrainingGroup]:
    model = tiny_model("llama").plain
    return [on_policy_group(model, [1.0, 0.0, 0.5], seed=seed) for seed in range(count)]


def update_while(both: TwoRanks, during: Callable[[int], None]) -> None:
    """An update, at whose collective end this process does something to the other rank before it comes to it itself."""
    learner, policy = both.learner(), both.policy
    add_up = policy.add_up_gradients

    def add_up_later(collective: object) -> torch.Tensor:
        during(both.ranks.processes[0])
        return add_up(both.ranks.collective)

    policy.add_up_gradients = add_up_later  # type: ignore[method-assign]
    try:
        learner.update(learner.plan(groups(4)))
    finally:
        policy.add_up_gradients = add_up  # type: ignore[method-assign]


def is_there(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_rank_that_is_killed_in_an_update_is_named_and_ends_the_others(folder: Path) -> None:
    with two_ranks(folder, 4) as both:
        process = both.ranks.start() and both.ranks.processes[0]
        with pytest.raises(JobFailedError, match=rf"rank 1 of the learner \(process {process}\) was ended by SIGKILL"):
            update_while(both, lambda other: os.kill(other, signal.SIGKILL))
        assert not torch.distributed.is_initialized()
        with pytest.raises(JobFailedError, match="rank 1"):
            both.learner()


@pytest.mark.slow
def test_a_rank_that_is_gone_when_weights_are_gathered_is_named(folder: Path) -> None:
    with two_ranks(folder, None) as both:
        learner = both.learner()
        os.kill(both.ranks.processes[0], signal.SIGKILL)
        with pytest.raises(JobFailedError, match=r"rank 1 of the learner \(process \d+\) was ended by SIGKILL"):
            learner.state()


@pytest.mark.slow
def test_a_rank_that_hangs_is_told_of_within_its_time(folder: Path) -> None:
    with two_ranks(folder, 4, timeout_s=15.0) as both:
        process = both.ranks.start() and both.ranks.processes[0]
        started = time.monotonic()
        with pytest.raises(JobFailedError, match=r"within 15 s \(cluster.rank_timeout_s\)"):
            update_while(both, lambda other: os.kill(other, signal.SIGSTOP))
        assert time.monotonic() - started < 120
        assert not is_there(process)


@pytest.mark.slow
def test_a_rank_that_fails_says_why(folder: Path) -> None:
    with two_ranks(folder, 4) as both:
        learner = both.learner()
        both.ranks.tell("load_optimizer", {"optimizer": {}, "updates": 0})
        with pytest.raises(JobFailedError, match=r"rank 1 of the learner .*KeyError: 'state'"):
            learner.update(learner.plan(groups(4)))


def test_a_gradient_that_is_not_finite_is_an_error_of_all_ranks(folder: Path) -> None:
    with two_ranks(folder, 4) as both:
        learner = both.learner()
        before = both.policy.master_state()
        bad = groups(1)[0]
        rows = [replace(row, sampling_logprobs=[float("nan")] * len(row.sampling_logprobs)) for row in bad.rows]
        with pytest.raises(JobFailedError, match="not finite; the policy stays as it was"):
            learner.update(learner.plan([*groups(3), replace(bad, rows=rows)]))
        assert all(torch.equal(before[name], now) for name, now in both.policy.master_state().items())


@pytest.mark.slow
def test_a_rank_that_cannot_start_says_why(tmp_path: Path, folder: Path) -> None:
    ranks = Ranks(setup(tmp_path / "no model", 4))
    with pytest.raises(JobFailedError, match="rank 1 of the learner .*no model"):
        ranks.start()
    assert ranks.processes == []


@pytest.mark.slow
def test_ranks_end_with_a_first_one_that_is_killed(folder: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from agentrft.cluster import Ranks; "
        "from tests.cluster.pairs import setup; "
        "ranks = Ranks(setup(Path(sys.argv[1]), 4)); ranks.start(); print(ranks.processes[0], flush=True); "
        "time.sleep(300)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    arguments = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment) as first:
        timer = threading.Timer(240, first.kill)
        timer.start()
        assert first.stdout is not None
        other = int(first.stdout.readline())
        timer.cancel()
        assert is_there(other)
        first.kill()
    deadline = time.monotonic() + 60
    while is_there(other) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not is_there(other)
