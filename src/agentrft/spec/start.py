"""Training that begins with weights of an earlier job: what their folder says of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentrft import wire
from agentrft.errors import UserError

ADAPTER, STATE, CONFIG = "adapter", "state.pt", "adapter_config.json"
REMEDY = (
    "Name a checkpoint, such as runs/ftjob-…/checkpoints/step-00012, or an adapter that `agentrft export` wrote; "
    "a merged model is named by `model:`."
)


@dataclass(frozen=True)
class StartWeights:
    """How weights were trained.

    Attributes:
        lora_rank: as the hyperparameter.
        lora_experts: whether their adapter changes experts; "auto" where there is none.
    """

    lora_rank: int | Literal["full"]
    lora_experts: bool | Literal["auto"]


def start_weights(folder: Path) -> StartWeights:
    """What a folder's weights are.

    Raises:
        UserError: the folder has none.
    """
    for config in (folder / ADAPTER / CONFIG, folder / CONFIG):
        try:
            if config.is_file():
                written = wire.parse(config.read_bytes())
                return StartWeights(int(written["r"]), bool(written.get("target_parameters")))
        except (ValueError, OverflowError, KeyError, TypeError, AttributeError, OSError) as error:
            raise UserError(f"start_from: {config} cannot be read: {error}.", REMEDY) from error
    if (folder / STATE).is_file():
        return StartWeights("full", lora_experts="auto")
    raise UserError(f"start_from: {folder} is no checkpoint and no adapter.", REMEDY)
