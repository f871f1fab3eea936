"""Chat messages to token ids and back, for whatever template a model was trained with.
Sampled ids are never tokenized again: what follows a turn is appended to them as ids, or refused."""

from agentrft.chat.chatml import ChatMLToolRenderer
from agentrft.chat.codec import AssistantTurn, ChatCodec, ParsedCall
from agentrft.chat.loading import load_codec

__all__ = ["AssistantTurn", "ChatCodec", "ChatMLToolRenderer", "ParsedCall", "load_codec"]
