"""When a job will end: what is left of it, at the pace of its last steps."""

from typing import Any

from agentrft.server.workers.estimate import seconds_left


def rows(phase: str, steps: range, seconds: float) -> list[dict[str, Any]]:
    return [{"phase": phase, "step": step, "step_s": seconds} for step in steps]


def test_before_the_first_step_nothing_is_known() -> None:
    warm = [{"phase": "warm_start", "step": 1, "loss": 1.0}]
    baseline = rows("validation", range(1), 3.0)
    assert seconds_left([*warm, *baseline], total_steps=5, validates=True, eval_interval=1) is None


def test_what_is_left_takes_as_long_as_the_last_steps() -> None:
    trained = [*rows("train", range(1, 5), 100.0), *rows("train", range(5, 10), 2.0)]
    assert seconds_left(trained, total_steps=20, validates=False, eval_interval=1) == 11 * 2.0


def test_validations_that_are_due_are_counted_and_the_last_step_has_one() -> None:
    done = [*rows("validation", range(1), 7.0), *rows("train", range(1, 4), 2.0), *rows("validation", range(3, 4), 9.0)]
    left = seconds_left(done, total_steps=10, validates=True, eval_interval=3)
    assert left == 7 * 2.0 + 3 * 8.0, "steps 4 to 10, and validations after 6, 9 and 10"


def test_nothing_is_left_of_a_job_that_is_done() -> None:
    done = [*rows("train", range(1, 4), 2.0), *rows("validation", range(1, 4), 1.0)]
    assert seconds_left(done, total_steps=3, validates=True, eval_interval=1) == 0
