"""A renderer by nothing but the model's own chat template: what it needs to know of it, it finds out by asking it.

What follows a sampled turn is the difference between two renderings: of a made-up conversation that ends with such a
turn, and of the same with the new messages. What a model would sample of a demonstration is the difference between the
prompt before a turn and the conversation after it. Where a template writes history anew, the two do not fit, and
nothing is appended.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import jinja2
from renderers import DefaultRendererConfig
from renderers.base import (
    Message,
    ParsedResponse,
    RenderedTokens,
    ToolSpec,
    reject_assistant_in_extension,
)
from renderers.default import DefaultRenderer
from renderers.parsers import ToolParser

from agentrft import wire
from agentrft.chat.call_format import CallFormat, learn
from agentrft.chat.stream import TokenStream
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Stand in for texts whose place in a rendering is looked for. No template has them, and none changes them.
FIRST, SECOND = "Zw0ne", "Qw7vo"


class TemplateRenderer(DefaultRenderer):
    """Satisfies the `renderers` package's protocol with any template of Jinja.

    Args:
        tokenizer: with the template.
        tool_parser: reads calls back; a name that the package knows, or a parser. Without one, calls are read in the
            form in which the template writes them as JSON, if it does.
        stop_ids: that end generation beside those found in the template.
        variables: for the template, such as `enable_thinking`.

    Raises:
        UserError: the template cannot render a plain question and its answer.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        tool_parser: ToolParser | str | None = None,
        *,
        stop_ids: Iterable[int] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        name = tool_parser if isinstance(tool_parser, str) else None
        super().__init__(cast(Any, tokenizer), DefaultRendererConfig(tool_parser=name))
        if tool_parser is not None and name is None:
            self._tool_parser = tool_parser
        self._tokenizer = tokenizer
        self._variables = dict(variables or {})
        added = tokenizer.added_tokens_decoder.items()
        self._control = {token.content: token_id for token_id, token in added if token.special}
        self._gives_arguments_as_text = False
        self._gives_arguments_as_text = self._wants_text()
        self._ends = self._find_ends()
        of_turns = [self._control[text] for text in self._ends]
        self._stop_ids = list(dict.fromkeys([*of_turns, *super().get_stop_token_ids(), *stop_ids]))
        self._format = self._learned() if tool_parser is None else None

    def render(
        self, messages: list[Message], *, tools: list[ToolSpec] | None = None, add_generation_prompt: bool = False
    ) -> RenderedTokens:
        """The whole conversation as ids. `sampled_mask` holds for what a model would have written of it.

        Raises:
            UserError: the template refuses the conversation, or shows no token that ends a turn.
        """
        if not self._ends:
            raise UserError(
                "The model's chat template shows no token that ends an assistant's turn, so that a warm start cannot "
                "teach where to stop.",
                "Leave out `warm_start`, or take a model whose template ends its turns with a special token.",
            )
        text = self._text(messages, tools, add_generation_prompt)
        stream = TokenStream()
        place = 0
        for index in _assistants(messages):
            turn = self._turn(messages[: index + 1], tools)
            if turn is None or text[: turn.end] != turn.text[: turn.end]:
                continue  # written anew because of what follows: context only
            if text[: turn.begin] != turn.prompt:
                if index != _assistants(messages)[-1]:
                    continue
                # What a prompt holds and a finished turn does not, such as an empty thought, was there when it began.
                stream = TokenStream()
                stream.add(self._encode(turn.prompt), -1)
            else:
                stream.add(self._encode(text[place : turn.begin]), -1)
            stream.add(self._encode(text[turn.begin : turn.end]), index, sampled=True, content=True)
            place = turn.end
        stream.add(self._encode(text[place:]), -1)
        return stream.as_rendered(messages)

    def render_ids(
        self, messages: list[Message], *, tools: list[ToolSpec] | None = None, add_generation_prompt: bool = False
    ) -> list[int]:
        return self._encode(self._text(messages, tools, add_generation_prompt))

    def get_stop_token_ids(self) -> list[int]:
        return list(self._stop_ids)

    @property
    def reads_calls(self) -> bool:
        """Whether calls can be told from text."""
        return self._format is not None or self._tool_parser is not None

    def parse_response(
        self, token_ids: list[int], *, tools: list[ToolSpec] | None = None, prompt_ids: list[int] | None = None
    ) -> ParsedResponse:
        parsed = super().parse_response(token_ids, tools=tools, prompt_ids=prompt_ids)
        if self._format is None or parsed.reasoning_complete is False:
            return parsed
        end = next((place for place, one in enumerate(token_ids) if one in self._stop_ids), len(token_ids))
        text = str(self._tokenizer.decode(token_ids[:end], skip_special_tokens=False))
        if parsed.reasoning_content is not None:
            text = text.partition("</think>")[2].lstrip("\n")
        content, calls = self._format.read(text)
        return ParsedResponse(
            _without(content, self._control),
            reasoning_content=parsed.reasoning_content,
            tool_calls=calls,
            reasoning_complete=parsed.reasoning_complete,
        )

    def bridge_to_next_turn(
        self,
        previous_prompt_ids: list[int],
        previous_completion_ids: list[int],
        new_messages: list[Message],
        *,
        tools: list[ToolSpec] | None = None,
    ) -> RenderedTokens | None:
        """The previous ids, unchanged, and what the template writes after such a turn.

        A turn cut off by the token limit is closed. None where the template would write the turn, or what stands
        before it, anew; or where it does not show where a turn ends.
        """
        if not previous_prompt_ids or not new_messages or reject_assistant_in_extension(new_messages):
            return None
        parsed = self.parse_response(previous_completion_ids, tools=tools, prompt_ids=previous_prompt_ids)
        question: list[Message] = [{"role": "user", "content": FIRST}]
        answer = _made_up(parsed, new_messages)
        try:
            turn = self._turn([*question, answer], tools)
            after = self._text([*question, answer, *new_messages], tools, True)
        except UserError:
            return None
        if turn is None or turn.end_id is None or not turn.text.startswith(turn.prompt):
            return None
        if after[: turn.end] != turn.text[: turn.end]:
            return None
        closing = [] if previous_completion_ids[-1:] == [turn.end_id] else [turn.end_id]
        if closing and set(previous_completion_ids) & set(self._stop_ids):
            return None  # it ended otherwise than the template would have it
        stream = TokenStream()
        stream.add([*previous_prompt_ids, *previous_completion_ids, *closing, *self._encode(after[turn.end :])], -1)
        return stream.as_rendered(new_messages)

    def _turn(self, messages: Sequence[Message], tools: Sequence[ToolSpec] | None) -> "_Turn | None":
        """The last message's place, which is an assistant's; None where it cannot be found."""
        prompt = self._text(messages[:-1], tools, True) if len(messages) > 1 else ""
        text = self._text(messages, tools, False)
        if not prompt:
            return None
        begin = len(prompt) if text.startswith(prompt) else self._begin(messages[:-1], tools, text)
        if begin is None:
            return None
        end, end_id = len(text), None
        for one in self._ends:
            place = text.rfind(one)
            if place >= begin and (end_id is None or place + len(one) > end):
                end, end_id = place + len(one), self._control[one]
        return _Turn(prompt, text, begin, end, end_id)

    def _begin(self, before: Sequence[Message], tools: Sequence[ToolSpec] | None, text: str) -> int | None:
        """Where an answer begins that is written otherwise than the prompt before it promised."""
        answered = self._text([*before, {"role": "assistant", "content": SECOND}], tools, False)
        begin = answered.rfind(SECOND)
        return begin if begin >= 0 and text[:begin] == answered[:begin] else None

    def _find_ends(self) -> list[str]:
        """The control tokens that end a turn: of an answer, and of a call where the template has those."""
        question: Message = {"role": "user", "content": FIRST}
        answered = self._text([question, {"role": "assistant", "content": SECOND}], None, False)
        if SECOND not in answered:
            raise UserError(
                "The chat template shows no answer of an assistant.",
                "Use the model's instruct version, or put a chat_template.jinja that does beside its tokenizer.",
            )
        ends = [self._first_control(answered.rpartition(SECOND)[2])]
        try:
            called = self._text([question, _call_of("call_1", SECOND)], [TOOL], False)
        except UserError:
            called = ""
        if SECOND in called:
            ends.append(self._last_control(called.rpartition(SECOND)[2]))
        return list(dict.fromkeys(end for end in ends if end is not None))

    def _learned(self) -> CallFormat | None:
        question: Message = {"role": "user", "content": FIRST}
        try:
            answered = self._turn([question, {"role": "assistant", "content": SECOND}], [TOOL])
            called = self._turn([question, _call_of("call_1", SECOND)], [TOOL])
        except UserError:
            return None
        if answered is None or called is None:
            return None
        # What stands before an answer, such as an empty thought, stands before a call too.
        before = answered.sampled.partition(SECOND)[0]
        return learn(_without_end(called.sampled.removeprefix(before), self._ends), FIRST, {FIRST: SECOND})

    def _first_control(self, text: str) -> str | None:
        found = [(text.index(one), -len(one), one) for one in self._control if one in text]
        return min(found)[2] if found else None

    def _last_control(self, text: str) -> str | None:
        found = [(text.rindex(one) + len(one), len(one), one) for one in self._control if one in text]
        return max(found)[2] if found else None

    def _wants_text(self) -> bool:
        """Whether calls' arguments are to be given as JSON text: some templates write an object as Python would."""
        question: Message = {"role": "user", "content": FIRST}
        try:
            shown = self._text([question, _call_of("call_1", FIRST, SECOND)], [TOOL], False)
        except UserError:
            return True
        return f"'{SECOND}'" in shown

    def _text(self, messages: Sequence[Message], tools: Sequence[ToolSpec] | None, add_generation_prompt: bool) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    [self._shaped(message) for message in messages],
                    tools=cast(Any, list(tools)) if tools else None,
                    add_generation_prompt=add_generation_prompt,
                    tokenize=False,
                    **self._variables,
                )
            )
        # Templates are programs: whatever they cannot add, index or iterate over ends so.
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise UserError(
                f"The model's chat template refuses a conversation: {error}",
                "Write it as this model's conversations are: its roles, their order, and calls with their results.",
            ) from error

    def _shaped(self, message: Message) -> dict[str, Any]:
        shaped: dict[str, Any] = dict(message)
        if self._gives_arguments_as_text and shaped.get("tool_calls"):
            shaped["tool_calls"] = [_as_text(call) for call in shaped["tool_calls"]]
        return shaped

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)


