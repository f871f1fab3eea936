"""Where an assistant's turn stands in a rendering: found by rendering with and without it, and what follows it."""

import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from agentrft.chat.conversation import ConversationTemplate, Messages, Tools
from agentrft.chat.probes import FIRST, FOURTH, SECOND, TOOL, answer, called, result, user
from agentrft.chat.thoughts import Thought
from agentrft.errors import UserError

# In characters: how far back from a place its last control token is looked for.
_NEAR = 2_000
# As many characters of a call tell where it begins.
_MARK = 8


@dataclass(frozen=True)
class End:
    """The control token that ends a turn, the last that is sampled.

    `is_next`: the template writes it with what follows, as GLM's `<|user|>`; a turn that nothing follows lacks it.
    """

    token: str
    is_next: bool = False


@dataclass(frozen=True)
class Turn:
    """An assistant's turn in a rendering.

    Attributes:
        prompt: what stands before it when it is sampled.
        text: the rendering up to and with it.
        begin, end: of what is sampled, in `text`.
        lead: what is sampled before that, of which the rendering keeps nothing: an end to the prompt's thought.
        end_token: the control token that ends it; None where none is in `text`.
    """

    prompt: str
    text: str
    begin: int
    end: int
    lead: str
    end_token: str | None

    @property
    def sampled(self) -> str:
        return self.lead + self.text[self.begin : self.end]

    @property
    def keeps_prompt(self) -> bool:
        return not self.lead and self.text.startswith(self.prompt)


