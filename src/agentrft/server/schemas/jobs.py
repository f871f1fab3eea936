"""Fine-tuning jobs, their events and checkpoints."""

from typing import Any, Literal

from agentrft.server.schemas.base import Answer, Nothing, Page, PageWithEnds, Seconds

Auto = Literal["auto"]


class Method(Answer):
    """As it was given, with `***` for secrets."""

    type: Literal["reinforcement"]
    reinforcement: dict[str, Any]


class Hyperparameters(Answer):
    """What "auto" became, once that is decided."""

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto


class JobError(Answer):
    code: str
    message: str
    param: str | None


class Job(Answer):
    """`error` is of a failed job; `fine_tuned_model` and `trained_tokens` of one that succeeded."""

    id: str
    object: Literal["fine_tuning.job"]
    created_at: Seconds
    finished_at: Seconds | None
    estimated_finish: Seconds | None
    model: str
    fine_tuned_model: str | None
    organization_id: str
    status: Literal["validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"]
    training_file: str
    validation_file: str | None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    integrations: Nothing
    metadata: dict[str, str] | None
    method: Method
    hyperparameters: Hyperparameters
    error: JobError | None
    eval_id: str
    user_provided_suffix: str | None


class JobPage(Page[Job]):
    pass


class Event(Answer):
    """`data` of type `metrics` has the hosted keys, and ours in `agentrft`."""

    id: str
    object: Literal["fine_tuning.job.event"]
    created_at: Seconds
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any]


class EventPage(Page[Event]):
    pass


class CheckpointMetrics(Answer):
    step: int
    train_mean_reward: float | None
    full_valid_mean_reward: float | None
    completion_tokens_mean: float | None


class Checkpoint(Answer):
    id: str
    object: Literal["fine_tuning.job.checkpoint"]
    created_at: Seconds
    fine_tuned_model_checkpoint: str
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics


class CheckpointPage(PageWithEnds[Checkpoint]):
    pass
