"""Jobs that learn from files alone: supervised fine-tuning, and direct preference optimisation."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agentrft.spec.base import SpecModel
from agentrft.spec.base_job import BaseJobSpec
from agentrft.spec.hyperparameters import Auto, PositiveInt, chosen

TuningMethod = Literal["supervised", "dpo"]
# Of adapters; a tenth of it where all weights are trained.
LEARNING_RATES: dict[TuningMethod, float] = {"supervised": 5e-4, "dpo": 5e-5}
FULL_SHARE = 0.1
EPOCHS: dict[TuningMethod, int] = {"supervised": 3, "dpo": 1}
BATCH_SIZE, BETA = 8, 0.1
# Validations of a job.
EVALUATIONS = 8


class TuningHyperparameters(SpecModel):
    """Everything that is left at "auto" is chosen by `resolve` and recorded with the job.

    Attributes:
        n_epochs: passes over the training file; "auto" is 3, and 1 of `dpo`.
        batch_size: examples in one optimizer step; "auto" is 8, or all where there are fewer.
        learning_rate_multiplier: of 5e-4 for LoRA (`dpo` 5e-5), and of a tenth of it for full weights.
        beta: of `dpo`: how much it costs to leave the policy that training began with; "auto" is 0.1.
        max_steps: steps of the job, at most, whatever the epochs.
        max_context_tokens: tokens of an example; "auto" is what the model takes.
        eval_interval: steps between validations; "auto" is an eighth of all.
        checkpoint_interval: steps between the checkpoints that a killed job goes on from; the updates since the newest
            are made again from the training file. "auto" goes by time: one after 20 seconds, later where writing them
            would take more than a twentieth of the time. Ends of epochs, validated steps and one that the job stops at
            have a checkpoint whatever it says.
        lora_rank: of the adapters, or "full" to train all weights; "auto" is 16.
        lora_experts: whether LoRA changes the experts of a mixture, too.
        max_grad_norm: the gradient's norm is cut to this; "auto" is 1.
    """

    n_epochs: Annotated[int, Field(ge=1, le=50)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=256)] | Auto = "auto"
    learning_rate_multiplier: Annotated[float, Field(gt=0)] | Auto = "auto"
    beta: Annotated[float, Field(gt=0, le=2)] | Auto = "auto"
    max_steps: PositiveInt | Auto = "auto"
    max_context_tokens: PositiveInt | Auto = "auto"
    eval_interval: PositiveInt | Auto = "auto"
    checkpoint_interval: PositiveInt | Auto = "auto"
    lora_rank: Annotated[int, Field(ge=1, le=1024)] | Literal["full"] | Auto = "auto"
    lora_experts: bool | Auto = "auto"
    max_grad_norm: Annotated[float, Field(gt=0)] | Auto = "auto"

    def resolve(self, method: TuningMethod, *, n_train: int) -> "ResolvedTuning":
        """Replace every "auto" by a value, but for `max_context_tokens`."""
        batch_size = chosen(self.batch_size, min(BATCH_SIZE, n_train))
        steps_per_epoch = -(-n_train // batch_size)
        n_epochs = chosen(self.n_epochs, EPOCHS[method])
        max_steps = min(chosen(self.max_steps, n_epochs * steps_per_epoch), n_epochs * steps_per_epoch)
        multiplier = chosen(self.learning_rate_multiplier, 1.0)
        lora_rank = None if self.lora_rank == "full" else chosen(self.lora_rank, 16)
        return ResolvedTuning(
            n_epochs=n_epochs,
            batch_size=batch_size,
            learning_rate_multiplier=multiplier,
            learning_rate=multiplier * LEARNING_RATES[method] * (FULL_SHARE if lora_rank is None else 1),
            beta=chosen(self.beta, BETA) if method == "dpo" else None,
            max_steps=max_steps,
            steps_per_epoch=steps_per_epoch,
            eval_interval=chosen(self.eval_interval, -(-max_steps // EVALUATIONS)),
            checkpoint_interval=chosen(self.checkpoint_interval, None),
            lora_rank=lora_rank,
            lora_experts=chosen(self.lora_experts, True),
            max_grad_norm=chosen(self.max_grad_norm, 1.0),
        )


@dataclass(frozen=True)
class ResolvedTuning:
    """Hyperparameters without "auto". `lora_rank` None means that all weights are trained, `checkpoint_interval` None
    that time decides."""

    n_epochs: int
    batch_size: int
    learning_rate_multiplier: float
    learning_rate: float
    beta: float | None
    max_steps: int
    steps_per_epoch: int
    eval_interval: int
    checkpoint_interval: int | None
    lora_rank: int | None
    lora_experts: bool
    max_grad_norm: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class TuningSpec(BaseJobSpec):
    """A whole job without rollouts: it has no tools and no grader.

    Attributes:
        method: "supervised", on demonstrations, or "dpo", on preferences: rows with a better and a worse answer.
        hyperparameters: how it is learned.
    """

    method: TuningMethod
    hyperparameters: TuningHyperparameters = TuningHyperparameters()

    @model_validator(mode="after")
    def _beta_is_of_dpo(self) -> "TuningSpec":
        if self.method != "dpo" and self.hyperparameters.beta != "auto":
            raise ValueError("hyperparameters.beta: has an effect with the method dpo alone")
        return self