class Turns:
    """The turns of a template's conversations.

    Args:
        template: the template.
        controls: texts of the tokenizer's special tokens.

    Attributes:
        answer_end, call_end: what ends a turn without and with calls; None where the template does not show it.
        thought: the marks of reasoning.
        opens_thought, closes_thought: its prompts begin a thought; or end one, so that the model does not think.
        before_answer: what a finished turn has before its answer, such as an empty thought.
    """

    def __init__(self, template: ConversationTemplate, controls: Iterable[str]) -> None:
        self._template = template
        self._controls = re.compile("|".join(re.escape(one) for one in sorted(controls, key=len, reverse=True)) or "$^")
        self.thought = Thought()
        self.answer_end = self._find_answer_end()
        self.call_end = self._find_call_end() or self.answer_end
        self.before_answer = ""
        plain = self.find([user(), answer()])
        if plain is not None:
            self.before_answer = plain.text[plain.begin :].partition(SECOND)[0]
        self.thought = self._find_thought(plain) or self.thought
        self.opens_thought = plain is not None and self.thought.is_opened_by(plain.prompt)
        self.closes_thought = plain is not None and plain.prompt.rstrip().endswith(self.thought.closing)

    @property
    def end_tokens(self) -> list[str]:
        found = [end.token for end in (self.answer_end, self.call_end) if end is not None]
        return list(dict.fromkeys(found))

    def from_last_control(self, text: str) -> str:
        """The end of `text` from its last control token on."""
        near = text[-_NEAR:]
        found = list(self._controls.finditer(near))
        return near[found[-1].start() :] if found else near

    def end_of(self, message: Mapping[str, Any]) -> End | None:
        """What ends the turn of an assistant's message."""
        return self.call_end if message.get("tool_calls") else self.answer_end

    def find(self, messages: Messages, tools: Tools | None = None, following: str | None = None) -> Turn | None:
        """The last message's turn, which is an assistant's; None where it cannot be found.

        Args:
            messages: the conversation up to and with it.
            tools: of the conversation.
            following: a rendering of more of the conversation. What is left of the turn there is what is taken for
                sampled, so that it can stay; and the ends of some come with what follows.

        Raises:
            UserError: the template refuses the conversation.
        """
        if len(messages) < 2:
            return None
        prompt = self._template.text(messages[:-1], tools, True)
        end = self.end_of(messages[-1])
        if end is not None and following is not None and following.startswith(prompt):
            place = following.find(end.token, len(prompt))
            if place >= 0 and self._keeps(messages[-1], following[len(prompt) : place]):
                return Turn(prompt, following, len(prompt), place + len(end.token), "", end.token)
        text = self._template.text(messages, tools)
        begin, lead = len(prompt), ""
        if not text.startswith(prompt):
            place = self._begin(messages[:-1], tools, prompt, text)
            if place is None and messages[-1].get("reasoning_content"):
                # The prompt has told the model not to think.
                text = self._template.text([*messages[:-1], {**messages[-1], "reasoning_content": ""}], tools)
                place = len(prompt) if text.startswith(prompt) else self._begin(messages[:-1], tools, prompt, text)
            if place is None:
                return None
            begin = place
            if self.thought.is_opened_by(prompt) and self.thought.closing not in text[begin:]:
                lead = (messages[-1].get("reasoning_content") or "") + self.thought.between
        place = text.rfind(end.token, begin) if end is not None and not end.is_next else -1
        if end is None or place < 0:
            return Turn(prompt, text, begin, len(text), lead, None)
        return Turn(prompt, text, begin, place + len(end.token), lead, end.token)

    def find_anew(self, messages: Messages, tools: Tools | None = None) -> Turn | None:
        """The last message's turn as it would be the first, for templates that write later ones otherwise than sampled.

        Raises:
            UserError: the template refuses the conversation.
        """
        if len(messages) < 2:
            return None
        found = self.find([user(), messages[-1]], tools)
        prompt = self._template.text(messages[:-1], tools, True)
        if found is None or self.thought.is_opened_by(prompt) != self.thought.is_opened_by(found.prompt):
            return None if found is None else replace(found, prompt=prompt, lead="")
        return replace(found, prompt=prompt)

    def _keeps(self, message: Mapping[str, Any], shown: str) -> bool:
        """Whether a turn that something follows has all of its message still."""
        said = [message.get("content") or "" if message.get("tool_calls") else ""]
        thought = [message.get("reasoning_content") or "" if self._template.thought_key else ""]
        return all(text.strip() in shown for text in (*said, *thought))

    def _begin(self, before: Messages, tools: Tools | None, prompt: str, text: str) -> int | None:
        """Where an answer begins that is written otherwise than the prompt before it promised."""
        answered = self._template.text([*before, answer()], tools)
        shared = _shared(text, answered)
        header = prompt.removeprefix(self._template.text(before, tools))
        _, found, since = shared.rpartition(header) if header.strip() and header != prompt else ("", "", "")
        if found and not any(end in since for end in self.end_tokens):
            return len(shared) - len(since)
        begin = answered.rfind(SECOND)
        if begin >= 0 and text[:begin] == answered[:begin]:
            return begin
        kept = len(_shared(text, prompt))
        return kept if prompt[kept:].strip() == self.thought.opening else None

    def _find_answer_end(self) -> End | None:
        alone = self._template.text([user(), answer()]).rpartition(SECOND)[2]
        try:
            followed = self._template.text([user(), answer(), user()], None, True).rpartition(SECOND)[2]
        except UserError:
            followed = alone
        found = list(self._controls.finditer(_shared(alone, followed)))
        # Several next to one another end it together.
        for one, after in itertools.pairwise([*found, None]):
            if one and (after is None or after.start() != one.end()):
                return End(one[0])
        last = self._controls.search(alone)
        if last:
            return End(last[0])
        first = self._controls.search(followed)
        return End(first[0], is_next=True) if first else None

    def _find_call_end(self) -> End | None:
        if not self._template.writes_calls:
            return None
        alone = self._template.text([user(), called()], [TOOL])
        tail = alone.rpartition(SECOND)[2]
        try:
            followed = self._template.text([user(), called(), result()], [TOOL], True)
        except UserError:
            followed = alone
        after = followed.rpartition(SECOND)[2]
        between = ""
        if not self._template.one_call:
            twice = self._template.text([user(), called({FIRST: SECOND}, {FIRST: SECOND})], [TOOL])
            between = twice.rpartition(SECOND)[0].rpartition(SECOND)[2]
        shared = _shared(tail, after)
        for shown in (shared, tail):
            ends = [one[0] for one in self._controls.finditer(shown) if one[0] not in between]
            if ends:
                return End(ends[-1])
        first = self._controls.search(after, len(shared))
        return End(first[0], is_next=True) if first else None

    def _find_thought(self, plain: Turn | None) -> Thought | None:
        key = self._template.thought_key
        if plain is None or key is None:
            return None
        text = self._template.text([user("Hm."), answer(reasoning_content=FOURTH)])
        prompt = self._template.text([user("Hm.")], None, True)
        before, after = self.before_answer, SECOND
        if FOURTH not in text:
            text = self._template.text([user("Hm."), called(reasoning_content=FOURTH)], [TOOL])
            prompt = self._template.text([user("Hm.")], [TOOL], True)
            call = self.find([user("Hm."), called()], [TOOL])
            before, after = "", call.sampled[:_MARK] if call else SECOND
        opening, _, rest = text.rpartition(FOURTH)
        between = rest.partition(after)[0]
        opening = opening.removeprefix(prompt) if opening.startswith(prompt) else self._last_mark(opening)
        if not opening.strip():  # the prompt opened it
            opening = self._last_mark(prompt)
        if before.strip():
            between = between.removesuffix(before)
        if not opening.strip() or not between.strip():
            return None
        return Thought(opening.strip(), between.strip(), between)

    def _last_mark(self, text: str) -> str:
        found = re.findall(r"<[^<>\s]+>", text.rstrip())
        return found[-1] if found else ""


def _shared(one: str, other: str) -> str:
    """What both begin with."""
    differs = (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    return one[: next(differs, min(len(one), len(other)))]
