"""What every form of calls has in common."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from renderers.base import ParsedToolCall, ToolCallParseStatus

Calls = list[ParsedToolCall]
Tools = Sequence[Mapping[str, Any]]


class TurnFormat(Protocol):
    """One way in which a model writes calls into its turn.

    Attributes:
        label: for people, as the documentation's table shows it.
    """

    @property
    def label(self) -> str: ...

    def read(self, text: str, tools: Tools = ()) -> tuple[str, Calls]:
        """The text outside the calls, and every attempted call in order.

        Args:
            text: the turn after its thoughts, up to the token that ended it.
            tools: in Chat Completions shape; forms that write values without quotes read them as these declare.
        """
        ...


def call(raw: str, name: str, arguments: Any) -> ParsedToolCall:
    """A call as it was read; one without a name, or whose arguments are no object, says so."""
    if not name:
        return failed(raw, ToolCallParseStatus.MISSING_NAME)
    if not isinstance(arguments, dict):
        return failed(raw, ToolCallParseStatus.MALFORMED_STRUCTURE, name)
    return ParsedToolCall(raw, name=name, arguments=arguments)


def failed(raw: str, status: ToolCallParseStatus, name: str | None = None) -> ParsedToolCall:
    """A call that cannot be made."""
    return ParsedToolCall(raw, name=name or None, status=status)


def blocks(text: str, opening: str, closing: str) -> Iterator[tuple[int, int, str, bool]]:
    """What stands between marks: where it begins and ends, marks included, its inside, and whether it was closed.

    One that is not closed reaches to the next opening, or to the end.
    """
    place = text.find(opening)
    while place >= 0:
        body = place + len(opening)
        again = text.find(opening, body)
        end = text.find(closing, body)
        if end < 0 or 0 <= again < end:
            stop = again if again >= 0 else len(text)
            yield place, stop, text[body:stop], False
        else:
            stop = end + len(closing)
            yield place, stop, text[body:end], True
        place = text.find(opening, stop)


def attempt(text: str, found: Sequence[tuple[int, int, ParsedToolCall]]) -> tuple[str, Calls]:
    """The text outside the found calls, each with where it begins and ends."""
    if not found:
        return text, []
    before = text[: found[0][0]].rstrip("\n")
    ends = [end for _, end, _ in found]
    begins = [begin for begin, _, _ in found[1:]]
    between = [text[end:begin].strip() for end, begin in zip(ends, [*begins, len(text)], strict=True)]
    return "\n".join([*([before] if before else []), *(part for part in between if part)]), [one for *_, one in found]
