"""Sampled tokens to an assistant's turn: its text, its thoughts and its tool calls.

`TurnSampler` uses it on finished turns, and on unfinished ones to stream the part of the text that will stay.
"""

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
    """A turn: its text, the thoughts before it (empty without), and its tool calls in Chat Completions' shape."""

    content: str
    reasoning: str
    tool_calls: list[dict[str, Any]]


class TurnReader:
    """Parses the turns that follow one prompt.

    Attributes:
        may_think: whether the model's chat template has thoughts. If so, the text of an unfinished turn may
            turn out to be a thought.
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
        """Parse the tokens of one turn.

        If the model was shown no tools, or wrote a call without a name, all that it wrote is returned as text: there is
        no call that a client could make.
        """
        said = self._codec.parse(token_ids, self._prompt_ids, self._tools, new_call_id=_new_call_id)
        calls = said.message.get("tool_calls") or []
        if calls and (not self._tools or not all(call["function"]["name"] for call in calls)):
            stop_ids = set(self._codec.stop_ids)
            plain = [token_id for token_id in token_ids if token_id not in stop_ids]
            return ParsedTurn(str(self._tokenizer.decode(plain)), "", [])
        return ParsedTurn(said.content, said.message.get("reasoning_content", ""), calls)

    def reasoning_tokens(self, token_ids: Sequence[int]) -> int:
        """How many of a turn's tokens are thoughts."""
        return self._codec.reasoning_tokens(token_ids, self._prompt_ids, self._tools)


def sendable(text: str, stops: Sequence[str]) -> str:
    """The part of an unfinished text that later tokens cannot change.

    An incomplete character, the beginning of markup or of a stop text, and white space at the end are left out.
    """
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
