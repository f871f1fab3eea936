"""The codec: what the rollout and the warm start ask of a chat template, the same for every model.

prompt_ids  the conversation so far, as ids ending where the model begins to write
parse       what the model wrote, as content and calls
append      the ids that follow a sampled turn, so that the sampled ones stay as they are
training_rows  demonstrations, with the tokens that a model would have sampled
"""

from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from renderers.base import ParsedResponse, ParsedToolCall, Renderer, ToolCallParseStatus

from agentrft import wire
from agentrft.chat.call_formats import TurnFormat
from agentrft.chat.demonstrations import Demonstrations
from agentrft.chat.preparation import Preparation, envelopes
from agentrft.chat.proof import CodecProof, Situation
from agentrft.chat.template import TemplateRenderer
from agentrft.wire import WireError

_FAULTS = {
    ToolCallParseStatus.INVALID_JSON: "The tool call is not valid JSON.",
    ToolCallParseStatus.UNCLOSED_BLOCK: "The tool call is not closed.",
    ToolCallParseStatus.MISSING_NAME: "The tool call has no function name.",
    ToolCallParseStatus.MALFORMED_STRUCTURE: "The tool call must be an object with a name and an arguments object.",
}
# Where calls are no JSON.
_OTHER_FAULTS = {
    **_FAULTS,
    ToolCallParseStatus.INVALID_JSON: "The arguments of the tool call cannot be read.",
    ToolCallParseStatus.MALFORMED_STRUCTURE: "The tool call does not have the form that tool calls have.",
}
# XML-like templates report a value that is no JSON, and was taken as text, as INVALID_JSON; an unknown name is for
# the rollout to answer.
_USABLE = {ToolCallParseStatus.OK, ToolCallParseStatus.INVALID_JSON, ToolCallParseStatus.UNKNOWN_TOOL}


@dataclass(frozen=True)
class ParsedCall:
    """One attempted call. Either `name` and `arguments` (JSON text of an object) are there, or `error` says why not.

    `error` is written to be shown to the model as the call's result.
    """

    name: str | None
    arguments: str | None
    error: str | None = None


@dataclass(frozen=True)
class AssistantTurn:
    """What one sampled turn says.

    Attributes:
        content: the text outside calls and reasoning.
        tool_calls: every attempted call, in order.
        message: the turn in Chat Completions shape. Its `tool_calls`, absent when there are none, are parallel to
            the attribute and carry the ids; a faulty one has the text the model wrote as its arguments.
    """

    content: str
    tool_calls: list[ParsedCall]
    message: dict[str, Any]


