"""A renderer for ChatML models whose template knows no tools (SmolLM2), behind the `renderers` package's protocol.

    <|im_start|>system\n<system text>\n\n<tools><|im_end|>\n
    <|im_start|>user\n<text><|im_end|>\n
    <|im_start|>assistant\n<text>\n<tool_call>\n{"name": ..., "arguments": ...}\n</tool_call><|im_end|>\n
    <|im_start|>tool\n<result><|im_end|>\n
    <|im_start|>assistant\n

Control tokens are placed by id; each header, content and newline is encoded on its own. So appending messages to
sampled ids gives the ids a render of the whole conversation gives, and no content can ever become a control token.
"""

import copy
from typing import TYPE_CHECKING, Any

from renderers.base import (
    Message,
    ParsedResponse,
    RenderedTokens,
    ToolSpec,
    reject_assistant_in_extension,
    trim_to_turn_close,
)

from agentrft.chat.hermes import describe_tools, join_calls, read_calls, write_given_call
from agentrft.chat.stream import TokenStream
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"
TEXT_END = "<|endoftext|>"
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class ChatMLToolRenderer:
    """Messages to token ids for ChatML, with Hermes-style tool calls as ordinary text.

    Args:
        tokenizer: a fast tokenizer with `<|im_start|>` and `<|im_end|>`; it is not modified.

    Raises:
        UserError: the tokenizer lacks these tokens, is not a fast one, or cannot encode their text as plain text.
    """

    # Nothing that was rendered depends on what comes later.
    is_prefix_stable = True
    # Calls are text, also those that cannot be read.
    writes_calls_as_given = True

    def __init__(self, tokenizer: "PreTrainedTokenizerFast") -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise UserError(
                f"The tokenizer {tokenizer.name_or_path!r} has no fast version.",
                "Save the model's tokenizer as a tokenizer.json beside its weights.",
            )
        self._tokenizer = tokenizer
        # A copy of its own: transformers' `split_special_tokens` toggles state that other threads see.
        self._plain = copy.deepcopy(tokenizer.backend_tokenizer)
        self._plain.encode_special_tokens = True
        self._plain.no_truncation()
        self._plain.no_padding()
        self._turn_start = self._control_id(TURN_START)
        self._turn_end = self._control_id(TURN_END)
        ends = [self._turn_end, self._plain.token_to_id(TEXT_END), tokenizer.eos_token_id]
        self._stop_ids = list(dict.fromkeys(token_id for token_id in ends if token_id is not None))

    def _control_id(self, token: str) -> int:
        token_id = self._plain.token_to_id(token)
        if token_id is None or token_id in self._encode(token):
            raise UserError(
                f"The tokenizer {self._tokenizer.name_or_path!r} does not have {token} as a special token.",
                "Use a ChatML model whose tokenizer marks it as special, or a model of another template.",
            )
        return token_id

    def _encode(self, text: str) -> list[int]:
        # JSON can spell half of a surrogate pair, which no tokenizer takes.
        return self._plain.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False).ids

    def render(
        self, messages: list[Message], *, tools: list[ToolSpec] | None = None, add_generation_prompt: bool = False
    ) -> RenderedTokens:
        """The whole conversation as ids. `sampled_mask` holds for assistants' bodies and their `<|im_end|>`."""
        stream = TokenStream()
        first_is_system = bool(messages) and _ROLES.get(messages[0]["role"]) == "system"
        if tools and not first_is_system:
            self._emit_turn(stream, -1, "system", [(describe_tools(tools), False)])
        for index, message in enumerate(messages):
            self._emit_message(stream, index, message, tools if index == 0 and first_is_system else None)
        if add_generation_prompt:
            self._emit_header(stream, -1, "assistant")
        return stream.as_rendered(messages)

    def render_ids(
        self, messages: list[Message], *, tools: list[ToolSpec] | None = None, add_generation_prompt: bool = False
    ) -> list[int]:
        return self.render(messages, tools=tools, add_generation_prompt=add_generation_prompt).token_ids

    def bridge_to_next_turn(
        self,
        previous_prompt_ids: list[int],
        previous_completion_ids: list[int],
        new_messages: list[Message],
        *,
        tools: list[ToolSpec] | None = None,
    ) -> RenderedTokens | None:
        """The previous ids, unchanged, with `new_messages` and the next generation prompt after them.

        A turn cut off by the token limit is closed. None for assistants' messages: those are sampled, not rendered.
        """
        if not previous_prompt_ids or not new_messages or reject_assistant_in_extension(new_messages):
            return None
        previous_ids = trim_to_turn_close(
            previous_prompt_ids, previous_completion_ids, {self._turn_end}, synthesize_close=self._turn_end
        )
        if previous_ids is None:
            return None
        stream = TokenStream()
        stream.add(previous_ids, -1)
        stream.add(self._encode("\n"), -1)
        for index, message in enumerate(new_messages):
            self._emit_message(stream, index, message, None)
        self._emit_header(stream, -1, "assistant")
        return stream.as_rendered(new_messages)

    def parse_response(
        self, token_ids: list[int], *, tools: list[ToolSpec] | None = None, prompt_ids: list[int] | None = None
    ) -> ParsedResponse:
        """Content and attempted calls of one sampled turn. `tools` and `prompt_ids` make no difference here."""
        end = next((place for place, token_id in enumerate(token_ids) if token_id in self._stop_ids), len(token_ids))
        content, calls = read_calls(self._plain.decode(token_ids[:end], skip_special_tokens=False))
        return ParsedResponse(content, tool_calls=calls)

    def get_stop_token_ids(self) -> list[int]:
        return list(self._stop_ids)

    def _emit_message(self, stream: TokenStream, index: int, message: Message, tools: list[ToolSpec] | None) -> None:
        role = _ROLES.get(message["role"])
        if role is None:
            raise UserError(f"A message has the role {message['role']!r}.", f"Use one of: {', '.join(_ROLES)}.")
        content = _text(message.get("content"))
        if role == "assistant":
            calls = [write_given_call(call.get("function", call)) for call in message.get("tool_calls") or []]
            body = join_calls(content, calls)
            self._emit_turn(stream, index, role, [(body, True)], sampled=True)
        elif tools:
            separator = "\n\n" if content else ""
            self._emit_turn(stream, index, role, [(content, True), (separator + describe_tools(tools), False)])
        else:
            self._emit_turn(stream, index, role, [(content, True)])

    def _emit_header(self, stream: TokenStream, index: int, role: str) -> None:
        stream.add([self._turn_start], index)
        stream.add(self._encode(f"{role}\n"), index)

    def _emit_turn(
        self, stream: TokenStream, index: int, role: str, parts: list[tuple[str, bool]], *, sampled: bool = False
    ) -> None:
        """`parts` are texts, each with whether it is the message's own content."""
        self._emit_header(stream, index, role)
        for text, is_content in parts:
            stream.add(self._encode(text), index, sampled=sampled, content=is_content)
        stream.add([self._turn_end], index, sampled=sampled, content=sampled)
        stream.add(self._encode("\n"), index)


def _text(content: Any) -> str:
    if content is None:
        return ""
    if not isinstance(content, str):
        raise UserError(f"A message's content is {type(content).__name__}.", "Only text is supported: give a string.")
    return content
