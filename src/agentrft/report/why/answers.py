"""What a rollout answers: where the answer came from, and its form."""

import re
from collections.abc import Iterator

from agentrft import wire
from agentrft.report.behaviours import (
    LATER,
    MOST_WORDS,
    PLACES,
    answering,
    items_of,
    last_result,
    place_of,
    plain,
    prompts_of,
    within,
)
from agentrft.report.why.behaviour import Behaviour, length_in_words
from agentrft.rollout.record import Rollout

ANSWERS, LISTED = "gives an answer", "answers after a result of several items"
SHORT = "gives an answer of a few words"
LENGTHS = ((1, "one word"), (5, "two to five words"), (20, "6 to 20 words"), (60, "21 to 60 words"))
LENGTHS += ((200, "61 to 200 words"),)
LONGEST = "more than 200 words"
# A run of words that comes so often is a loop.
LOOP_WORDS, LOOPED = 4, 3
CAPITALS = 4
# Of an answer so many characters at its beginning and at its end are looked at for its form.
LOOKED_AT = 4000
REFUSES = re.compile(
    r"\b(i (?:can ?not|can't|am unable to|am not able to|won't)|i'm (?:sorry|unable|not able)|as an ai\b|unable to "
    r"(?:help|answer|comply|provide))",
    re.I,
)
FORMS = {
    "uses bold text": re.compile(r"\*\*[^*\n]+\*\*"),
    "uses headings": re.compile(r"^#{1,6} \S", re.M),
    "uses a list": re.compile(r"^[ \t]*(?:[-*•]|\d{1,2}[.)]) \S", re.M),
    "uses a table": re.compile(r"^\|.*\|\s*$", re.M),
    "uses a code block": re.compile(r"```"),
    "puts the answer in a box": re.compile(r"\\boxed\{"),
    "uses tags": re.compile(r"<(\w+)>[^<]*</\1>"),
    "answers with a question": re.compile(r"\?\s*$"),
    "uses exclamation marks": re.compile(r"!"),
    "uses emoji": re.compile("[\U0001f300-\U0001faff\u2600-\u27bf]"),
    "gives several paragraphs": re.compile(r"\n\s*\n"),
}
NUMBER = re.compile(r"[-+]?[$€£]?\d[\d,]*(?:\.\d+)?%?")


def answer_behaviours(rollout: Rollout) -> Iterator[Behaviour]:
    """Of the final answer, and of how the rollout ended."""
    if rollout.failure_kind is not None and rollout.outcome == "model_failed":
        yield Behaviour(f"ends without an answer ({rollout.failure_kind})", "failure")
    if any(turn.reasoning_tokens for turn in rollout.turns):
        yield Behaviour("thinks before it speaks", "form")
    text = rollout.output_text.strip()
    if not text:
        return
    yield Behaviour(ANSWERS, "form")
    yield from _sources(rollout, plain(text))
    yield from (Behaviour(form, "form", ANSWERS) for form in _forms(text))


def _sources(rollout: Rollout, answer: str) -> Iterator[Behaviour]:
    result, few = last_result(rollout), len(answer.split()) <= MOST_WORDS
    items = items_of(result)
    place = place_of(answer, items) if len(items) > 1 else None
    if len(items) > 1:
        yield Behaviour(LISTED, "source")
        if place is None:
            yield Behaviour(answering("no"), "source", LISTED)
        else:
            name = PLACES[place] if place < len(PLACES) else "fourth or later"
            yield Behaviour(answering(f"the {name}"), "source", LISTED)
            if place > 0:
                yield Behaviour(answering(f"a {LATER}"), "source", LISTED)
    if not few:
        return
    yield Behaviour(SHORT, "form")
    earlier = [plain(call.output) for call in rollout.tool_calls if call.status in ("ok", "cut")]
    in_prompt = any(within(answer, prompt) for prompt in prompts_of(rollout))
    if in_prompt:
        yield Behaviour("answers with words of the prompt", "source", SHORT)
    if place is None and any(within(answer, one) for one in earlier[:-1]):
        yield Behaviour("answers with words of an earlier result", "source", SHORT)
    if not in_prompt and not any(within(answer, one) for one in earlier):
        yield Behaviour("answers with what stands in nothing that it read", "source", SHORT)


def _forms(whole: str) -> Iterator[str]:
    text = whole if len(whole) <= 2 * LOOKED_AT else f"{whole[:LOOKED_AT]}\n{whole[-LOOKED_AT:]}"
    yield from (name for name, pattern in FORMS.items() if pattern.search(text))
    yield f"answers in {length_in_words(whole, LENGTHS, LONGEST)}"
    if sum(map(str.isupper, text)) >= CAPITALS and not any(map(str.islower, text)):
        yield "uses capitals throughout"
    if NUMBER.fullmatch(text):
        yield "answers with a number alone"
    if text[0] in "[{" and _is_json(text):
        yield "answers with JSON alone"
    if REFUSES.search(text):
        yield "refuses, or says that it cannot"
    words = text.lower().split()
    runs = [tuple(words[start : start + LOOP_WORDS]) for start in range(len(words) - LOOP_WORDS + 1)]
    if runs and len(runs) - len(set(runs)) >= LOOPED:
        yield "repeats itself"


def _is_json(text: str) -> bool:
    try:
        wire.parse(text, lossy=True)
    except wire.WireError:
        return False
    return True
