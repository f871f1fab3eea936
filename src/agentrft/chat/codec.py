"""The codec: what the rollout and the warm start ask of a chat template, the same for every model.

prompt_ids  the conversation so far, as ids ending where the model begins to write
parse       what the model wrote, as content and calls
append      the ids that follow a sampled turn, so that the sampled ones stay as they are
training_rows  demonstrations, with the tokens that a model would have sampled
"""

import re
from bisect import bisect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from typing import Any

from renderers.base import ParsedResponse, ParsedToolCall, Renderer, ToolCallParseStatus

from agentrft import wire
from agentrft.chat.call_formats.values import declared, typed
from agentrft.chat.hermes import call_object, given_text
from agentrft.chat.proof import CodecProof, Situation
from agentrft.chat.template import TemplateRenderer
from agentrft.errors import UserError
from agentrft.wire import WireError

_FAULTS = {
    ToolCallParseStatus.INVALID_JSON: "The tool call is not valid JSON.",
    ToolCallParseStatus.UNCLOSED_BLOCK: "The tool call is not closed.",
    ToolCallParseStatus.MISSING_NAME: "The tool call has no function name.",
    ToolCallParseStatus.MALFORMED_STRUCTURE: "The tool call must be an object with a name and an arguments object.",
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
        unquoted: the model writes values of calls without quotes, so that their types are those of the tools' schemas.
        ends_thoughts: prompts end what the model could think, so that demonstrations are shown without.
    """

    def __init__(
        self,
        renderer: Renderer,
        *,
        control_texts: Iterable[str] = (),
        markup_texts: Iterable[str] = (),
        ends_thoughts: bool = False,
        unquoted: bool = False,
    ) -> None:
        self.renderer = renderer
        self._ends_thoughts = ends_thoughts
        self._unquoted = unquoted
        self._writes_any_call = getattr(renderer, "writes_calls_as_given", False)
        control_texts = list(control_texts)
        # What the renderer appends in these is not what its template writes: a new row begins instead.
        self.blocked: frozenset[Situation] = frozenset()
        self.proof: CodecProof | None = None
        self._control_pattern = _any_of(control_texts)
        self._markup_pattern = _any_of([*control_texts, *markup_texts])

    @property
    def stop_ids(self) -> list[int]:
        """Token ids at which generation stops."""
        return self.renderer.get_stop_token_ids()

    def text_of(self, ids: Sequence[int]) -> str:
        """The text of ids, control tokens included."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    @property
    def _tokenizer(self) -> Any:
        return self.renderer._tokenizer  # type: ignore[attr-defined]  # every renderer has one

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """The conversation as ids, up to where the assistant's next turn begins."""
        return self.renderer.render_ids(self._prepare(messages), tools=_envelopes(tools), add_generation_prompt=True)

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
        calls = [_checked(self._typed(call, tools)) for call in parsed.tool_calls]
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
                list(prompt_ids), list(sampled_ids), self._prepare(new_messages), tools=_envelopes(tools)
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
        rows: list[tuple[list[int], list[bool]]] = []
        ids: list[int] = []
        mask: list[bool] = []
        messages = self.demonstration(messages)
        for turn in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
            if not ids:
                ids = self.prompt_ids(messages[:turn], tools) if turn else []
                mask = [False] * len(ids)
            sampled, rest = self._sampled(messages, turn, tools)
            following = list(takewhile(lambda one: one["role"] != "assistant", messages[turn + 1 :]))
            suffix = self.append(ids, sampled, following, tools) if following and ids else None
            after = rest if suffix is None and not following else suffix or []
            ids = [*ids, *sampled, *after]
            mask = [*mask, *[messages[turn].get("weight") != 0] * len(sampled), *[False] * len(after)]
            if suffix is None:
                rows.append((ids, mask))
                ids, mask = [], []
        rows = [row for row in [*rows, (ids, mask)] if any(row[1])]
        if not rows:
            raise UserError(
                "A demonstration holds no token that the model would write.",
                "Give each demonstration an assistant's message with content or tool calls.",
            )
        return rows

    def demonstration(self, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The messages as a model can sample them: no more calls a turn than its template takes, and no reasoning where
        its prompts end that.
        """
        shown = [dict(message) for message in messages]
        if isinstance(self.renderer, TemplateRenderer):
            shown, _ = self.renderer.template.split(messages)
        for message in shown if self._ends_thoughts else []:
            message.pop("reasoning_content", None)
        return shown

    def sampled_ids(
        self, messages: Sequence[Mapping[str, Any]], turn: int, tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """What a model samples that says what the assistant's message at `turn` does, to the token that ends it.

        Raises:
            UserError: the renderer does not know which tokens are the model's.
        """
        return self._sampled(messages, turn, tools)[0]

    def _sampled(
        self, messages: Sequence[Mapping[str, Any]], turn: int, tools: Sequence[Mapping[str, Any]]
    ) -> tuple[list[int], list[int]]:
        """What is sampled of a turn, and what the template writes after it where nothing follows."""
        # In some templates the token that ends a turn is the one that begins the tool results after it.
        end = turn + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        if isinstance(self.renderer, TemplateRenderer):
            return self.renderer.sampled_ids(self._prepare(messages[:end]), turn, _envelopes(tools)), []
        ids, mask = self._row(messages[:end], turn, tools)
        prompt = self.prompt_ids(messages[:turn], tools) if turn else []
        places = [place for place, sampled in enumerate(mask) if sampled]
        if not places:
            return [], []
        last = places[-1] + 1
        is_ended = ids[last - 1] in self.stop_ids or messages[turn].get("tool_calls")
        ended = [] if is_ended else self._answer_end
        if ids[: len(prompt)] == prompt:
            return [*(ids[len(prompt) : last] if prompt else ids[places[0] : last]), *ended], ids[last:]
        before, whole = self.text_of(prompt), self.text_of(ids[:last])
        if whole.startswith(before):
            # Where the two meet, the tokenizer made one token of what stands on both sides.
            return [*self._tokenizer.encode(whole[len(before) :], add_special_tokens=False), *ended], ids[last:]
        return [*ids[places[0] : last], *ended], ids[last:]

    def _parsed(
        self, sampled_ids: Sequence[int], prompt_ids: Sequence[int], tools: Sequence[Mapping[str, Any]]
    ) -> ParsedResponse:
        try:
            return self.renderer.parse_response(list(sampled_ids), tools=_envelopes(tools), prompt_ids=list(prompt_ids))
        # Some of the package's parsers let JSON's rarer faults through: nested too deeply, a number too long.
        except (ValueError, RecursionError):
            return ParsedResponse("", tool_calls=[ParsedToolCall("", status=ToolCallParseStatus.INVALID_JSON)])

    def _typed(self, call: ParsedToolCall, tools: Sequence[Mapping[str, Any]]) -> ParsedToolCall:
        """The call with what the package's parsers left as text, such as a `True`, as its tool declares it."""
        if not self._unquoted or not call.name or not isinstance(call.arguments, dict):
            return call
        schemas = declared(tools, call.name)
        arguments = {
            key: typed(value, schemas.get(key)) if isinstance(value, str) and key in schemas else value
            for key, value in call.arguments.items()
        }
        return replace(call, arguments=arguments)

    def _reasoning(
        self, sampled_ids: Sequence[int], prompt_ids: Sequence[int], tools: Sequence[Mapping[str, Any]]
    ) -> str:
        return self._parsed(sampled_ids, prompt_ids, tools).reasoning_content or ""

    def _row(
        self, messages: Sequence[Mapping[str, Any]], turn: int, tools: Sequence[Mapping[str, Any]]
    ) -> tuple[list[int], list[bool]]:
        """The messages with the mask of one assistant's tokens, as the renderer has it."""
        rendered = self.renderer.render(self._prepare(messages), tools=_envelopes(tools))
        if len(rendered.sampled_mask) != len(rendered.token_ids):
            raise UserError(
                f"The warm start cannot tell which tokens are the model's with {type(self.renderer).__name__}: "
                "this model's chat template is opaque.",
                "Leave out `warm_start`, or train a model with a renderer of its own or a plain ChatML template.",
            )
        mask = [
            sampled and index == turn
            for sampled, index in zip(rendered.sampled_mask, rendered.message_indices, strict=True)
        ]
        return rendered.token_ids, mask

    @cached_property
    def _answer_end(self) -> list[int]:
        """The token that ends an answer, where the template writes that with what follows alone; else none."""
        spoken = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        try:
            alone = self.renderer.render_ids(self._prepare(spoken))
            followed = self.prompt_ids([*spoken, spoken[0]])
        except (UserError, ValueError):
            return []
        ends = followed[len(alone) : len(alone) + 1] if followed[: len(alone)] == alone else []
        return [token_id for token_id in ends if token_id in self.stop_ids]

    def _prepare(self, messages: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Messages as every renderer takes them: no developer role, text content, arguments as objects."""
        return [self._prepare_message(message) for message in messages]

    def _prepare_message(self, message: Mapping[str, Any]) -> dict[str, Any]:
        role = message["role"]
        pattern = self._markup_pattern if role in ("user", "tool") else self._control_pattern
        prepared = {**message, "role": "system" if role == "developer" else role}
        prepared.pop("weight", None)
        if isinstance(message.get("name"), str):
            prepared["name"] = _defused(message["name"], pattern)
        texts = [message.get("content") or ""]
        calls = []
        for call in message.get("tool_calls") or []:
            function = call["function"]
            arguments = call_object(function)
            if arguments is not None:
                name = _defused(function["name"], pattern)
                calls.append(
                    {**call, "function": {**function, "name": name, "arguments": _defused(arguments, pattern)}}
                )
            elif self._writes_any_call:
                calls.append(call)
            else:
                texts.append(given_text(function))
        prepared["content"] = _defused("\n".join(text for text in texts if text), pattern)
        if isinstance(message.get("reasoning_content"), str):
            prepared["reasoning_content"] = _defused(message["reasoning_content"], pattern)
        prepared.pop("tool_calls", None)
        if calls:
            prepared["tool_calls"] = calls
        return prepared


def _any_of(texts: Iterable[str]) -> re.Pattern[str] | None:
    ordered = sorted(set(texts), key=len, reverse=True)
    # A single character cannot be broken up, and single characters end no turn.
    alternatives = [re.escape(text) for text in ordered if len(text) > 1]
    return re.compile("|".join(alternatives)) if alternatives else None


def _defused(value: Any, pattern: re.Pattern[str] | None) -> Any:
    """`value` with all its texts encodable, and without any text that `pattern` matches."""
    if isinstance(value, str):
        # JSON can spell half of a surrogate pair, which no tokenizer takes.
        text = value.encode("utf-8", "replace").decode()
        return pattern.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text) if pattern else text
    if isinstance(value, dict):
        return {_defused(key, pattern): _defused(item, pattern) for key, item in value.items()}
    if isinstance(value, list):
        return [_defused(item, pattern) for item in value]
    return value


def _envelopes(tools: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    # The package's own type is the bare function, but its renderers print what they get, and the templates they
    # mirror were trained on the whole envelope; those that want the bare function unwrap it.
    return [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools] or None


def _checked(call: ParsedToolCall) -> ParsedCall:
    if call.status in _USABLE and call.name and isinstance(call.arguments, dict):
        try:
            text = wire.dump(call.arguments)
            wire.parse(text)
            return ParsedCall(call.name, text)
        except WireError as error:
            return ParsedCall(call.name, None, f"The arguments cannot be used: {error}.")
    status = call.status if call.status in _FAULTS else ToolCallParseStatus.MALFORMED_STRUCTURE
    return ParsedCall(call.name, None, _FAULTS[status])


def _call_message(call_id: str, call: ParsedCall, raw: str) -> dict[str, Any]:
    arguments = raw if call.arguments is None else call.arguments
    return {"id": call_id, "type": "function", "function": {"name": call.name or "", "arguments": arguments}}
