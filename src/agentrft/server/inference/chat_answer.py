"""Chat Completions: turns as one answer, or as the chunks of a stream."""

import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from agentrft.server.inference.chat_request import ChatRequest
from agentrft.server.inference.choices import all_choices, finished_choices
from agentrft.server.inference.token_texts import TokenTexts
from agentrft.server.inference.turn_sampler import SampledToken, TextDelta, Turn, TurnSampler


class ChatAnswer:
    """The answer to one request."""

    def __init__(self, request: ChatRequest, sampler: TurnSampler, token_texts: TokenTexts) -> None:
        self._request = request
        self._sampler = sampler
        self._token_texts = token_texts
        self._head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": request.model}

    async def whole(self) -> dict[str, Any]:
        """A `chat.completion`."""
        turns = await finished_choices(self._sampler, self._request.n)
        choices = [
            {
                "index": index,
                "message": _message(turn),
                "logprobs": self._logprobs(turn.tokens),
                "finish_reason": turn.finish_reason,
            }
            for index, turn in enumerate(turns)
        ]
        return {**self._head, "object": "chat.completion", "choices": choices, "usage": self._usage(turns)}

    async def chunks(self) -> AsyncIterator[dict[str, Any]]:
        """`chat.completion.chunk`s: each choice's role, its parts, its finish; at last the usage if it is wanted."""
        for index in range(self._request.n):
            yield self._chunk(index, {"role": "assistant", "content": "", "refusal": None})
        turns: list[Turn] = []
        async for index, part in all_choices(self._sampler, self._request.n):
            if isinstance(part, TextDelta):
                if part.reasoning:
                    yield self._chunk(index, {"reasoning_content": part.reasoning})
                logprobs = self._logprobs(part.tokens) if part.tokens else None
                if part.text or logprobs is not None:
                    yield self._chunk(index, {"content": part.text}, logprobs=logprobs)
                continue
            turns.append(part)
            for delta in _call_deltas(part):
                yield self._chunk(index, delta)
            yield self._chunk(index, {}, finish_reason=part.finish_reason)
        if self._request.stream_options.include_usage:
            yield {**self._head, "object": "chat.completion.chunk", "choices": [], "usage": self._usage(turns)}

    def _chunk(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish_reason: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        chunk = {**self._head, "object": "chat.completion.chunk", "choices": [choice]}
        return chunk | {"usage": None} if self._request.stream_options.include_usage else chunk

    def _logprobs(self, tokens: list[SampledToken]) -> dict[str, Any] | None:
        if not self._request.logprobs:
            return None
        content = [self._token_texts.logprob(token.token_id, token.logprob) for token in tokens]
        return {"content": content, "refusal": None}

    def _usage(self, turns: list[Turn]) -> dict[str, Any]:
        prompt, completion = len(self._sampler.prompt_ids), sum(turn.completion_tokens for turn in turns)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "completion_tokens_details": {"reasoning_tokens": sum(turn.reasoning_tokens for turn in turns)},
        }


def _message(turn: Turn) -> dict[str, Any]:
    said = turn.said
    content = None if said.tool_calls and not said.content else said.content
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None, "annotations": []}
    if said.tool_calls:
        message["tool_calls"] = said.tool_calls
    if said.reasoning:
        message["reasoning_content"] = said.reasoning
    return message


def _call_deltas(turn: Turn) -> list[dict[str, Any]]:
    """For each call its name, then its arguments."""
    deltas: list[dict[str, Any]] = []
    for index, call in enumerate(turn.said.tool_calls):
        function = call["function"]
        begun = {**call, "index": index, "function": {"name": function["name"], "arguments": ""}}
        deltas.append({"tool_calls": [begun]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": function["arguments"]}}]})
    return deltas
