"""Samples one turn of the assistant for a chat request, and samples it again if it does not meet the request's demands.

The engine returns tokens only when a generation ends, so a turn is generated in slices of a few tokens, each continuing
the last. After each slice the turn is checked for stop texts, and its text is sent to a client that streams. Streamed
and whole answers use the same slices, so they are equal.
"""

import asyncio
import hashlib
import logging
import re
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from agentrft.chat import ChatCodec
from agentrft.engine import EngineFailure, Sampling, Session
from agentrft.errors import UserError
from agentrft.server.inference.constraints import Constraints
from agentrft.server.inference.errors import ApiError, from_engine, invalid
from agentrft.server.inference.host import Answering
from agentrft.server.inference.template_variables import TemplateWish
from agentrft.server.inference.turn_reader import ParsedTurn, TurnReader, sendable

logger = logging.getLogger(__name__)

# The first try and three more.
ATTEMPTS = 4
_PIECE = re.compile(r"\s*\S+\s*\Z|\s*\S+")


@dataclass(frozen=True)
class TurnSettings:
    """What a request asks of a turn, the same for Chat Completions and Responses.

    Attributes:
        messages, tools: in Chat Completions shape; no tools where the model may see none. `messages_field` is the
            request's field that they came in.
        max_tokens: None for as many as fit.
        stop: texts that end the answer; they are not part of it.
        seed: of all choices and attempts.
        template: which variables of the chat template the request asks for.
    """

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    constraints: Constraints
    parallel_tool_calls: bool
    temperature: float
    top_p: float
    max_tokens: int | None
    stop: tuple[str, ...]
    seed: int
    messages_field: str = "messages"
    template: TemplateWish = field(default_factory=TemplateWish)


@dataclass(frozen=True)
class SampledToken:
    token_id: int
    logprob: float


@dataclass(frozen=True)
class TextDelta:
    """A further part of a turn's text, and the tokens sampled since the last; `reasoning` is a part of its thoughts."""

    text: str
    tokens: list[SampledToken]
    reasoning: str = ""


@dataclass(frozen=True)
class Turn:
    """A finished turn. `tokens` are all sampled tokens but the stop token; `completion_tokens` counts that one, too.
    `reasoning_tokens` are those of them that are thoughts.
    """

    said: ParsedTurn
    tokens: list[SampledToken]
    completion_tokens: int
    finish_reason: Literal["stop", "length", "tool_calls"]
    reasoning_tokens: int = 0


