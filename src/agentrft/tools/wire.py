"""The tool call on the wire (DESIGN section 6): what is sent, and what each answer means. Nothing here does I/O."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

from agentrft.errors import UserError
from agentrft.tools.base import ToolCall
from agentrft.tools.redaction import public_url
from agentrft.tools.retry import Fault, retry_after_s

MAX_BODY_BYTES = 1024 * 1024
EXCERPT_CHARACTERS = 300
PROBE_HEADER = "X-AgentRFT-Probe"
OWN_HEADERS = frozenset(
    {"x-trace-id", "x-attempt", "idempotency-key", "content-length", "transfer-encoding", PROBE_HEADER.lower()}
)
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came. `body` is None when it was over `MAX_BODY_BYTES` and not read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


@dataclass(frozen=True)
class Reading:
    """What the model gets to read; `status` as in `ToolResult`."""

    output: str
    status: Literal["ok", "client_error", "too_large"]


def check_headers(tool: str, headers: Mapping[str, str]) -> None:
    """Refuse headers that could not be sent, or that agentrft sets itself.

    Raises:
        UserError: names the header, never its value.
    """
    for name, value in headers.items():
        where = f"tool '{tool}': header {name!r}"
        if not HEADER_NAME.fullmatch(name):
            raise UserError(f"{where}: not a valid header name.", "Use letters, digits and dashes.")
        if name.lower() in OWN_HEADERS:
            raise UserError(f"{where}: is set by agentrft on every call.", "Remove it from the tool's headers.")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            remedy = "Remove it; a secret read from a file often ends in a newline."
            raise UserError(f"{where}: the value contains a newline or another control character.", remedy)


def request_headers(own: Mapping[str, str], *, trace_id: str, call_id: str, attempt: int) -> dict[str, str]:
    """The user's headers and those of this call; the same for every HTTP retry of it."""
    headers = with_content_type(own)
    headers["X-Trace-Id"] = trace_id
    headers["X-Attempt"] = str(attempt)
    # A model may have written the call id; quoting leaves ordinary ids as they are.
    headers["Idempotency-Key"] = quote(trace_id + call_id)
    return headers


def with_content_type(own: Mapping[str, str]) -> dict[str, str]:
    """The user's headers, as JSON unless they name another type."""
    named = any(name.lower() == "content-type" for name in own)
    return {**own} if named else {**own, "Content-Type": "application/json"}


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
    try:
        return json.dumps(payload, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair has no UTF-8 form; JSON can still escape it.
        return json.dumps(payload).encode()


def request_too_large(size: int) -> Reading:
    """What the model reads instead of a call whose request of `size` bytes is over the limit."""
    return Reading(f"413 Payload Too Large: the request has {size} bytes, the limit is {MAX_BODY_BYTES}.", "too_large")


def read_answer(answer: Answer) -> Reading | Fault:
    """What an answer means: something for the model to read, or a fault of the endpoint."""
    status = answer.status
    if 300 <= status < 400:
        return Fault("bad_answer", f"{describe_redirect(answer)}; redirects are not followed")
    if status == 429:
        wait_s = retry_after_s(answer.headers.get("Retry-After"))
        return Fault("rate_limited", _with_excerpt("HTTP 429", answer), transient=True, retry_after_s=wait_s)
    if status == 408:
        return Fault("timeout", _with_excerpt("HTTP 408", answer), transient=True)
    if status >= 500:
        wait_s = retry_after_s(answer.headers.get("Retry-After"))
        return Fault("server_error", _with_excerpt(f"HTTP {status}", answer), transient=True, retry_after_s=wait_s)
    if status == 413:
        return Reading(f"413 Payload Too Large: {_error_text(answer)}", "too_large")
    if answer.body is None:
        return Reading(f"413 Payload Too Large: the tool's answer is over {MAX_BODY_BYTES} bytes.", "too_large")
    if status >= 400:
        return Reading(_error_text(answer), "client_error")
    return _output(answer, answer.body)


def describe_redirect(answer: Answer) -> str:
    """Where a 3xx answer points, without the query, which may carry credentials."""
    location = answer.headers.get("Location")
    if location is None:
        return f"HTTP {answer.status} without a Location"
    try:
        return f"HTTP {answer.status} redirects to {public_url(location)}"
    except ValueError:
        return f"HTTP {answer.status} with a Location that is not a URL"


def shorten(message: str) -> str:
    """A message cut to the length that logs and events can bear."""
    return message if len(message) <= EXCERPT_CHARACTERS else f"{message[:EXCERPT_CHARACTERS]}…"


def _output(answer: Answer, body: bytes) -> Reading | Fault:
    charset = _charset(answer)
    try:
        text = body.decode(charset)
    except (LookupError, UnicodeError):
        return Fault("bad_answer", f"HTTP {answer.status}: the body is not text in {charset}")
    declared_json = "json" in _content_type(answer)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        # A broken document is a broken tool. Showing it to the model would train on an infrastructure failure.
        if declared_json and text.strip():
            message = f"HTTP {answer.status}: Content-Type says JSON, but the body is not valid JSON"
            return Fault("bad_answer", message, transient=True)
        return Reading(_without_lone_surrogates(text), "ok")
    if isinstance(value, dict) and "output" in value:
        text = _as_text(value["output"])
    return Reading(_without_lone_surrogates(text), "ok")


def _error_text(answer: Answer) -> str:
    """The body of an error, or its `output` or `error` field; never empty."""
    if answer.body is None:
        return f"HTTP {answer.status} with an error text of over {MAX_BODY_BYTES} bytes"
    text = answer.body.decode("utf-8-sig", errors="replace")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        text = next((_as_text(value[field]) for field in ("output", "error") if value.get(field)), text)
    return _without_lone_surrogates(text) if text.strip() else f"HTTP {answer.status}"


def _with_excerpt(what: str, answer: Answer) -> str:
    if not answer.body:
        return what
    # The excerpt is cut by `shorten`, after secrets were taken out: half a secret would not be recognised.
    return f"{what}: {answer.body.decode('utf-8', errors='replace').strip()}"


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _without_lone_surrogates(text: str) -> str:
    """JSON can smuggle in half a surrogate pair, which no tokenizer takes."""
    return LONE_SURROGATE.sub("\ufffd", text)


def _content_type(answer: Answer) -> str:
    return answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _charset(answer: Answer) -> str:
    found = re.search(r"charset=\"?([\w.:-]+)", answer.headers.get("Content-Type", ""), re.IGNORECASE)
    charset = found.group(1).lower() if found else "utf-8"
    return "utf-8-sig" if charset in ("utf-8", "utf8") else charset
