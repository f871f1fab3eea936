"""The tool call on the wire (docs/tools.md): what is sent, and what each answer means. Nothing here does I/O."""

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from agentrft import wire
from agentrft.tools.base import ToolCall
from agentrft.traffic import MAX_BODY_BYTES, Answer, Fault
from agentrft.wire import NotJSON, WireError

CHARSET = re.compile(r"charset=\"?([\w.:-]+)", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """What the model gets to read; `status` as in `ToolResult`, `http_status` the endpoint's own for a client error."""

    output: str
    status: Literal["ok", "client_error", "too_large"]
    http_status: int | None = None


def request_headers(*, trace_id: str, call_id: str, attempt: int) -> dict[str, str]:
    """The headers of this call beside the user's; the same for every HTTP retry of it."""
    # A model may have written the call id; quoting leaves ordinary ids as they are.
    return {"X-Trace-Id": trace_id, "X-Attempt": str(attempt), "Idempotency-Key": quote(trace_id + call_id)}


def request_body(call: ToolCall, *, trace_id: str, item: dict[str, Any]) -> bytes:
    """The call as UTF-8 JSON."""
    payload = {
        "type": "function_call",
        "id": f"fc_{call.call_id.removeprefix('call_')}",
        "call_id": call.call_id,
        "name": call.name,
        "arguments": call.arguments,
        "trace_id": trace_id,
        "item": item,
    }
    return wire.dump(payload).encode()


def plain_body(call: ToolCall) -> bytes:
    """The arguments alone, as UTF-8 JSON: for endpoints that know nothing of function calls."""
    return wire.clean_text(call.arguments).encode()


def request_too_large(size: int) -> Reading:
    """What the model reads instead of a call whose request of `size` bytes is over the limit."""
    return Reading(f"413 Payload Too Large: the request has {size} bytes, the limit is {MAX_BODY_BYTES}.", "too_large")


def read_answer(answer: Answer) -> Reading | Fault:
    """What an answer of 2xx or 4xx means: something for the model to read, or a fault of the endpoint."""
    status = answer.status
    if status == 413:
        return Reading(f"413 Payload Too Large: {_error_text(answer)}", "too_large")
    if answer.body is None:
        return Reading(f"413 Payload Too Large: the tool's answer is over {MAX_BODY_BYTES} bytes.", "too_large")
    if status >= 400:
        return Reading(_error_text(answer), "client_error", http_status=status)
    return _output(answer, answer.body, output_field="output")


def read_plain_answer(answer: Answer) -> Reading | Fault:
    """As `read_answer`, for a body that is the model's to read whole, whatever fields it has."""
    if answer.body is None or answer.status >= 400:
        return read_answer(answer)
    return _output(answer, answer.body, output_field=None)


def _output(answer: Answer, body: bytes, *, output_field: str | None) -> Reading | Fault:
    charset = _charset(answer)
    try:
        text = body.decode(charset)
    except (LookupError, UnicodeError):
        return Fault("bad_answer", f"HTTP {answer.status}: the body is not text in {charset}")
    declared_json = "json" in _content_type(answer)
    try:
        value = wire.parse_leniently(text)
    except NotJSON:
        # A broken document is a broken tool. Showing it to the model would train on an infrastructure failure.
        if declared_json and text.strip():
            message = f"HTTP {answer.status}: Content-Type says JSON, but the body is not valid JSON"
            return Fault("bad_answer", message, transient=True)
        return Reading(wire.clean_text(text), "ok")
    except WireError:
        # Nested deeper than can be read, so nothing can be taken out of it.
        return Reading(wire.clean_text(text), "ok")
    if isinstance(value, dict) and output_field in value:
        text = _as_text(value[output_field])
    return Reading(wire.clean_text(text), "ok")


def _error_text(answer: Answer) -> str:
    """The body of an error, or its `output` or `error` field; never empty."""
    if answer.body is None:
        return f"HTTP {answer.status} with an error text of over {MAX_BODY_BYTES} bytes"
    text = answer.body.decode("utf-8-sig", errors="replace")
    try:
        value = wire.parse_leniently(text)
    except WireError:
        value = None
    if isinstance(value, dict):
        text = next((_as_text(value[field]) for field in ("output", "error") if value.get(field)), text)
    return wire.clean_text(text) if text.strip() else f"HTTP {answer.status}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else wire.dump(value)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _charset(answer: Answer) -> str:
    found = CHARSET.search(answer.headers.get("Content-Type", ""))
    charset = found.group(1).lower() if found else "utf-8"
    return "utf-8-sig" if charset in ("utf-8", "utf8") else charset
