"""The weights that a request names, from a checkpoint's files to a model that an engine runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from transformers import AutoConfig, PreTrainedTokenizerFast

from agentrft.chat import ChatCodec
from agentrft.errors import UserError
from agentrft.job.references import ADAPTER_FILE
from agentrft.models import ModelSource, resolve_model
from agentrft.models.architecture import prove
from agentrft.models.context import model_context_tokens
from agentrft.models.forward import Forward, forward_of
from agentrft.models.load import dtype_on, load_model, load_tokenizer, model_folder
from agentrft.models.packed import PackedModel
from agentrft.models.planned import use_planned_attention
from agentrft.server.inference.adapters import merge_adapter
from agentrft.server.inference.codecs import Codecs
from agentrft.spec.base import SpecModel
from agentrft.spec.chat_template import TemplateVariables
from agentrft.store.layout import ADAPTER, MODEL

DEFAULT_CONTEXT_TOKENS = 2048


class Weights(SpecModel):
    """Which weights answer.

    Attributes:
        name: what error messages call them.
        base: what a job's `model:` says.
        folder: a checkpoint with `adapter/` or `model/`, or such a folder itself; None for the base model.
        max_context_tokens: None for the model's own.
        chat_template_kwargs: variables of the chat template that they were trained with.
    """

    name: str
    base: str
    folder: Path | None = None
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    max_context_tokens: int | None = Field(default=None, gt=0)
    chat_template_kwargs: TemplateVariables = Field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """The same for all names of the same weights. How the template is used is a request's, not the weights'."""
        return self.base, self.folder, self.dtype, self.max_context_tokens

    @property
    def of_base(self) -> "Weights":
        """The base model, loaded as these weights want it."""
        return self.model_copy(update={"name": self.base, "folder": None})

    def files(self) -> Path | None:
        """The folder of the checkpoint's files; None for the base model.

        Raises:
            UserError: there are none.
        """
        if self.folder is None:
            return None
        for part in (self.folder / ADAPTER, self.folder / MODEL, self.folder):
            if any(part.glob("*.safetensors")):
                return part
        raise UserError(f"{self.name}: there are no weights in {self.folder}.", "The checkpoint may be deleted.")

    def adapter_folder(self) -> Path | None:
        """The folder of the adapter; None where the weights are a whole model.

        Raises:
            UserError: there are no weights.
        """
        files = self.files()
        return files if files is not None and (files / ADAPTER_FILE).is_file() else None


@dataclass(frozen=True)
class ModelTexts:
    """What turns messages into a model's tokens and back: `codec` is the one of the template's own defaults, and one
    of `codecs`.
    """

    codec: ChatCodec
    codecs: Codecs
    tokenizer: PreTrainedTokenizerFast
    max_context_tokens: int


@dataclass(frozen=True)
class LoadedModel(ModelTexts):
    """A model that an engine in this process can run."""

    forward: Forward


def shares_base(base: str) -> bool:
    """Whether adapters of this base are computed on one copy of it; else each is merged into a copy of its own.

    Raises:
        UserError: the base model cannot be had.
    """
    config = AutoConfig.from_pretrained(model_folder(resolve_model(base)), local_files_only=True)
    return PackedModel.supports_config(config)


def load_weights(weights: Weights) -> LoadedModel:
    """Load weights as a model of their own, an adapter merged into its base by the arithmetic of training and export.

    Raises:
        UserError: the files are missing, incomplete or of another model.
    """
    source = resolve_model(weights.base)
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    files, adapter = weights.files(), weights.adapter_folder()
    own = source if files is None or adapter else ModelSource(weights.name, str(files), True, files.name)
    model = load_model(own, dtype_on(device, weights.dtype))
    model.to(device=device)  # pyright: ignore[reportCallIssue]  # transformers' wrapper hides the signature
    model.requires_grad_(False)
    texts = load_texts(weights, model_context_tokens(model.config.to_dict()))
    use_planned_attention(model)
    prove(model)
    forward = forward_of(model)
    if adapter is not None:
        merge_adapter(model, forward, adapter)
    return LoadedModel(texts.codec, texts.codecs, texts.tokenizer, texts.max_context_tokens, forward)


def load_texts(weights: Weights, longest: int | None) -> ModelTexts:
    """What turns messages into the base model's tokens and back.

    Args:
        longest: tokens of the longest sequence that whoever computes takes; None where it is not known.

    Raises:
        UserError: tokenizer or template cannot be read, or the weights want longer sequences.
    """
    source = resolve_model(weights.base)
    tokenizer = load_tokenizer(source)
    codecs = Codecs(tokenizer, source.path_or_id)
    context = weights.max_context_tokens or longest or DEFAULT_CONTEXT_TOKENS
    if longest is not None and context > longest:
        raise UserError(
            f"{weights.name}: max_context_tokens={context} is more than the {longest} tokens of the model.",
            f"Set max_context_tokens to at most {longest}.",
        )
    return ModelTexts(codecs.make({}), codecs, tokenizer, context)
