"""What any request may be, whichever route it is for: text that can be stored, and a body of bounded size.

Bodies are counted while they come in, before the framework keeps any of it in memory or on the disk.
"""

import re
from urllib.parse import unquote_to_bytes

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope

KB, MB = 1024, 1024 * 1024
MOST_FILE_BYTES = 512 * MB
MOST_PART_BYTES = 64 * MB
MOST_CHAT_BYTES = 8 * MB
MOST_JSON_BYTES = 4 * MB
# What a form says beside the file in it.
FORM_BYTES = 64 * KB
PART = re.compile(r"/v1/uploads/[^/]+/parts")
CHATS = frozenset({"/v1/chat/completions", "/v1/responses"})


class BodyTooLarge(HTTPException):
    """More came than the route takes; the framework answers 413 from wherever it was reading."""

    def __init__(self, most: int) -> None:
        super().__init__(413, f"At most {_shown(most)} are taken here")


def most_bytes(path: str) -> int:
    """How large the body of a request may be."""
    if path == "/v1/files":
        return MOST_FILE_BYTES + FORM_BYTES
    if PART.fullmatch(path):
        return MOST_PART_BYTES + FORM_BYTES
    return MOST_CHAT_BYTES if path in CHATS else MOST_JSON_BYTES


def check_length(scope: Scope) -> None:
    """Refuse what says itself that it is too large.

    Raises:
        BodyTooLarge: it is.
    """
    length = Headers(scope=scope).get("content-length", "")
    most = most_bytes(scope["path"])
    if length.isascii() and length.isdigit() and (len(length) > 18 or int(length) > most):
        raise BodyTooLarge(most)


def limited(scope: Scope, receive: Receive) -> Receive:
    """`receive`, which raises BodyTooLarge once more has come than the route takes."""
    most, size = most_bytes(scope["path"]), 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            raise BodyTooLarge(most)
        return message

    return receive_limited


def text_problem(scope: Scope) -> str | None:
    """What is wrong with the text of a path or a query; None where it can be looked up and stored."""
    raw_path = scope.get("raw_path") or scope["path"].encode(errors="surrogatepass")
    for name, data in (("path", raw_path), ("query", scope["query_string"].replace(b"+", b" "))):
        try:
            text = unquote_to_bytes(data).decode()
        except UnicodeDecodeError:
            return f"The {name} is no UTF-8."
        if "\0" in text:
            return f"The {name} has a NUL character."
    return None


def _shown(size: int) -> str:
    return f"{size // MB} MB" if size >= MB else f"{size} bytes"