class TurnSampler:
    """Samples turns of one request with one model.

    Attributes:
        effort: how much the model was asked to think, where its template has something for that.

    Args:
        codec: the model's, with the variables of its template that the request asks for.
        timeout_s: the deadline of one turn, all its attempts and the wait for the engine included.

    Raises:
        ApiError: the messages cannot be put into the model's chat template, or leave no room in its context.
    """

    effort: str = ""

    def __init__(
        self, model: Answering, codec: ChatCodec, settings: TurnSettings, *, timeout_s: float, effort: str = ""
    ) -> None:
        self._model = model
        self.effort = effort
        self._settings = settings
        self._timeout_s = timeout_s
        context = model.loaded.max_context_tokens
        self._stop_ids = frozenset(codec.stop_ids)
        messages = _with_instruction(settings)
        try:
            self.prompt_ids = codec.prompt_ids(messages, settings.tools)
        except (UserError, ValueError, TypeError, KeyError) as error:
            raise invalid(
                f"These messages do not fit the model's chat template: {error}", settings.messages_field
            ) from error
        room = context - len(self.prompt_ids)
        if room < 1:
            raise invalid(
                f"This model's maximum context length is {context} tokens; the messages take {len(self.prompt_ids)}.",
                settings.messages_field,
                "context_length_exceeded",
            )
        self._max_tokens = room if settings.max_tokens is None else min(room, settings.max_tokens)
        self._reader = TurnReader(codec, model.loaded.tokenizer, self.prompt_ids, settings.tools)
        # What may be taken back must not be sent: calls, thoughts, and turns that are sampled again.
        self._sends_early = not settings.tools and not settings.constraints.demanding and not self._reader.may_think

    async def sample(self, index: int, *, stream: bool) -> AsyncGenerator[TextDelta | Turn]:
        """Sample choice `index`. Yields parts of its text if `stream`, and then the whole turn.

        Parts are yielded while the turn is sampled if no later token or check can take them back (no tools, no format,
        no thoughts); otherwise after it is finished.

        Raises:
            ApiError: no attempt met the request's demands, or the engine failed.
        """
        deadline = time.monotonic() + self._timeout_s
        fault: ApiError | None = None
        # Greedy sampling says the same each time.
        for attempt in range(ATTEMPTS if self._settings.temperature > 0 else 1):
            sent, turn = TextDelta("", []), None
            async with aclosing(self._attempt(index, attempt, deadline)) as slices:
                async for turn in slices:
                    delta = self._unsent(turn, sent, last=False) if stream and self._sends_early else None
                    if delta is not None:
                        sent = TextDelta(sent.text + delta.text, sent.tokens + delta.tokens)
                        yield delta
            if turn is None:
                raise RuntimeError("a turn without a single slice")
            turn = self._kept(turn)
            fault = self._settings.constraints.fault(turn.said.content, turn.said.tool_calls, turn.finish_reason)
            if fault is None:
                if stream:
                    if turn.said.reasoning:
                        yield TextDelta("", [], turn.said.reasoning)
                    for delta in _pieces(self._unsent(turn, sent, last=True)):
                        yield delta
                yield turn
                return
            logger.info("attempt %d: %s", attempt + 1, fault.message)
        raise fault or RuntimeError("no attempt was made")

    async def _attempt(self, index: int, attempt: int, deadline: float) -> AsyncGenerator[Turn]:
        """Generate one turn. Yields the turn so far after each slice that is parsed; the last one is the whole turn."""
        session: Session | None = None
        settings, tokens, new_ids = self._settings, list[SampledToken](), self.prompt_ids
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                session = await self._model.open()
            for part in range(self._max_tokens):
                wanted = min(self._model.slice_tokens, self._max_tokens - len(tokens))
                sampling = Sampling(
                    temperature=settings.temperature,
                    top_p=settings.top_p,
                    max_tokens=wanted,
                    stop_ids=self._stop_ids,
                    seed=_seed(settings.seed, index, attempt, part),
                    deadline_s=max(0.0, deadline - time.monotonic()),
                )
                slice_ = await session.generate(new_ids, sampling)
                new_ids = []
                known = len(tokens)
                tokens += [SampledToken(*pair) for pair in zip(slice_.token_ids, slice_.logprobs, strict=True)]
                stopped = slice_.finish_reason == "stop"
                ends = stopped or len(tokens) >= self._max_tokens
                if not ends and not settings.stop and not self._sends_early:
                    continue
                turn = self._read(tokens, "stop" if stopped else "length")
                cut = self._cut(turn, known)
                yield cut or turn
                if ends or cut is not None:
                    return
        except TimeoutError as error:
            message = f"The engine had no place within {self._timeout_s:.0f} s."
            raise ApiError(503, message, code="engine_unavailable", retry=True) from error
        except EngineFailure as failure:
            if failure.kind == "broken":
                raise
            raise from_engine(failure) from failure
        finally:
            if session is not None:
                session.close()

    def _read(self, tokens: list[SampledToken], reason: Literal["stop", "length"]) -> Turn:
        said = self._reader.read([token.token_id for token in tokens])
        plain = tokens[:-1] if tokens and tokens[-1].token_id in self._stop_ids else list(tokens)
        return Turn(said, plain, len(tokens), reason)

    def _cut(self, turn: Turn, known: int) -> Turn | None:
        """The turn cut before its first stop text, with as few tokens as contain it; None if there is none."""
        place = _first_stop(turn.said.content, self._settings.stop)
        if place is None:
            return None
        for count in range(known + 1, len(turn.tokens) + 1):
            shorter = self._read(turn.tokens[:count], "stop")
            place = _first_stop(shorter.said.content, self._settings.stop)
            if place is not None:
                said = replace(shorter.said, content=shorter.said.content[:place], tool_calls=[])
                return replace(shorter, said=said)
        # The text changed with the stop token: what stood before its end was no text yet.
        place = _first_stop(turn.said.content, self._settings.stop)
        said = replace(turn.said, content=turn.said.content[:place], tool_calls=[])
        return replace(turn, said=said, finish_reason="stop")

    def _unsent(self, turn: Turn, sent: TextDelta, *, last: bool) -> TextDelta | None:
        text = turn.said.content
        if not last:
            text = sendable(text, self._settings.stop) if text.startswith(sent.text) else ""
        elif not text.startswith(sent.text):
            raise ApiError(500, "The answer changed after a part of it was sent; ask without stream.", code="stream")
        if len(text) <= len(sent.text) and not last:
            return None
        return TextDelta(text[len(sent.text) :], turn.tokens[len(sent.tokens) :])

    def _kept(self, turn: Turn) -> Turn:
        calls = self._settings.constraints.rule.kept(turn.said.tool_calls, parallel=self._settings.parallel_tool_calls)
        reason = "tool_calls" if calls and turn.finish_reason == "stop" else turn.finish_reason
        thoughts = (
            self._reader.reasoning_tokens([token.token_id for token in turn.tokens]) if turn.said.reasoning else 0
        )
        said = replace(turn.said, tool_calls=calls)
        return replace(turn, said=said, finish_reason=reason, reasoning_tokens=thoughts)


def _with_instruction(settings: TurnSettings) -> list[dict[str, Any]]:
    """The messages, with the response format's instruction in the system message: many templates allow only one."""
    if settings.constraints.output is None:
        return settings.messages
    instruction = settings.constraints.output.instruction
    first, *rest = settings.messages
    if first["role"] not in ("system", "developer"):
        return [{"role": "system", "content": instruction}, *settings.messages]
    return [{**first, "content": f"{first['content']}\n\n{instruction}"}, *rest]


def _seed(*parts: int) -> int:
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big")


def _first_stop(text: str, stops: tuple[str, ...]) -> int | None:
    return min((place for stop in stops if (place := text.find(stop)) >= 0), default=None)


def _pieces(delta: TextDelta | None) -> list[TextDelta]:
    """Split the text of a finished turn into words for streaming; the tokens go with the first word."""
    if delta is None:
        return []
    words = _PIECE.findall(delta.text) or ([delta.text] if delta.text or delta.tokens else [])
    return [TextDelta(word, [] if place else delta.tokens) for place, word in enumerate(words)]
