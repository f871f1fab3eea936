"""Responses: a turn as one response, or as the events of a stream."""

import itertools
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

from agentrft.server.inference.choices import all_choices, finished_choices
from agentrft.server.inference.field_rules import RequestModel
from agentrft.server.inference.responses_request import ENCRYPTED_THOUGHTS, LOGPROBS, ResponsesRequest
from agentrft.server.inference.thoughts import reasoning_item
from agentrft.server.inference.token_texts import TokenTexts
from agentrft.server.inference.turn_sampler import SampledToken, TextDelta, Turn, TurnSampler

TOOL_FIELDS = {"type", "name", "description", "parameters", "strict"}


class ResponsesAnswer:
    """The answer to one request."""

    def __init__(self, request: ResponsesRequest, sampler: TurnSampler, token_texts: TokenTexts) -> None:
        self._request = request
        self._sampler = sampler
        self._token_texts = token_texts
        # All ids have it, so that an item is found by its own.
        self._name = uuid.uuid4().hex
        self._id = f"resp_{self._name}"
        self._created = int(time.time())
        self._thoughts_id = f"rs_{self._name}00"
        self._message_id = f"msg_{self._name}01"
        # Of the text's item: thoughts come before it.
        self._text_index = 0
        self._numbers = itertools.count()

    async def whole(self) -> dict[str, Any]:
        """A `response`."""
        (turn,) = await finished_choices(self._sampler, 1)
        return self._response(turn, self._items(turn))

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """The stream's events; the text's item begins with its first part."""
        yield self._event("response.created", response=self._response(None, []))
        yield self._event("response.in_progress", response=self._response(None, []))
        has_begun = False
        async for _, part in all_choices(self._sampler, 1):
            if isinstance(part, TextDelta):
                if part.reasoning:
                    for event in self._thought_events(part.reasoning):
                        yield event
                if not part.text:
                    continue
                for event in () if has_begun else self._begin_text():
                    yield event
                has_begun = True
                logprobs = self._logprobs(part.tokens)
                yield self._text_event("response.output_text.delta", delta=part.text, logprobs=logprobs)
                continue
            items = self._items(part)
            for place, item in enumerate(items):
                if item["type"] == "message":
                    for event in () if has_begun else self._begin_text():
                        yield event
                    for event in self._end_text(item):
                        yield event
                elif item["type"] == "function_call":
                    for event in self._call_events(place, item):
                        yield event
            response = self._response(part, items)
            yield self._event(f"response.{response['status']}", response=response)

    def error(self, body: dict[str, Any]) -> dict[str, Any]:
        """The event that ends a stream with an error."""
        return self._event("error", **{name: body["error"][name] for name in ("code", "message", "param")})

    def _event(self, kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": kind, "sequence_number": next(self._numbers), **fields}

    def _text_event(self, kind: str, **fields: Any) -> dict[str, Any]:
        where = {"item_id": self._message_id, "output_index": self._text_index, "content_index": 0}
        return self._event(kind, **where, **fields)

    def _begin_text(self) -> Iterator[dict[str, Any]]:
        item = {"id": self._message_id, "type": "message", "role": "assistant", "status": "in_progress", "content": []}
        yield self._event("response.output_item.added", output_index=self._text_index, item=item)
        yield self._text_event("response.content_part.added", part=_text_part("", []))

    def _end_text(self, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        (part,) = item["content"]
        yield self._text_event("response.output_text.done", text=part["text"], logprobs=part["logprobs"])
        yield self._text_event("response.content_part.done", part=part)
        yield self._event("response.output_item.done", output_index=self._text_index, item=item)

    def _thought_events(self, text: str) -> Iterator[dict[str, Any]]:
        """A reasoning item from its beginning to its end: thoughts are sent when they are complete."""
        self._text_index = 1
        item, where = self._thoughts(text, "completed"), {"item_id": self._thoughts_id, "output_index": 0}
        begun = {**item, "status": "in_progress", "summary": [], "content": [], "encrypted_content": None}
        yield self._event("response.output_item.added", output_index=0, item=begun)
        yield self._event("response.reasoning_text.delta", **where, content_index=0, delta=text)
        yield self._event("response.reasoning_text.done", **where, content_index=0, text=text)
        for part in item["summary"]:
            place = {**where, "summary_index": 0}
            yield self._event("response.reasoning_summary_part.added", **place, part={**part, "text": ""})
            yield self._event("response.reasoning_summary_text.delta", **place, delta=text)
            yield self._event("response.reasoning_summary_text.done", **place, text=text)
            yield self._event("response.reasoning_summary_part.done", **place, part=part)
        yield self._event("response.output_item.done", output_index=0, item=item)

    def _call_events(self, place: int, item: dict[str, Any]) -> Iterator[dict[str, Any]]:
        begun = {**item, "status": "in_progress", "arguments": ""}
        where = {"item_id": item["id"], "output_index": place}
        yield self._event("response.output_item.added", output_index=place, item=begun)
        yield self._event("response.function_call_arguments.delta", **where, delta=item["arguments"])
        yield self._event(
            "response.function_call_arguments.done", **where, name=item["name"], arguments=item["arguments"]
        )
        yield self._event("response.output_item.done", output_index=place, item=item)

    def _items(self, turn: Turn) -> list[dict[str, Any]]:
        """The thoughts, the text, if there is any or nothing else, then the calls."""
        status = _status(turn)
        items: list[dict[str, Any]] = []
        if turn.said.reasoning:
            items.append(self._thoughts(turn.said.reasoning, "completed"))
        if turn.said.content or not turn.said.tool_calls:
            content = [_text_part(turn.said.content, self._logprobs(turn.tokens))]
            message = {"id": self._message_id, "type": "message", "role": "assistant", "status": status}
            items.append({**message, "content": content})
        for place, call in enumerate(turn.said.tool_calls, 2):
            item = {
                "id": f"fc_{self._name}{place:02x}",
                "type": "function_call",
                "status": status,
                "call_id": call["id"],
            }
            items.append({**item, **call["function"]})
        return items

    def _thoughts(self, text: str, status: str) -> dict[str, Any]:
        request = self._request
        return reasoning_item(
            self._thoughts_id,
            text,
            status,
            summarized=request.wants_summary,
            with_packed=ENCRYPTED_THOUGHTS in request.include,
        )

    def _logprobs(self, tokens: list[SampledToken]) -> list[dict[str, Any]]:
        if LOGPROBS not in self._request.include:
            return []
        return [self._token_texts.logprob(token.token_id, token.logprob) for token in tokens]

    def _response(self, turn: Turn | None, items: list[dict[str, Any]]) -> dict[str, Any]:
        """A response in its shape; with no turn yet it is in progress."""
        request, choice = self._request, self._request.tool_choice
        status = _status(turn) if turn else "in_progress"
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": request.instructions or None,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.metadata,
            "model": request.model,
            "output": items,
            "parallel_tool_calls": request.parallel_tool_calls,
            "previous_response_id": request.previous_response_id,
            "reasoning": {
                "effort": self._sampler.effort or None,
                "summary": request.reasoning.summary or request.reasoning.generate_summary,
            },
            "store": request.store,
            "temperature": request.temperature,
            "text": {"format": request.text.format.model_dump(by_alias=True, exclude_none=True)},
            "tool_choice": choice.model_dump() if isinstance(choice, RequestModel) else choice,
            "tools": [_tool(tool.model_dump(include=TOOL_FIELDS)) for tool in request.tools],
            "top_p": request.top_p,
            "truncation": "disabled",
            "usage": self._usage(turn) if turn else None,
        }

    def _usage(self, turn: Turn) -> dict[str, Any]:
        given, sampled = len(self._sampler.prompt_ids), turn.completion_tokens
        return {
            "input_tokens": given,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": sampled,
            "output_tokens_details": {"reasoning_tokens": turn.reasoning_tokens},
            "total_tokens": given + sampled,
        }


def _status(turn: Turn) -> str:
    return "incomplete" if turn.finish_reason == "length" else "completed"


def _text_part(text: str, logprobs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def _tool(given: dict[str, Any]) -> dict[str, Any]:
    return {**given, "strict": bool(given["strict"])}
