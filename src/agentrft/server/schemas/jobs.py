"""Fine-tuning jobs, their events and checkpoints."""

from typing import Annotated, Any, Literal

from pydantic import Field

from agentrft.server.schemas.base import Answer, Page, PageWithEnds, Seconds
from agentrft.spec.integrations import MOST_INTEGRATIONS, IntegrationSpec

Auto = Literal["auto"]


class Reinforcement(Answer):
    """As it was given, with `***` for secrets."""

    type: Literal["reinforcement"]
    reinforcement: dict[str, Any]


class Supervised(Answer):
    """As it was given."""

    type: Literal["supervised"]
    supervised: dict[str, Any]


class Preference(Answer):
    """As it was given."""

    type: Literal["dpo"]
    dpo: dict[str, Any]


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
    integrations: Annotated[list[IntegrationSpec], Field(max_length=MOST_INTEGRATIONS)]
    metadata: dict[str, str] | None
    method: Annotated[Reinforcement | Supervised | Preference, Field(discriminator="type")]
    hyperparameters: Hyperparameters
    error: JobError | None
    eval_id: str | None
    user_provided_suffix: str | None


class ValidatedJob(Answer):
    """`job` is the request as an object; `warnings` name what of it has no effect."""

    job: dict[str, Any]
    type: Literal["reinforcement", "supervised", "dpo"]
    warnings: list[str]


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


class TuningMetrics(Answer):
    """Of a job without rollouts: of a preference job there are the last ones, too, and no accuracy of tokens."""

    step: int
    train_loss: float | None
    train_mean_token_accuracy: float | None
    valid_loss: float | None
    valid_mean_token_accuracy: float | None
    full_valid_loss: float | None
    full_valid_mean_token_accuracy: float | None
    train_preference_accuracy: float | None = None
    valid_preference_accuracy: float | None = None
    train_reward_margin: float | None = None
    valid_reward_margin: float | None = None
    train_preferred_reward: float | None = None
    valid_preferred_reward: float | None = None
    train_other_reward: float | None = None
    valid_other_reward: float | None = None


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
    metrics: CheckpointMetrics | TuningMetrics


class CheckpointPage(PageWithEnds[Checkpoint]):
    pass
