"""Models by name: where their weights lie, and how they are loaded.

A model is the built-in `smollm2-135m`, a folder, or a Hugging Face id; everything after `load` sees the same kinds of
objects, whichever it was. Loading is in `load`, imported by itself because it needs torch and transformers.
"""

from agentrft.models.catalog import ModelInfo, ModelSource, list_models, resolve_model

__all__ = ["ModelInfo", "ModelSource", "list_models", "resolve_model"]
