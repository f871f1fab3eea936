"""Keeping the user's secrets out of whatever an endpoint, or a library, says back."""

import re
from collections.abc import Iterable, Mapping

from yarl import URL

PLACEHOLDER = "[redacted]"
SHORTEST_IN_MESSAGE = 4
SHORTEST_IN_OUTPUT = 8
# From this length on a value is taken for a secret whatever its header is called.
SURELY_SECRET = 20
NOT_SECRET = frozenset({"accept", "accept-encoding", "accept-language", "content-type", "user-agent"})
SECRET_NAME = re.compile("auth|key|token|secret|password|cookie|signature|credential", re.IGNORECASE)


class Redactor:
    """Replaces header values and the URL's credentials by a placeholder (DESIGN invariant 8)."""

    def __init__(self, headers: Mapping[str, str], url: str) -> None:
        named = [(name, part) for name, value in headers.items() for part in _parts(value)]
        parsed = URL(url)
        named += [("password", part) for part in (parsed.password or "", *parsed.query.values())]
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
    """The value, and what follows its scheme: an endpoint may echo the token of "Bearer <token>" alone."""
    return {value, value.strip(), value.strip().partition(" ")[2].strip()}


def _is_secret(name: str, value: str) -> bool:
    return len(value) >= (SHORTEST_IN_OUTPUT if SECRET_NAME.search(name) else SURELY_SECRET)


def _pattern(values: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(set(values), key=len, reverse=True)
    never = r"(?!)"
    return re.compile("|".join(map(re.escape, longest_first)) or never)
