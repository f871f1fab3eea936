"""What the store hands out: rows as they were when they were read."""

import json
import time
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, cast

from agentrft.store.states import JobStatus

# The method of jobs with rollouts, as `spec` has it.
REINFORCEMENT = "reinforcement"
EventLevel = Literal["info", "warning", "error"]


def as_mapping(value: object) -> dict[str, Any]:
    """A stored document that must be an object; an empty one where an earlier version left something else."""
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


@dataclass(frozen=True)
class JobRow:
    """A job as it was when it was read.

    Attributes:
        job_id: `ftjob-…`.
        status: see `agentrft.store.states`.
        phase: where it is, such as "warm_start", "train" or "validation"; None before the first.
        step: the last one committed, or the one that `set_phase` named.
        total_steps: None until that was decided.
        model: as the job names it.
        seed: of the job.
        spec: as given to `create_job`.
        hyperparameters: what "auto" became; None until that was decided.
        created_at: in seconds since the epoch.
        finished_at: in seconds since the epoch; None while it has not ended.
        error: why it failed.
        best_step: the step that is the job's result; None until one was validated.
        pid: the process that runs it; None unless it is running.
    """

    job_id: str
    status: JobStatus
    phase: str | None
    step: int
    total_steps: int | None
    model: str
    seed: int
    spec: dict[str, Any]
    hyperparameters: dict[str, Any] | None
    created_at: float
    finished_at: float | None
    error: str | None
    best_step: int | None
    pid: int | None

    @classmethod
    def of(cls, row: Any) -> "JobRow":
        """From a row of `tables.jobs`."""
        values: dict[str, Any] = {column.name: getattr(row, column.name) for column in fields(cls)}
        values["spec"] = as_mapping(values["spec"])
        return cls(**values)

    def setting(self, name: str) -> Any:
        """A field of the job as it was given; None where the record lacks it."""
        return as_mapping(self.spec.get("job")).get(name)

    @property
    def has_rollouts(self) -> bool:
        """Whether its method is reinforcement; older records do not say it. Others have no tools and no grader."""
        return self.setting("method") in (None, REINFORCEMENT)


@dataclass(frozen=True)
class Event:
    """Something that happened in a job.

    Attributes:
        created_at: in seconds since the epoch.
        level: "info", "warning" or "error".
        message: what happened, in words.
        data: numbers that go with it.
        number: rises from event to event of a database.
    """

    created_at: float
    level: EventLevel
    message: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    number: int = 0

    @classmethod
    def of(cls, row: Any) -> "Event":
        """From its columns, in the order of the fields."""
        event = cls(*row)
        return replace(event, data=as_mapping(event.data))


def event_values(job_id: str, level: EventLevel, message: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
    """A row of `tables.events`, as of now."""
    return {"job_id": job_id, "created_at": time.time(), "level": level, "message": message, "data": data or {}}


def metrics_line(phase: str, step: int, values: dict[str, Any]) -> str:
    """A line of a job's `metrics.jsonl`."""
    ordered = {"phase": phase, "step": step, **{name: values[name] for name in sorted(values)}}
    return json.dumps(ordered, ensure_ascii=False) + "\n"


class PendingKey(NamedTuple):
    """Names a pending rollout within its job and phase."""

    step: int
    key: str


@dataclass(frozen=True)
class PendingRollout:
    """A graded rollout of a step that is not committed yet. `key` is unique within the step."""

    phase: str
    step: int
    key: str
    payload: dict[str, Any]
