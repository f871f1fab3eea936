"""Training that begins with weights of an earlier job: what their folder says of them."""

from pathlib import Path
from typing import Literal

from agentrft import wire
from agentrft.errors import UserError

ADAPTER, STATE, CONFIG = "adapter", "state.pt", "adapter_config.json"
REMEDY = (
    "Name a checkpoint, such as runs/ftjob-…/checkpoints/step-00012, or an adapter that `agentrft export` wrote; "
    "a merged model is named by `model:`."
)


def rank_of(folder: Path) -> int | Literal["full"]:
    """The `lora_rank` that these weights were trained with.

    Raises:
        UserError: the folder has none.
    """
    for config in (folder / ADAPTER / CONFIG, folder / CONFIG):
        try:
            if config.is_file():
                return int(wire.parse(config.read_bytes())["r"])
        except (ValueError, OverflowError, KeyError, TypeError, OSError) as error:
            raise UserError(f"start_from: {config} cannot be read: {error}.", REMEDY) from error
    if (folder / STATE).is_file():
        return "full"
    raise UserError(f"start_from: {folder} is no checkpoint and no adapter.", REMEDY)
