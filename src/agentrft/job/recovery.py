"""Recovery: from the newest checkpoint of a job to the last step of its record.

Checkpoints are not written at every step. The rollouts of every recorded step are stored, with their token ids,
log-probabilities and grades, and an update depends on nothing else but the learner's state. So what a killed process
had learned since the newest checkpoint is made again from them, update by update, as a database rolls its log forward:
nothing is sampled, called or graded, and nothing is recorded a second time.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.job.runtime import Runtime
from agentrft.job.step_plan import StepPlanner
from agentrft.job.stop import Stop
from agentrft.learner import Learner
from agentrft.rollout import Rollout, by_sample, form_group
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import TRAIN, rollouts_file, step_folder

# What an update that is made again has in common with its record, whatever the order of its sums.
SAME = ("policy_version", "groups_trained", "optimizer_steps")


def stored_rollouts(job_folder: Path, phase: str, step: int) -> list[Rollout]:
    """The rollouts of a recorded step.

    Raises:
        UserError: they are missing or damaged.
    """
    path = rollouts_file(job_folder, phase, step)
    if not path.is_file():
        raise UserError(f"{path}: there is no such file.", "Restore it.")
    try:
        return [Rollout.from_dict(row["record"]) for row in read_rollouts(path)]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: no records of rollouts: {error!r}.", "Restore it.") from error


class Recovery:
    """Makes updates again.

    Args:
        recorded: the metrics of the training steps that are recorded, in order.
        tell: gets level, text and data of an event.
    """

    def __init__(
        self,
        runtime: Runtime,
        learner: Learner,
        planner: StepPlanner,
        store: JobStore,
        job_id: str,
        *,
        recorded: Sequence[Mapping[str, Any]],
        stop: Stop,
        tell: Callable[[str, str, dict[str, Any]], None],
    ) -> None:
        self._runtime = runtime
        self._learner = learner
        self._planner = planner
        self._folder = store.job_folder(job_id)
        self._recorded = {row["step"]: row for row in recorded}
        self._stop = stop
        self._tell = tell

    async def run(self, start: int, last: int, note: Callable[[int, list[Rollout]], None]) -> None:
        """From the state of step `start`, which the learner has, to that of step `last`.

        Args:
            note: called with each step whose update was made, before the next one is planned.

        Raises:
            UserError: the rollouts of one of these steps are missing or damaged. Nothing of the record is lost.
            Interrupted: a stop was requested.
        """
        if start == last:
            return
        started = time.perf_counter()
        for step in range(start + 1, last + 1):
            self._stop.check()
            rollouts = self._rollouts_of(step, start)
            groups = [form_group(sample_id, members) for sample_id, members in by_sample(rollouts).items()]
            plan = self._planner.plan(step, groups).plan
            update = await self._runtime.learn(self._learner, self._learner.update, plan)
            found = {**update.as_dict(), "policy_version": self._runtime.policy.version}
            self._compare(step, found)
            note(step, rollouts)
        seconds = time.perf_counter() - started
        self._tell(
            "info",
            f"replayed the {_updates_of(start + 1, last)} from stored rollouts ({seconds:.1f} s): the newest "
            f"checkpoint is of step {start}",
            {"replayed_from": start + 1, "replayed_to": last, "seconds": seconds},
        )

    def _rollouts_of(self, step: int, start: int) -> list[Rollout]:
        try:
            rollouts = stored_rollouts(self._folder, TRAIN, step)
            expected = self._recorded[step].get("rollouts", len(rollouts))
            if len(rollouts) != expected:
                path = rollouts_file(self._folder, TRAIN, step)
                raise UserError(f"{path}: {len(rollouts)} rollouts, where {expected} were recorded.", "Restore it.")
        except UserError as error:
            checkpoint = step_folder(self._folder, start)
            raise UserError(
                f"the update of step {step} is in no checkpoint and cannot be made again from its rollouts: "
                f"{error.cause}",
                f"Restore the file and resume the job; or go on from step {start} in a new job, with "
                f"`start_from: {checkpoint}`.",
            ) from error
        return rollouts

    def _compare(self, step: int, found: Mapping[str, Any]) -> None:
        """Tell where an update that was made again is another one than was recorded."""
        recorded = self._recorded[step]
        differing = [
            f"{name} {found[name]}, not {recorded[name]}"
            for name in SAME
            if recorded.get(name) is not None and found[name] != recorded[name]
        ]
        if differing:
            text = f"step {step}: its update, made again, is not what was recorded: {', '.join(differing)}"
            self._tell("warning", text, {"replayed_step": step})


def _updates_of(first: int, last: int) -> str:
    return f"update of step {first}" if first == last else f"updates of steps {first} to {last}"
