"""Token ids as text, one by one, by the tokenizer's own file: what was recorded is shown, nothing is rendered again."""

import logging
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from agentrft.dashboard.kept import Kept, identity
from agentrft.errors import UserError
from agentrft.models import resolve_model
from agentrft.models.catalog import BUILT_IN, built_in_folder

logger = logging.getLogger(__name__)

FILE = "tokenizer.json"
TOKENIZERS: Kept[Tokenizer | None] = Kept(4)


def token_texts(model: str, ids: Sequence[int]) -> list[str] | None:
    """What each token adds to the text before it; None where the model's tokenizer is not on this machine.

    A character of several tokens is added by the last of them.
    """
    tokenizer = _tokenizer(model)
    if tokenizer is None:
        return None
    stream = DecodeStream(skip_special_tokens=False)
    try:
        return [stream.step(tokenizer, number) or "" for number in ids]
    except Exception:  # tokenizers raises nothing more special for ids that it cannot decode
        return None


def _tokenizer(model: str) -> Tokenizer | None:
    """None where there is none yet: a model that is downloaded meanwhile has one the next time."""
    path = _file(model)
    state = None if path is None else identity(path.resolve())
    if path is None or state is None:
        return None
    return TOKENIZERS.get(path, state, lambda: _read(path))


def _read(path: Path) -> Tokenizer | None:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises nothing more special for a file that it cannot read
        logger.warning("%s cannot be read: %s", path, error)
        return None


def _file(model: str) -> Path | None:
    try:
        source = resolve_model(model)
    except UserError:
        return None
    if source.name in BUILT_IN:
        return built_in_folder(source.name) / FILE
    if source.is_local:
        return Path(source.path_or_id) / FILE
    found = try_to_load_from_cache(source.path_or_id, FILE)
    return Path(found) if isinstance(found, str) else None
