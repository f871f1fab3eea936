"""What a rollout gives its tools: how long, copied from where, which values."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from agentrft import wire
from agentrft.report.behaviours import plain, prompts_of, within
from agentrft.report.why.behaviour import Behaviour, length_in_words
from agentrft.rollout.record import Rollout

WORD = re.compile(r"\w+(?:[-'./]\w+)*")
# A value of more characters is told by where it came from, and not by itself.
LONGEST_VALUE = 24
LENGTHS = ((1, "one word"), (3, "two or three words"), (6, "four to six words"))
LONG = "seven words or more"


def argument_behaviours(rollout: Rollout) -> Iterator[Behaviour]:
    """Of every argument of its calls; an argument of several calls shows what any of them does."""
    before = " ".join(sorted(prompts_of(rollout)))
    prompt_words, results = set(WORD.findall(before)), ""
    for turn in rollout.turns:
        for call in turn.tool_calls:
            for name, value in _arguments(call.arguments).items():
                about = f"{call.name}.{name}"
                given = f"calls {call.name}"
                yield Behaviour(f"gives {call.name} a {name}", "arguments", given)
                text = plain(value) if isinstance(value, str) else str(value).lower()
                if len(text) <= LONGEST_VALUE:
                    yield Behaviour(f"asks with {about} = {text or 'nothing'}", "arguments", given)
                if isinstance(value, str) and text:
                    origins = _origins(text, before, prompt_words, results)
                    yield from (Behaviour(f"{origin.format(about)}", "arguments", given) for origin in origins)
                    yield Behaviour(f"asks with {about} of {length_in_words(text, LENGTHS, LONG)}", "arguments", given)
        results += " ".join(plain(call.output) for call in turn.tool_calls) + " "


def argument_texts(rollout: Rollout) -> Iterator[tuple[str, str, str]]:
    """Tool, argument and text of those that are texts."""
    for call in rollout.tool_calls:
        for name, value in _arguments(call.arguments).items():
            if isinstance(value, str):
                yield call.name, name, value


def _origins(text: str, prompt: str, prompt_words: set[str], results: str) -> Iterator[str]:
    words = WORD.findall(text)
    if text == prompt:
        yield "copies the whole prompt into {}"
    elif within(text, prompt):
        yield "copies {} from the prompt word for word"
    elif results and within(text, results):
        yield "copies {} from an earlier result word for word"
    elif words and prompt_words.issuperset(words):
        yield "makes {} of single words of the prompt"
    elif any(word not in prompt_words and word not in results for word in words):
        yield "asks with words in {} that nothing before has"


def _arguments(text: str) -> Mapping[str, Any]:
    try:
        value = wire.parse(text, lossy=True)
    except wire.WireError:
        return {}
    return value if wire.is_object(value) else {}
