"""Which of transformers' classes loads a model."""

from typing import Any, cast

from huggingface_hub.errors import StrictDataclassError
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig

from agentrft.errors import UserError

# A configuration is a user's file, and transformers takes it at its word: how its code ends where it should not have.
FAULTS_OF_CONFIGURATIONS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    OSError,
    RuntimeError,
    StrictDataclassError,
    TypeError,
    ValueError,
)
INSTEAD = "Take a model of a family that docs/models.md lists, such as Qwen3, Qwen3.5, Llama, Gemma 3 or gpt-oss."


def auto_class(config: PretrainedConfig) -> Any:
    """The class of transformers that loads the model whose text part is to be trained.

    Raises:
        UserError: there is none.
    """
    for one in (AutoModelForCausalLM, AutoModelForImageTextToText):
        if type(config) in cast(Any, one)._model_mapping:
            return one
    raise UserError(f"model type '{config.model_type}' is no language model that transformers knows.", INSTEAD)
