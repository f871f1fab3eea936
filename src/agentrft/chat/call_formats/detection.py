"""Which form a template's calls have: the one that reads back what the template wrote of a known call."""

from typing import Any

from agentrft.chat.call_formats.base import TurnFormat
from agentrft.chat.call_formats.gemma import FUNCTION_GEMMA, GEMMA_4, GemmaCalls
from agentrft.chat.call_formats.harmony import Harmony
from agentrft.chat.call_formats.json_calls import learn
from agentrft.chat.call_formats.named import DEEPSEEK, KIMI, MISTRAL
from agentrft.chat.call_formats.pythonic import LFM2, PythonCalls
from agentrft.chat.call_formats.xml import ArgumentTags, FunctionTags

KNOWN: tuple[TurnFormat, ...] = (
    FunctionTags(),
    ArgumentTags(),
    GEMMA_4,
    FUNCTION_GEMMA,
    DEEPSEEK,
    KIMI,
    MISTRAL,
    LFM2,
    Harmony(),
)

# Forms whose arguments are no JSON.
NOT_JSON = (FunctionTags, ArgumentTags, GemmaCalls, PythonCalls)


def detect(shown: str, name: str, arguments: dict[str, Any]) -> TurnFormat | None:
    """The form in which `shown`, a turn before the token that ends it, has this one call; None where none fits."""
    learned = learn(shown, name, arguments)
    if learned is not None:
        return learned
    for form in KNOWN:
        content, calls = form.read(shown)
        if not content.strip() and [(one.name, one.arguments) for one in calls] == [(name, arguments)]:
            return form
    return None
