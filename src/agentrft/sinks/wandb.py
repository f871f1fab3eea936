"""Weights & Biases. A run's id is the job's, so that a resumed job goes on with its run."""

import wandb

from agentrft.sinks.base import Record, RunFacts
from agentrft.spec.integrations import WandbSpec

# A job that will go on.
UNFINISHED = ("interrupted", "paused")


class WandbSink:
    """A record is a row of the run's history, in the order of commits: the number of rows says where to go on."""

    def __init__(self, spec: WandbSpec, run: RunFacts) -> None:
        self._spec = spec
        self._facts = run

    def open(self) -> int:
        spec, facts = self._spec, self._facts
        # Standard error is the job's own.
        wandb.setup(wandb.Settings(silent=True))
        # Nothing of the machine's beside its load: no code, no console, no git.
        settings = wandb.Settings(
            console="off", save_code=False, disable_git=True, disable_job_creation=True, symlink=False
        )
        # Another run of this process, such as one of a Python tool's, stays what it is.
        self._run = wandb.init(
            entity=spec.entity,
            project=spec.project,
            name=spec.name or facts.job_id,
            tags=spec.tags,
            id=facts.job_id,
            resume="allow",
            reinit="create_new",
            dir=facts.folder,
            config=dict(facts.config),
            settings=settings,
        )
        self._run.define_metric("*", step_metric="step")
        return self._run.step

    def write(self, record: Record) -> None:
        self._run.log({**record.values, "step": record.step}, step=record.number)

    def close(self, status: str) -> None:
        self._run.summary["status"] = status
        if status in UNFINISHED:
            # It ends as "preempted" then, and not as "failed".
            self._run.mark_preempting()
        self._run.finish(exit_code=0 if status == "succeeded" else 1)
