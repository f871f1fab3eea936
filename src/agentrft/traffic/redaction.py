"""Keeping the user's secrets out of whatever an endpoint, or a library, says back."""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from yarl import URL

PLACEHOLDER = "[redacted]"
SHORTEST_IN_MESSAGE = 4
SHORTEST_IN_OUTPUT = 8
# From this length on a value is taken for a secret whatever its header is called.
SURELY_SECRET = 20
NOT_SECRET = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
ESCAPE = re.compile(r"\\u[0-9a-f]{4}")
PERCENT = re.compile("%[0-9A-F]{2}")
SECRET_NAME = re.compile(r"auth|key|token|secret|pass|pwd|cookie|sig(nature)?\b|credential|\bcode\b", re.IGNORECASE)


class Redactor:
    """Replaces header values and the URL's credentials by a placeholder, in every form that an answer may show them in
    (docs/architecture.md, invariant 8).
    """

    def __init__(self, headers: Mapping[str, str], url: str) -> None:
        named = [(name, part) for name, value in headers.items() for part in _parts(value)]
        named += _of_url(URL(url))
        named = [(name, value) for name, value in named if name.lower() not in NOT_SECRET]
        self._in_messages = _pattern(value for _, value in named if len(value) >= SHORTEST_IN_MESSAGE)
        self._in_outputs = _pattern(value for name, value in named if _is_secret(name, value))

    def message(self, text: str) -> str:
        """For exceptions, logs and events: no header value at all."""
        return self._in_messages.sub(PLACEHOLDER, text)

    def output(self, text: str) -> str:
        """For what the model reads and the store keeps: no secrets.

        Short values of headers such as `X-Tenant` stay, since they are ordinary words in a tool's answer.
        """
        return self._in_outputs.sub(PLACEHOLDER, text)


def public_url(url: str) -> str:
    """The URL as messages may show it: without credentials, query and fragment.

    Raises:
        ValueError: not a URL.
    """
    parsed = URL(url).with_query(None).with_fragment(None)
    return str(parsed.with_user(None) if parsed.absolute else parsed)


def _parts(value: str) -> set[str]:
    """The value, and what follows its scheme: an endpoint may echo the token of "Bearer <token>" alone, or what it read
    from "Basic <base64>".
    """
    scheme, _, rest = value.strip().partition(" ")
    found = {value, value.strip(), rest.strip()}
    if scheme.lower() == "basic":
        try:
            credentials = base64.b64decode(rest.strip(), validate=True).decode()
        except ValueError:
            return found
        found |= {credentials, credentials.partition(":")[2]}
    return found


def _of_url(url: URL) -> Iterator[tuple[str, str]]:
    """Its credentials, which are sent as `Authorization: Basic …`, and the values of its query."""
    user, password = url.user or "", url.password or ""
    if user or password:
        credentials = f"{user}:{password}"
        yield "password", password or user
        yield "authorization", credentials
        yield "authorization", base64.b64encode(credentials.encode()).decode()
    yield from url.query.items()


def _forms(value: str) -> Iterator[str]:
    """How a value may be written inside of JSON, a URL, HTML, or by a server that takes its bytes for Latin-1."""
    yield value
    for text in {value, value.encode("utf-8", "replace").decode("latin-1")}:
        yield text
        for is_ascii in (True, False):
            escaped = json.dumps(text, ensure_ascii=is_ascii)[1:-1]
            twice = json.dumps(escaped, ensure_ascii=is_ascii)[1:-1]
            for one in (escaped, twice, _escaped_for_html(escaped)):
                yield one
                yield one.replace("/", r"\/")
                # Hexadecimal digits of an escape are in either case.
                yield ESCAPE.sub(lambda found: found[0].upper().replace("U", "u"), one)
        yield repr(text)[1:-1]
        yield html.escape(text)
    for quoted in (quote(value, safe=""), quote(value), quote_plus(value)):
        yield quoted
        yield PERCENT.sub(lambda found: found[0].lower(), quoted)


def _escaped_for_html(escaped: str) -> str:
    """As encoders of JSON write it that take care for HTML around it."""
    return "".join(f"\\u{ord(character):04x}" if character in "<>&'+=" else character for character in escaped)


def _is_secret(name: str, value: str) -> bool:
    return len(value) >= (SHORTEST_IN_OUTPUT if SECRET_NAME.search(name) else SURELY_SECRET)


def _pattern(values: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted({form for value in values for form in _forms(value)}, key=len, reverse=True)
    never = r"(?!)"
    return re.compile("|".join(map(_matching, longest_first)) or never)


def _matching(form: str) -> str:
    """Digits are no secret where they are a part of a longer number, such as a measurement."""
    return rf"(?<![0-9.]){form}(?![0-9])" if form.isdigit() else re.escape(form)
