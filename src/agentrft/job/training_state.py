"""What is kept of each trained number, in memory and in a checkpoint.

The weights that compute have the job's data type. The optimizer steps on float32 masters of them, with gradients that
are summed in float32 and Adam's two moments: in bfloat16 a small update would be rounded away.
"""

from dataclasses import dataclass

import torch

from agentrft.spec.hyperparameters import automatic_checkpoint_interval

FLOAT32_BYTES = 4
MOMENTS = 2
GB = 1_000_000_000


@dataclass(frozen=True)
class TrainingState:
    """Of one job. All but `dtype` and `checkpoint_interval` in bytes.

    Attributes:
        all_weights: whether all weights are trained; else adapters are.
        dtype: of the weights that are trained, such as "bfloat16".
        weights: of these.
        masters, gradients, optimizer: in float32; the last has Adam's moments.
        checkpoint: of one: masters, moments, and the weights in a format of their own.
        checkpoint_interval: steps between checkpoints.
    """

    all_weights: bool
    dtype: str
    weights: int
    masters: int
    gradients: int
    optimizer: int
    checkpoint: int
    checkpoint_interval: int

    @classmethod
    def of(
        cls, numbers: int, dtype: torch.dtype, *, all_weights: bool, checkpoint_interval: int | None = None
    ) -> "TrainingState":
        """Of so many trained numbers.

        Args:
            checkpoint_interval: None for what "auto" becomes.
        """
        weights, float32 = numbers * dtype.itemsize, numbers * FLOAT32_BYTES
        return cls(
            all_weights=all_weights,
            dtype=str(dtype).removeprefix("torch."),
            weights=weights,
            masters=float32,
            gradients=float32,
            optimizer=MOMENTS * float32,
            checkpoint=float32 + MOMENTS * float32 + weights,
            checkpoint_interval=checkpoint_interval or automatic_checkpoint_interval(None if all_weights else 1),
        )

    @property
    def beside_weights(self) -> int:
        """What training holds in memory beside the weights."""
        return self.masters + self.gradients + self.optimizer

    @property
    def kept_as(self) -> str:
        """In words: what the weights are kept in."""
        return (
            f"{self.dtype} weights ({_gb(self.weights)}) with float32 masters ({_gb(self.masters)}), gradients "
            f"({_gb(self.gradients)}) and Adam's moments ({_gb(self.optimizer)})"
        )

    @property
    def written_as(self) -> str:
        """In words: what a checkpoint takes, and how often one is written."""
        every = "every step" if self.checkpoint_interval == 1 else f"every {self.checkpoint_interval} steps"
        parts = f"masters, moments and {self.dtype} weights"
        return f"{_gb(self.checkpoint)} ({parts}), {every}, at validated steps and at the end"


def _gb(count: int) -> str:
    return f"{count / GB:.3g} GB"
