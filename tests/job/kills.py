"""Moments of a job at which it can be killed, each hit exactly: a function is wrapped and sends SIGKILL inside."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentrft.job import checkpoint, train
from agentrft.learner import Learner, Policy
from agentrft.learner.optimizer import PolicyOptimizer
from agentrft.store import JobStore, jobs

KILLED_STEP = 2


def arm(moment: str) -> None:
    """Prepare this process to die at a moment of `MOMENTS`, in step `KILLED_STEP`, or in another one: "… of step 5"."""
    global KILLED_STEP
    name, _, step = moment.partition(" of step ")
    KILLED_STEP = int(step or KILLED_STEP)
    MOMENTS[name]()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_warm_start() -> None:
    """After the second batch changed the weights, before its checkpoint."""
    original = Learner.supervised_update
    calls = []

    def supervised_update(self: Learner, rows: Any) -> Any:
        loss = original(self, rows)
        calls.append(loss)
        if len(calls) == 2:
            _die()
        return loss

    Learner.supervised_update = supervised_update  # type: ignore[method-assign]


def _in_a_tuning_step() -> None:
    """After the fifth update of a job without rollouts changed the weights, with no checkpoint since the fourth."""
    original = PolicyOptimizer._count
    calls: list[int] = []

    def count(self: PolicyOptimizer) -> None:
        original(self)
        calls.append(1)
        if len(calls) == 5:
            _die()

    PolicyOptimizer._count = count  # type: ignore[method-assign]


def _before_a_tuning_record() -> None:
    """When the second checkpoint of a job without rollouts is written, and its steps are not recorded yet."""
    original = JobStore.commit_steps
    calls: list[int] = []

    def commit_steps(self: JobStore, job_id: str, phase: str, steps: Any, **options: Any) -> None:
        calls.append(phase == "train")
        if sum(calls) == 2:
            _die()
        original(self, job_id, phase, steps, **options)

    JobStore.commit_steps = commit_steps  # type: ignore[method-assign]


def _during_rollouts() -> None:
    """When some rollouts of a step are on disk and others are under way."""
    original = JobStore.add_pending_rollouts
    stored = []

    def add_pending_rollouts(self: JobStore, job_id: str, rollouts: Any) -> None:
        original(self, job_id, rollouts)
        stored.extend(r for r in rollouts if (r.phase, r.step) == ("train", KILLED_STEP))
        if len(stored) >= 3:
            _die()

    JobStore.add_pending_rollouts = add_pending_rollouts  # type: ignore[method-assign]


def _in_the_update() -> None:
    """After the optimizer's step, before the weights are published; steps are counted by the updates of this process,
    those that it makes again among them."""
    original_update, original_publish = Learner.update, Policy.publish_masters
    updates = []

    def update(self: Learner, groups: Any) -> Any:
        updates.append(groups)
        return original_update(self, groups)

    def publish_masters(self: Policy) -> None:
        if len(updates) == KILLED_STEP:
            _die()
        original_publish(self)

    Learner.update = update  # type: ignore[method-assign]
    Policy.publish_masters = publish_masters  # type: ignore[method-assign]


def _in_a_checkpoint() -> None:
    """When the learner's state is written but the checkpoint has not got its name."""
    original = checkpoint.save_weights

    def save_weights(folder: Path, policy: Policy) -> None:
        if folder.name == f".step-{KILLED_STEP:05d}.partial":
            _die()
        original(folder, policy)

    checkpoint.save_weights = save_weights


def _in_validation() -> None:
    """When some rollouts of the validation are on disk; in deterministic jobs, all of its one unit."""
    original = JobStore.add_pending_rollouts
    stored = []

    def add_pending_rollouts(self: JobStore, job_id: str, rollouts: Any) -> None:
        original(self, job_id, rollouts)
        stored.extend(r for r in rollouts if (r.phase, r.step) == ("validation", KILLED_STEP))
        if len(stored) >= 2:
            _die()

    JobStore.add_pending_rollouts = add_pending_rollouts  # type: ignore[method-assign]


def _after_a_commit() -> None:
    """When a step is in the database but not yet in `metrics.jsonl`."""
    original = jobs.append_line

    def append_line(path: Path, line: str) -> None:
        if '"phase": "train"' in line and f'"step": {KILLED_STEP}' in line:
            _die()
        original(path, line)

    jobs.append_line = append_line


def _before_the_best_step() -> None:
    """When the first validation is committed but the best step is not chosen yet."""

    def keep_best(self: train.Trainer) -> None:
        _die()

    train.Trainer._keep_best = keep_best  # type: ignore[method-assign]


MOMENTS: dict[str, Callable[[], None]] = {
    "in the warm start": _in_warm_start,
    "in a tuning step": _in_a_tuning_step,
    "before a tuning record": _before_a_tuning_record,
    "during rollouts": _during_rollouts,
    "in the update": _in_the_update,
    "in a checkpoint": _in_a_checkpoint,
    "in validation": _in_validation,
    "after a commit": _after_a_commit,
    "before the best step": _before_the_best_step,
}
