"""A renderer by nothing but the model's own chat template: what it needs to know of it, it finds out by asking it.

What follows a sampled turn is the difference between two renderings: of a made-up conversation that ends with such a
turn, and of the same with the new messages. What a model would sample of a demonstration is the difference between the
prompt before a turn and the conversation after it. Where a template writes history anew, the two do not fit, and
nothing is appended.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from renderers.base import (
    Message,
    ParsedResponse,
    RenderedTokens,
    ToolSpec,
    reject_assistant_in_extension,
)

from agentrft.chat.call_formats import TurnFormat, detect
from agentrft.chat.conversation import ConversationTemplate
from agentrft.chat.memo import Memo
from agentrft.chat.probes import FIRST, FOURTH, SECOND, THIRD, TOOL, called, user
from agentrft.chat.stream import TokenStream
from agentrft.chat.turns import Turns
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Of a prompt, what is looked at for a thought that it begins.
_TAIL_TOKENS = 32
# Texts whose ids are kept.
_TEXTS = 64
# Ends of turns that Llama's template mentions for its built-in tools alone.
_MORE_ENDS = ["<|eom_id|>"]


class TemplateRenderer:
    """Satisfies the `renderers` package's protocol with any template of Jinja.

    Args:
        tokenizer: with the template.
        call_format: reads calls back. Without one, it is the form in which the template writes a call, if that is
            known.
        stop_ids: that end generation beside those found in the template.
        variables: for the template, such as `enable_thinking`.

    Raises:
        UserError: the template cannot render a plain question and its answer.
    """

    # What a template makes of a conversation may depend on what comes later in it.
    is_prefix_stable = False

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerFast",
        call_format: TurnFormat | None = None,
        *,
        stop_ids: Iterable[int] = (),
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._encoded: Memo[tuple[int, ...]] = Memo(_TEXTS)
        added = tokenizer.added_tokens_decoder.items()
        self._control = {token.content: token_id for token_id, token in added if token.special}
        self.template = ConversationTemplate(tokenizer, variables)
        self.turns = Turns(self.template, self._control)
        ends = [self._control[text] for text in self.turns.end_tokens]
        ends += [self._control[text] for text in _MORE_ENDS if text in self._control]
        eos: Any = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
        self._stop_ids: list[int] = list(dict.fromkeys([*ends, *eos, *stop_ids]))
        self.call_format = call_format or self._found_format()

    @property
    def reads_calls(self) -> bool:
        """Whether calls can be told from text."""
        return self.call_format is not None

    @property
    def shows_ends(self) -> bool:
        """Whether the template shows a token that ends a turn."""
        return self.turns.answer_end is not None

    def render(
        self, messages: list[Message], *, tools: list[ToolSpec] | None = None, add_generation_prompt: bool = False
    ) -> RenderedTokens:
        """The whole conversation as ids. Which of them a model would have sampled, `sampled_ids` says turn by turn."""
        stream = TokenStream()
        stream.add(self.render_ids(messages, tools=tools, add_generation_prompt=add_generation_prompt), -1)
        rendered = stream.as_rendered(messages)
        rendered.sampled_mask = []
        return rendered

    def sampled_ids(
        self, messages: Sequence[Mapping[str, Any]], turn: int, tools: list[ToolSpec] | None = None
    ) -> list[int]:
        """What a model would have sampled of the assistant's message at `turn`, to the token that ends it.

        Raises:
            UserError: the template refuses the conversation, shows no token that ends a turn, or not where one begins.
        """
        if not self.shows_ends:
            raise UserError(
                "The model's chat template shows no token that ends an assistant's turn, so that a warm start cannot "
                "teach where to stop.",
                "Leave out `warm_start`, or take a model whose template ends its turns with a special token.",
            )
        following = self.template.text(messages, tools) if len(messages) > turn + 1 else None
        found = self.turns.find(messages[: turn + 1], tools, following) or self.turns.find_anew(
            messages[: turn + 1], tools
        )
        if found is None:
            raise UserError(
                "The model's chat template does not show where an assistant's turn begins, so that a warm start cannot "
                "tell what the model would write.",
                "Begin each demonstration with a user's message, or leave out `warm_start`.",
            )
        sampled = self._encode_after(found.prompt, found.sampled)
        end = self.turns.end_of(messages[turn])
        if found.end_token is None and end is not None:
            return [*sampled, self._control[end.token]]
        return sampled

    def render_ids(
        self, messages: list[Message], *, tools: list[ToolSpec] | None = None, add_generation_prompt: bool = False
    ) -> list[int]:
        return self._encode(self.template.text(messages, tools, add_generation_prompt))

    def get_stop_token_ids(self) -> list[int]:
        return list(self._stop_ids)

    def parse_response(
        self, token_ids: list[int], *, tools: list[ToolSpec] | None = None, prompt_ids: list[int] | None = None
    ) -> ParsedResponse:
        """Content, reasoning and attempted calls of one sampled turn."""
        end = next((place for place, one in enumerate(token_ids) if one in self._stop_ids), len(token_ids))
        prompt = self._decode(prompt_ids[-_TAIL_TOKENS:]) if prompt_ids else ""
        thought = self.turns.thought
        reasoning, text, complete = thought.split(self._decode(token_ids[:end]), thought.is_opened_by(prompt))
        if not complete:
            return ParsedResponse("", reasoning_content=reasoning or "", reasoning_complete=False)
        if self.turns.before_answer and text.startswith(self.turns.before_answer):
            text = text[len(self.turns.before_answer) :]
        elif reasoning is not None or text.startswith("\n"):
            text = text.lstrip("\n")
        content, calls = self.call_format.read(text, tools or ()) if self.call_format else (text, [])
        for control in self._control:
            content = content.replace(control, "")
        return ParsedResponse(content, reasoning_content=reasoning, tool_calls=calls)

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
        results = list(itertools.takewhile(lambda one: one["role"] == "tool", new_messages))
        if self.template.one_call and max(len(parsed.tool_calls), len(results)) > 1:
            return None  # the template shows them as turns of their own
        following = self.template.with_native_ids([call.id for call in parsed.tool_calls], new_messages)
        conversation = [user(), _made_up(parsed, following[: len(results)])]
        try:
            after = self.template.text([*conversation, *following], tools, True)
            turn = self.turns.find(conversation, tools, after)
        except UserError:
            return None
        if turn is None or turn.end_token is None or not after.startswith(turn.text[: turn.end]):
            return None
        if not turn.keeps_prompt:
            return None
        if self._thought_in(previous_completion_ids) and self.turns.thought.closing not in turn.sampled:
            return None  # an empty thought, of which nothing is kept
        end_id = self._control[turn.end_token]
        closing = [] if previous_completion_ids[-1:] == [end_id] else [end_id]
        if closing and set(previous_completion_ids) & set(self._stop_ids):
            return None  # it ended otherwise than the template would have it
        stream = TokenStream()
        suffix = self._encode_after(turn.text[: turn.end], after[turn.end :])
        stream.add([*previous_prompt_ids, *previous_completion_ids, *closing, *suffix], -1)
        return stream.as_rendered(new_messages)

    def _thought_in(self, sampled_ids: Sequence[int]) -> bool:
        """Whether a turn has the marks of a thought, be there one in it or not."""
        return self.turns.thought.closing in self._decode(sampled_ids)

    def _found_format(self) -> TurnFormat | None:
        """The form of calls: found in one that the template wrote, or that of our convention where it writes none."""
        if not self.template.writes_calls:
            return self.template.writer if self.shows_ends or self.template.takes_tools else None
        try:
            turn = self.turns.find([user(), called()], [TOOL])
        except UserError:
            return None
        if turn is None:
            return None
        # What stands before an answer, such as an empty thought, stands before a call too.
        _, shown, _ = self.turns.thought.split(turn.sampled, self.turns.opens_thought)
        shown = shown.removeprefix(self.turns.before_answer)
        return detect(shown.removesuffix(turn.end_token or ""), FIRST, {FIRST: SECOND})

    def _encode(self, text: str) -> list[int]:
        ids = self._encoded.get(text, lambda: tuple(self._tokenizer.encode(text, add_special_tokens=False)))
        return list(ids)

    def _encode_after(self, context: str, text: str) -> list[int]:
        """The ids of `text` where it stands behind `context`, which ends in a control token or is a prompt.

        Some tokenizers put a space before what they are given alone.
        """
        if not text or not context:
            return self._encode(text)
        near = self.turns.from_last_control(context)
        before, both = self._encode(near), self._encode(near + text)
        return both[len(before) :] if both[: len(before)] == before else self._encode(text)

    def _decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))


def _made_up(parsed: ParsedResponse, results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A turn with the same parts as the sampled one, whose calls are those that the results answer."""
    made_up: dict[str, Any] = {"role": "assistant", "content": THIRD}
    if parsed.reasoning_content:
        made_up["reasoning_content"] = FOURTH
    if results:
        made_up["content"] = THIRD if parsed.content.strip() else ""
        made_up["tool_calls"] = [
            {
                "id": message.get("tool_call_id") or "call_1",
                "type": "function",
                "function": {"name": message.get("name") or FIRST, "arguments": {FIRST: SECOND}},
            }
            for message in results
        ]
    return made_up
