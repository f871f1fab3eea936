"""Where an assistant's turn stands in a rendering: found by rendering with and without it, and what follows it."""

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from agentrft.chat.conversation import ConversationTemplate, Messages, Tools
from agentrft.chat.probes import FIRST, SECOND, TOOL, answer, called, result, user
from agentrft.chat.thoughts import Thought
from agentrft.errors import UserError

# In characters: how far back from a place its last control token is looked for.
_NEAR = 2_000


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
        opens_thought: its prompts begin a thought.
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

    @property
    def end_tokens(self) -> list[str]:
        found = [end.token for end in (self.answer_end, self.call_end) if end is not None]
        return list(dict.fromkeys(found))

    def from_last_control(self, text: str) -> str:
        """The end of `text` from its last control token on."""
        near = text[-_NEAR:]
        found = list(self._controls.finditer(near))
        return near[found[-1].start() :] if found else near

    def find(self, messages: Messages, tools: Tools | None = None, following: str | None = None) -> Turn | None:
        """The last message's turn, which is an assistant's; None where it cannot be found.

        Args:
            messages: the conversation up to and with it.
            tools: of the conversation.
            following: a rendering of more of the conversation, for ends that come with what follows.

        Raises:
            UserError: the template refuses the conversation.
        """
        if len(messages) < 2:
            return None
        prompt = self._template.text(messages[:-1], tools, True)
        text = self._template.text(messages, tools)
        begin, lead = len(prompt), ""
        if not text.startswith(prompt):
            place = self._begin(messages[:-1], tools, text)
            if place is None:
                return None
            begin = place
            if self.thought.is_opened_by(prompt) and self.thought.closing not in text[begin:]:
                lead = (messages[-1].get("reasoning_content") or "") + self.thought.between
        end = self.call_end if messages[-1].get("tool_calls") else self.answer_end
        if end is not None and not end.is_next:
            place = text.rfind(end.token, begin)
            if place >= 0:
                return Turn(prompt, text, begin, place + len(end.token), lead, end.token)
        if end is not None and following is not None:
            shared = len(os.path.commonprefix([text, following]))
            place = following.find(end.token, max(begin, shared - len(end.token)))
            if shared >= len(text.rstrip()) and place >= 0:
                return Turn(prompt, following, begin, place + len(end.token), lead, end.token)
        return Turn(prompt, text, begin, len(text), lead, None)

    def _begin(self, before: Messages, tools: Tools | None, text: str) -> int | None:
        """Where an answer begins that is written otherwise than the prompt before it promised."""
        answered = self._template.text([*before, answer()], tools)
        begin = answered.rfind(SECOND)
        return begin if begin >= 0 and text[:begin] == answered[:begin] else None

    def _find_answer_end(self) -> End | None:
        alone = self._template.text([user(), answer()]).rpartition(SECOND)[2]
        try:
            followed = self._template.text([user(), answer(), user()], None, True).rpartition(SECOND)[2]
        except UserError:
            followed = alone
        for tail in (os.path.commonprefix([alone, followed]), alone):
            found = list(self._controls.finditer(tail))
            if found:
                # Several next to one another end it together.
                last = found[0]
                for one in found[1:]:
                    if one.start() == last.end() and tail is not alone:
                        last = one
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
        shared = os.path.commonprefix([tail, after])
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
        text = self._template.text([user("Hm."), answer(reasoning_content=FIRST)])
        prompt = self._template.text([user("Hm.")], None, True)
        opening, _, rest = text.rpartition(FIRST)
        between = rest.partition(SECOND)[0]
        opening = opening.removeprefix(prompt) if opening.startswith(prompt) else self._last_mark(opening)
        if not opening.strip():  # the prompt opened it
            opening = self._last_mark(prompt)
        if self.before_answer.strip() and between.endswith(self.before_answer):
            between = between[: len(between) - len(self.before_answer)]
        if not opening.strip() or not between.strip():
            return None
        return Thought(opening.strip(), between.strip(), between)

    def _last_mark(self, text: str) -> str:
        found = re.findall(r"<[^<>\s]+>", text.rstrip())
        return found[-1] if found else ""
