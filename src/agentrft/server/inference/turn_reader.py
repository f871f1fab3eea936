"""What sampled tokens say: text, thoughts and calls, also while the turn is not finished."""

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerFast

from agentrft.chat import ChatCodec

# No template's markup is longer; an older "<" is text.
MAX_MARKUP_CHARACTERS = 32
_OPEN_MARKUP = re.compile(rf"<[^<>]{{0,{MAX_MARKUP_CHARACTERS}}}\Z")


@dataclass(frozen=True)
class ParsedTurn:
    """A turn's text, what it thought before, and its calls in Chat Completions shape."""

    content: str
    reasoning: str
    tool_calls: list[dict[str, Any]]


class TurnReader:
    """Reads turns that follow one prompt.

    Attributes:
        may_think: whether this model's template knows thoughts; then an unfinished turn cannot be told from one.
    """

    def __init__(
        self, codec: ChatCodec, tokenizer: PreTrainedTokenizerFast, prompt_ids: list[int], tools: list[dict[str, Any]]
    ) -> None:
        self._codec = codec
        self._tokenizer = tokenizer
        self._prompt_ids = prompt_ids
        self._tools = tools
        self.may_think = "think" in str(tokenizer.chat_template)

    def read(self, token_ids: Sequence[int]) -> ParsedTurn:
        """A turn's meaning.

        Where the model sees no tools, or wrote a call without a name, the text is everything it wrote: there is no
        call that a client could make.
        """
        said = self._codec.parse(token_ids, self._prompt_ids, self._tools, new_call_id=_new_call_id)
        calls = said.message.get("tool_calls") or []
        if calls and (not self._tools or not all(call["function"]["name"] for call in calls)):
            stop_ids = set(self._codec.stop_ids)
            plain = [token_id for token_id in token_ids if token_id not in stop_ids]
            return ParsedTurn(str(self._tokenizer.decode(plain)), "", [])
        return ParsedTurn(said.content, said.message.get("reasoning_content", ""), calls)


def sendable(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that will stay: no half characters, markup, stop texts or last white space."""
    text = text.rstrip("\ufffd")
    begun = _OPEN_MARKUP.search(text)
    if begun is not None:
        text = text[: begun.start()]
    for stop in stops:
        held = next((length for length in range(len(stop) - 1, 0, -1) if text.endswith(stop[:length])), 0)
        text = text[: len(text) - held]
    return text.rstrip()


def _new_call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