@dataclass(frozen=True)
class _Turn:
    """An assistant's turn in a rendering.

    Attributes:
        prompt: what stands before it when it is sampled.
        text: the rendering up to and with it.
        begin, end: of what is sampled, in `text`.
        end_id: the control token that ends it, the last that is sampled; None where there is none.
    """

    prompt: str
    text: str
    begin: int
    end: int
    end_id: int | None

    @property
    def sampled(self) -> str:
        return self.text[self.begin : self.end]


TOOL: Any = {
    "type": "function",
    "function": {
        "name": FIRST,
        "description": FIRST,
        "parameters": {"type": "object", "properties": {FIRST: {"type": "string"}}, "required": [FIRST]},
    },
}


def _call_of(call_id: str, value: str, key: str = FIRST) -> Any:
    function = {"name": FIRST, "arguments": {key: value}}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def _made_up(parsed: ParsedResponse, new_messages: Sequence[Message]) -> Message:
    """A turn with the same parts as the sampled one, whose calls are those that the new messages answer."""
    made_up: dict[str, Any] = {"role": "assistant", "content": FIRST}
    if parsed.reasoning_content:
        made_up["reasoning_content"] = SECOND
    answered = list(itertools.takewhile(lambda one: one["role"] == "tool", new_messages))
    if answered:
        made_up["content"] = FIRST if parsed.content.strip() else ""
        made_up["tool_calls"] = [
            {
                "id": message.get("tool_call_id") or "call_1",
                "type": "function",
                "function": {"name": message.get("name") or FIRST, "arguments": {FIRST: SECOND}},
            }
            for message in answered
        ]
    return made_up  # type: ignore[return-value]


def _as_text(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else wire.dump(arguments)
    return {**call, "function": {**function, "arguments": text}}


def _without_end(text: str, ends: Iterable[str]) -> str:
    for end in ends:
        text = text.removesuffix(end)
    return text


def _without(text: str, controls: Iterable[str]) -> str:
    for control in controls:
        text = text.replace(control, "")
    return text


def _assistants(messages: Sequence[Message]) -> list[int]:
    return [index for index, message in enumerate(messages) if message["role"] == "assistant"]
