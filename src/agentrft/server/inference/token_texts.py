"""What a single token stands for, in bytes: a character may take several tokens."""

import re
from typing import Any

from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
_WORD_START = "\u2581"


class TokenTexts:
    """Bytes of the tokens of one tokenizer, byte-level BPE or SentencePiece with byte fallback."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        self._byte_level = "ByteLevel" in repr(tokenizer.backend_tokenizer.decoder)
        self._bytes = {character: byte for byte, character in bytes_to_unicode().items()}

    def logprob(self, token_id: int, logprob: float) -> dict[str, Any]:
        """One entry of Chat Completions' `logprobs.content`."""
        raw = self.bytes_of(token_id)
        text = raw.decode("utf-8", errors="replace")
        return {"token": text, "logprob": logprob, "bytes": list(raw), "top_logprobs": []}

    def bytes_of(self, token_id: int) -> bytes:
        token = str(self._tokenizer.convert_ids_to_tokens(token_id) or "")
        if token_id in self._tokenizer.added_tokens_decoder:
            return token.encode("utf-8")
        if self._byte_level and all(character in self._bytes for character in token):
            return bytes(self._bytes[character] for character in token)
        byte = _BYTE.fullmatch(token)
        return bytes([int(byte[1], 16)]) if byte else token.replace(_WORD_START, " ").encode("utf-8")
