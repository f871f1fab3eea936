import pytest

from agentrft.server.inference.turn_reader import sendable


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("An answer.", "An answer."),
        ("half a character \ufffd", "half a character"),
        ("markup that begins <tool_c", "markup that begins"),
        (
            "a < b, as far as anyone can tell from this long text",
            "a < b, as far as anyone can tell from this long text",
        ),
        ("<b>bold</b> text", "<b>bold</b> text"),
        ("up to ST", "up to"),
        ("STOPS are no matter once they are past", "STOPS are no matter once they are past"),
    ],
)
def test_only_text_that_stays_is_sent(text: str, sent: str) -> None:
    assert sendable(text, ["STOP"]) == sent