class ChatCodec:
    """Messages to ids and back, around any renderer of the `renderers` package or one of ours.

    Messages and tools are in Chat Completions shape; a call's `arguments` may be JSON text or an object, and none at
    all are `{}`. Text that is no JSON object is written as it stands: so the model wrote it. Tool messages should carry
    the function's `name`: some templates show it.

    Args:
        renderer: the model family's renderer.
        control_texts: texts that the renderer would turn into control tokens wherever it meets them; a space is put
            into them in every message, so that no tool result can end a turn.
        markup_texts: the same for markup that users' messages and tool results have no business with; systems and
            assistants keep theirs.
        reads_values: a form of calls whose values have no quotes, so that their types are those of the tools' schemas;
            the package's parsers take text for a number wherever it looks like one.
        json_calls: calls are JSON, and what a model is told of those that cannot be read speaks of it.
        ends_thoughts: prompts end what the model could think, so that demonstrations are shown without.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        control_texts: Iterable[str] = (),
        markup_texts: Iterable[str] = (),
        ends_thoughts: bool = False,
        reads_values: TurnFormat | None = None,
        json_calls: bool = True,
    ) -> None:
        self.renderer = renderer
        self._reads_values = reads_values
        self._faults = _FAULTS if json_calls else _OTHER_FAULTS
        self._preparation = Preparation(
            control_texts, markup_texts, writes_any_call=getattr(renderer, "writes_calls_as_given", False)
        )
        self._demonstrations = Demonstrations(self, ends_thoughts=ends_thoughts)
        # What the renderer appends in these is not what its template writes: a new row begins instead.
        self.blocked: frozenset[Situation] = frozenset()
        self.proof: CodecProof | None = None

    @property
    def stop_ids(self) -> list[int]:
        """Token ids at which generation stops."""
        return self.renderer.get_stop_token_ids()

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    def encode(self, text: str) -> list[int]:
        """The ids of a text, of which control tokens may be part."""
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def prepared(self, messages: Sequence[Mapping[str, Any]]) -> list[Any]:
        """The messages as the renderer takes them."""
        return self._preparation.messages(messages)

    @property
    def _tokenizer(self) -> Any:
        return self.renderer._tokenizer  # type: ignore[attr-defined]  # every renderer has one

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """The conversation as ids, up to where the assistant's next turn begins."""
        return self.renderer.render_ids(self.prepared(messages), tools=envelopes(tools), add_generation_prompt=True)

    def parse(
        self,
        sampled_ids: Sequence[int],
        prompt_ids: Sequence[int],
        tools: Sequence[Mapping[str, Any]] = (),
        *,
        new_call_id: Callable[[], str],
    ) -> AssistantTurn:
        """Read a sampled turn; `prompt_ids` is all that stood before it. Never fails, whatever was sampled."""
        parsed = self._parsed(sampled_ids, prompt_ids, tools)
        calls = [_checked(self._typed(call, tools), self._faults) for call in parsed.tool_calls]
        message: dict[str, Any] = {"role": "assistant", "content": parsed.content}
        if parsed.reasoning_content:
            message["reasoning_content"] = parsed.reasoning_content
        if calls:
            message["tool_calls"] = [
                _call_message(new_call_id(), call, attempt.raw)
                for call, attempt in zip(calls, parsed.tool_calls, strict=True)
            ]
        return AssistantTurn(parsed.content, calls, message)

    def reasoning_tokens(
        self, sampled_ids: Sequence[int], prompt_ids: Sequence[int], tools: Sequence[Mapping[str, Any]] = ()
    ) -> int:
        """How many of a sampled turn's tokens are reasoning: its first ones, up to where that is complete.

        0 where the model's template has no reasoning, or the turn none.
        """
        whole = self._reasoning(sampled_ids, prompt_ids, tools)
        if not whole:
            return 0
        lengths = range(len(sampled_ids))
        # The fewest first tokens that say as much.
        return bisect(lengths, 0, key=lambda n: self._reasoning(sampled_ids[:n], prompt_ids, tools) == whole)

    def append(
        self,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        new_messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> list[int] | None:
        """The ids that come after `prompt_ids` and `sampled_ids`: the new messages, up to the next turn's begin.

        Where the turn was cut off, they start with what closes it. None where the template cannot go on from these
        very ids: the caller then starts a new row with `prompt_ids` of the whole conversation.
        """
        before = [*prompt_ids, *sampled_ids]
        if self.blocked and self.situation(prompt_ids, sampled_ids, new_messages, tools) in self.blocked:
            return None
        try:
            bridged = self.renderer.bridge_to_next_turn(
                list(prompt_ids), list(sampled_ids), self.prepared(new_messages), tools=envelopes(tools)
            )
        # Some of the package's bridges parse the turn, and fail as `parse` may.
        except (ValueError, RecursionError):
            return None
        if bridged is None or bridged.token_ids[: len(before)] != before:
            return None
        return bridged.token_ids[len(before) :]

    def situation(
        self,
        prompt_ids: Sequence[int],
        sampled_ids: Sequence[int],
        new_messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> Situation:
        """Where a rollout goes on after a sampled turn."""
        return Situation.of(self._parsed(sampled_ids, prompt_ids, tools), new_messages)

    def block(self, situation: Situation) -> None:
        """Never append in a situation."""
        self.blocked |= {situation}

    @property
    def one_call(self) -> bool:
        """The template takes one call a turn; several are shown as turns of their own."""
        return isinstance(self.renderer, TemplateRenderer) and self.renderer.template.one_call

    def training_rows(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[tuple[list[int], list[bool]]]:
        """A demonstration as rows of ids, each with a parallel mask of the tokens that the model would have sampled.

        Assistants' messages with `weight` 0 are context only.

        One row where later messages leave earlier ids alone. Templates that rewrite history (dropping old
        reasoning, for one) give a row per turn whose context they changed, so that each is trained as it is sampled.

        Raises:
            UserError: the renderer does not know which tokens are the model's, or there are none.
        """
        return self._demonstrations.rows(messages, tools)

    def demonstration(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The messages as a model can sample them: no more calls a turn than its template takes, and no reasoning where
        its prompts end that.
        """
        return self._demonstrations.shown(messages)

    def sampled_ids(
        self, messages: Sequence[Mapping[str, Any]], turn: int, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """What a model samples that says what the assistant's message at `turn` does, to the token that ends it.

        Raises:
            UserError: the renderer does not know which tokens are the model's.
        """
        return self._demonstrations.sampled(messages, turn, tools)[0]

    def _parsed(
        self, sampled_ids: Sequence[int], prompt_ids: Sequence[int], tools: Sequence[Mapping[str, Any]]
    ) -> ParsedResponse:
        try:
            return self.renderer.parse_response(list(sampled_ids), tools=envelopes(tools), prompt_ids=list(prompt_ids))
        # Some of the package's parsers let JSON's rarer faults through: nested too deeply, a number too long.
        except (ValueError, RecursionError):
            return ParsedResponse("", tool_calls=[ParsedToolCall("", status=ToolCallParseStatus.INVALID_JSON)])

    def _typed(self, call: ParsedToolCall, tools: Sequence[Mapping[str, Any]]) -> ParsedToolCall:
        """The call with the values that its tool declares."""
        if self._reads_values is None or call.status not in _USABLE:
            return call
        _, again = self._reads_values.read(f"<tool_call>{call.raw}</tool_call>", tools)
        usable = len(again) == 1 and again[0].status is ToolCallParseStatus.OK and again[0].name == call.name
        return replace(call, arguments=again[0].arguments) if usable else call

    def _reasoning(
        self, sampled_ids: Sequence[int], prompt_ids: Sequence[int], tools: Sequence[Mapping[str, Any]]
    ) -> str:
        return self._parsed(sampled_ids, prompt_ids, tools).reasoning_content or ""


def _checked(call: ParsedToolCall, faults: Mapping[ToolCallParseStatus, str]) -> ParsedCall:
    if call.status in _USABLE and call.name and isinstance(call.arguments, dict):
        try:
            text = wire.dump(call.arguments)
            wire.parse(text)
            return ParsedCall(call.name, text)
        except WireError as error:
            return ParsedCall(call.name, None, f"The arguments cannot be used: {error}.")
    status = call.status if call.status in faults else ToolCallParseStatus.MALFORMED_STRUCTURE
    return ParsedCall(call.name, None, faults[status])


def _call_message(call_id: str, call: ParsedCall, raw: str) -> dict[str, Any]:
    arguments = raw if call.arguments is None else call.arguments
    return {"id": call_id, "type": "function", "function": {"name": call.name or "", "arguments": arguments}}
