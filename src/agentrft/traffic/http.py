"""What goes over HTTP to any endpoint of the user's, and what an answer means before anyone reads its body."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp
from yarl import URL

from agentrft import wire
from agentrft.errors import UserError
from agentrft.traffic.redaction import public_url
from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault, retry_after_s

MAX_BODY_BYTES = 1024 * 1024
EXCERPT_CHARACTERS = 300
# About the credential, which is the job's, and not about the request (RFC 9110, 15.5.2, 15.5.4 and 15.5.8).
CREDENTIAL_STATUSES = frozenset({401, 403, 407})
# What a gateway says when there is nobody behind it (RFC 9110, 15.6.3 to 15.6.5).
GATEWAY_STATUSES = frozenset({502, 503, 504})
OWN_HEADERS = frozenset({"x-trace-id", "x-attempt", "idempotency-key", "content-length", "transfer-encoding"})
HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer as it came. `body` is None when it was over `MAX_BODY_BYTES` and not read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


def check_headers(label: str, headers: Mapping[str, str], url: str) -> None:
    """Refuse headers that could not be sent, or that agentrft sets itself.

    Raises:
        UserError: names the header, never its value.
    """
    for name, value in headers.items():
        where = f"{label}: header {name!r}"
        if not HEADER_NAME.fullmatch(name):
            raise UserError(f"{where}: not a valid header name.", "Use letters, digits and dashes.")
        if name.lower() in OWN_HEADERS:
            raise UserError(f"{where}: is set by agentrft on every call.", "Remove it from the `headers`.")
        if any(ord(character) < 32 or ord(character) == 127 for character in value):
            remedy = "Remove it; a secret read from a file often ends in a newline."
            raise UserError(f"{where}: the value contains a newline or another control character.", remedy)
        if wire.clean_text(value) != value:
            raise UserError(f"{where}: the value is no text in UTF-8.", "Give it as UTF-8.")
    # HTTP has one Authorization header; credentials in the URL become that header too.
    if URL(url).user is not None and any(name.lower() == "authorization" for name in headers):
        raise UserError(f"{label}: its URL has credentials and `headers` has Authorization.", "Keep one of them.")


def with_content_type(own: Mapping[str, str]) -> dict[str, str]:
    """The user's headers, as JSON unless they name another type."""
    named = any(name.lower() == "content-type" for name in own)
    return {**own} if named else {**own, "Content-Type": "application/json"}


def fault_of(answer: Answer) -> Fault | None:
    """Why an answer of this status is not the endpoint's word on the request; None if it is."""
    status = answer.status
    if 300 <= status < 400:
        return Fault("redirect", f"{describe_redirect(answer)}; redirects are not followed")
    if status == 429:
        wait_s = retry_after_s(answer.headers.get("Retry-After"))
        message = _with_excerpt("HTTP 429", answer)
        return Fault("rate_limited", message, transient=True, retry_after_s=wait_s, overloaded=True)
    if status in CREDENTIAL_STATUSES:
        # Refused before anything was done, so whatever it was may be sent again.
        message = _with_excerpt(f"HTTP {status}", answer)
        return Fault(CREDENTIAL_REFUSED, message, transient=True, may_have_arrived=False, is_forbidden=status == 403)
    if status == 408:
        return Fault("timeout", _with_excerpt("HTTP 408", answer), transient=True)
    if status >= 500:
        wait_s = retry_after_s(answer.headers.get("Retry-After"))
        message = _with_excerpt(f"HTTP {status}", answer)
        # As OpenAI's servers, and ours, say that the same request would fail again.
        is_lasting = answer.headers.get("x-should-retry") == "false"
        return Fault(
            "server_error",
            message,
            transient=not is_lasting,
            retry_after_s=wait_s,
            overloaded=status == 503,
            is_outage=status in GATEWAY_STATUSES and not is_lasting,
        )
    return None


def describe_redirect(answer: Answer) -> str:
    """Where a 3xx answer points, without the query, which may carry credentials."""
    location = answer.headers.get("Location")
    if location is None:
        return f"HTTP {answer.status} without a Location"
    try:
        return f"HTTP {answer.status} redirects to {public_url(location)}"
    except ValueError:
        return f"HTTP {answer.status} with a Location that is not a URL"


def trial_complaint(answer: Answer, *, is_sure: bool) -> tuple[str, str] | None:
    """What is wrong with the job's settings, by the answer to a trial call, and what to do about it; None if nothing.

    Args:
        is_sure: the call is one that the endpoint must take: 403 and 404 are then not about what it asked for.
    """
    status = answer.status
    if status in CREDENTIAL_STATUSES and (is_sure or status != 403):
        return f"{status}: the headers are wrong", "Correct the key or token in its `headers`."
    if status == 405 or (status == 404 and is_sure):
        return f"{status}: nothing takes a POST there", "Correct the path in its URL; endpoints are called by POST."
    if 300 <= status < 400:
        return f"{describe_redirect(answer)}, which is not followed", "Give the final address as `server_url` or `url`."
    return None


def shorten(message: str) -> str:
    """A message cut to the length that logs and events can bear."""
    return message if len(message) <= EXCERPT_CHARACTERS else f"{message[:EXCERPT_CHARACTERS]}…"


async def read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None as soon as it is over the limit; the rest is not read."""
    # Of a body that is announced as short no more comes than that, unless it was compressed.
    announced = response.content_length
    if announced is not None and announced <= MAX_BODY_BYTES and "Content-Encoding" not in response.headers:
        return await response.read()
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_BODY_BYTES:
            response.close()
            return None
        chunks.append(chunk)
    return b"".join(chunks)


def _with_excerpt(what: str, answer: Answer) -> str:
    if not answer.body:
        return what
    # The excerpt is cut by `shorten`, after secrets were taken out: half a secret would not be recognised.
    return f"{what}: {answer.body.decode('utf-8', errors='replace').strip()}"
