"""Tokens that a model's template writes and its training never met, such as `<tool_call>` of Qwen2.5-Coder-0.5B.

Their embeddings are those of the ids that no token has: the model cannot tell them from thousands of others, so it
samples them by chance, and no adapter on linear layers changes that. As text of ordinary tokens they can be learned.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor

from agentrft.wire import is_object, parse

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

EMBEDDINGS = "embed_tokens.weight"
HEAD = "lm_head.weight"
INDEX = "model.safetensors.index.json"
# Training moves a row away from where it began, which is one place for all.
COSINE = 0.99
# Of the rows that no token has, so many are compared.
MOST_ROWS = 512


def untrained_tokens(tokenizer: "PreTrainedTokenizerFast", template: str, folder: Path) -> list[str]:
    """Added tokens in the template, no special ones, whose rows in embeddings and head are those of unused ids.

    None where the folder's weights cannot tell: no safetensors, or no row without a token.

    Raises:
        OSError, SafetensorError, WireError: the weights cannot be read.
    """
    added = {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if not token.special}
    written = {text: number for text, number in added.items() if text in template and not text.isspace()}
    if not written:
        return []
    first_unused = max(len(tokenizer), *(number + 1 for number in tokenizer.added_tokens_decoder))
    matrices = _matrices(folder)
    untrained = set(written) if matrices else set[str]()
    for path, name in matrices:
        with safe_open(path, framework="pt") as file:
            rows = file.get_slice(name)
            count = rows.get_shape()[0]
            if first_unused >= count:
                return []
            unused = rows[first_unused : min(count, first_unused + MOST_ROWS)].float()
            untrained -= {text for text in untrained if not _is_among(rows[written[text] : written[text] + 1], unused)}
    return sorted(untrained)


def write_as_text(tokenizer: "PreTrainedTokenizerFast", texts: Iterable[str]) -> None:
    """Change a tokenizer: it encodes these added tokens as the ordinary tokens of their text."""
    backend: Any = tokenizer
    content = json.loads(backend.backend_tokenizer.to_str())
    made = type(backend.backend_tokenizer)
    # Their ids stay taken: the library would give the next tokens the numbers of those that are missing.
    taken = {text: f"<|unused_{tokenizer.convert_tokens_to_ids(text)}|>" for text in texts}
    for token in content["added_tokens"]:
        token["content"] = taken.get(token["content"], token["content"])
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        content["model"]["vocab"] = {taken.get(token, token): number for token, number in vocabulary.items()}
    else:
        content["model"]["vocab"] = [[taken.get(token, token), score] for token, score in vocabulary]
    backend._tokenizer = made.from_str(json.dumps(content))


def _is_among(row: Tensor, unused: Tensor) -> bool:
    return bool((torch.nn.functional.cosine_similarity(row.float(), unused) > COSINE).any())


def _matrices(folder: Path) -> list[tuple[Path, str]]:
    """The files and names of the embeddings and, where it has its own weights, the head."""
    index = folder / INDEX
    if index.is_file():
        read = parse(index.read_bytes())
        places = read.get("weight_map", {}) if is_object(read) else {}
    else:
        single = folder / "model.safetensors"
        if not single.is_file():
            return []
        with safe_open(single, framework="pt") as file:
            places = dict.fromkeys(file.keys(), single.name)
    return [(folder / place, name) for name, place in places.items() if name.endswith((EMBEDDINGS, HEAD))]
