"""A model's thoughts as the Responses API sends them out and gets them back: `reasoning` items.

Their text is in `content`. `encrypted_content`, for clients that keep nothing else, is the same text in another form:
a model's thoughts are no secret of the server's.
"""

import base64
import binascii
from typing import Any

PREFIX = "agentrft-thoughts:"


def packed(text: str) -> str:
    """Thoughts as `encrypted_content`."""
    return PREFIX + base64.urlsafe_b64encode(text.encode()).decode()


def unpacked(content: str) -> str | None:
    """The thoughts in an `encrypted_content`; None where it is not ours, and so cannot be read."""
    if not content.startswith(PREFIX):
        return None
    try:
        return base64.b64decode(content.removeprefix(PREFIX), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None


def reasoning_item(item_id: str, text: str, status: str, *, summarized: bool, with_packed: bool) -> dict[str, Any]:
    """An output item.

    Args:
        summarized: whether a summary was asked for. It is the whole text: nobody is there to shorten it.
        with_packed: whether `encrypted_content` was.
    """
    item: dict[str, Any] = {"id": item_id, "type": "reasoning", "status": status, "summary": []}
    if summarized:
        item["summary"] = [{"type": "summary_text", "text": text}]
    item["content"] = [{"type": "reasoning_text", "text": text}]
    item["encrypted_content"] = packed(text) if with_packed else None
    return item
