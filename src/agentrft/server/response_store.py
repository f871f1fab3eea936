"""What the Responses API remembers: the conversation before a request, and its answer for the next one.

An item of an output has its response's id within its own (`msg_<response>01`), so a reference to it needs no index.
"""

import re
from collections.abc import AsyncIterator
from typing import Any

from agentrft import wire
from agentrft.server.context import Context
from agentrft.server.errors import ApiError, not_found
from agentrft.server.records.responses import StoredResponse

# What the inference process reads beside `input`; clients cannot give it.
EARLIER = "earlier_items"
REFERENCE = {"type", "id"}
ITEM_ID = re.compile(r"(?:rs|msg|fc)_([0-9a-f]{32})[0-9a-f]{2,}")
# A stream's last event; ours begin so.
LAST_EVENTS = (b'data: {"type": "response.completed"', b'data: {"type": "response.incomplete"')


async def with_earlier_items(body: dict[str, Any], context: Context) -> dict[str, Any]:
    """The request with what it refers to by id: the items before it, and items that it names instead of giving them.

    Raises:
        ApiError: there is no such response or item.
    """
    if EARLIER in body:
        message = f"Unknown or unsupported parameter: '{EARLIER}'."
        raise ApiError(400, message, param=EARLIER, code="unknown_parameter")
    previous, given = body.get("previous_response_id"), body.get("input")
    changed = dict(body)
    if isinstance(previous, str):
        stored = await context.quickly(context.records.response, previous)
        if stored is None:
            message = f"Previous response with id '{previous}' not found: {_REASONS}"
            raise ApiError(400, message, param="previous_response_id", code="previous_response_not_found")
        changed[EARLIER] = conversation(stored)
    if isinstance(given, list):
        changed["input"] = [await _given_item(item, f"input[{index}]", context) for index, item in enumerate(given)]
    return changed


def conversation(stored: StoredResponse) -> list[Any]:
    """All items of a conversation up to the end of a stored response."""
    return [*stored.items, *stored.response["output"]]


async def keep(response: dict[str, Any], body: dict[str, Any], context: Context) -> None:
    """Store a response, unless its request said not to. `body` is what `with_earlier_items` gave."""
    if not response.get("store"):
        return
    given = body["input"]
    own = [{"type": "message", "role": "user", "content": given}] if isinstance(given, str) else given
    await context.quickly(context.records.add_response, response, [*body.get(EARLIER, ()), *own])


async def keep_streamed(parts: AsyncIterator[bytes], body: dict[str, Any], context: Context) -> AsyncIterator[bytes]:
    """The parts of a stream as they come. Its response is stored before the client reads that it is complete."""
    line = b""
    async for part in parts:
        *lines, line = (line + part).split(b"\n")
        for whole in lines:
            if whole.startswith(LAST_EVENTS):
                await keep(wire.parse(whole.removeprefix(b"data: "))["response"], body, context)
        yield part


async def find_response(response_id: str, context: Context) -> StoredResponse:
    """Raises ApiError where it is not stored."""
    stored = await context.quickly(context.records.response, response_id)
    if stored is None:
        raise not_found(f"Response with id '{response_id}' not found:", _REASONS, param="response_id", code="not_found")
    return stored


_REASONS = "it was not stored (`store: false`), was deleted, or is older than what is kept."


async def _given_item(item: Any, param: str, context: Context) -> Any:
    """The item itself, or the one that it refers to."""
    if not isinstance(item, dict) or not isinstance(item.get("id"), str) or not item.keys() <= REFERENCE:
        return item
    if item.get("type") not in (None, "item_reference"):
        return item
    made = ITEM_ID.fullmatch(item["id"])
    stored = await context.quickly(context.records.response, f"resp_{made[1]}") if made else None
    for one in stored.response["output"] if stored else ():
        if one["id"] == item["id"]:
            return one
    raise not_found(f"Item with id '{item['id']}' not found:", _REASONS, param=param, code="item_not_found")
