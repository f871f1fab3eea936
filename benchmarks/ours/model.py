"""Loading the model that all our workers run."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from agentrft.models import resolve_model
from agentrft.models.load import load_model
from agentrft.models.planned import use_planned_attention


def frozen_model(config: dict[str, Any], max_context_tokens: int) -> PreTrainedModel:
    """The configured model in its dtype, with planned attention."""
    source = resolve_model(str(Path(config["model"]).resolve()))
    model = load_model(source, getattr(torch, config["dtype"])).requires_grad_(False)
    use_planned_attention(model)
    return model
