"""A model that packed tokens can run through."""

import torch
from transformers import PreTrainedModel

from agentrft.models.architecture import prove
from agentrft.models.catalog import ModelSource
from agentrft.models.load import load_model
from agentrft.models.planned import use_planned_attention


def ready_model(source: ModelSource, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """Load it onto a device, with planned attention that is proven and with nothing to be trained.

    Raises:
        UserError: it cannot be loaded, or its attention does not do what a plan says.
    """
    model = load_model(source, dtype)
    model.to(device=device)  # pyright: ignore[reportCallIssue]  # transformers' wrapper hides the signature
    model.requires_grad_(False)
    use_planned_attention(model)
    prove(model)
    return model
