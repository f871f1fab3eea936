"""What a codec was proven to do for one model, on a battery of conversations, and what happens where it was not.

Each turn of these is sampled as a demonstration has it: its prompt is the conversation before it, what the model would
write is what a warm start trains on, and what follows is appended. Appended ids have to be those of a render of the
whole; where they are not, a row of its own begins there instead.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from renderers.base import ParsedResponse

from agentrft import wire
from agentrft.chat.battery import ASKS, FOUND, ROLLOUTS, TOOLS, USER
from agentrft.errors import UserError

if TYPE_CHECKING:
    from agentrft.chat.codec import AssistantTurn, ChatCodec


@dataclass(frozen=True)
class Situation:
    """Where a rollout goes on: what the turn was, and what follows it.

    Attributes:
        thinks: the turn has reasoning.
        says: it has content beside its calls.
        calls: how many, 2 for several.
        follows: roles of the messages after it, each once: "tool", "user", "tool user".
    """

    thinks: bool
    says: bool
    calls: int
    follows: str

    @classmethod
    def of(cls, parsed: ParsedResponse, new_messages: Sequence[Mapping[str, Any]]) -> "Situation":
        roles = dict.fromkeys(message["role"] for message in new_messages)
        calls = min(len(parsed.tool_calls), 2)
        return cls(bool(parsed.reasoning_content), bool(calls and parsed.content.strip()), calls, " ".join(roles))

    def __str__(self) -> str:
        calls = ("an answer", "a call", "several calls")[self.calls]
        more = [*(["reasoning"] if self.thinks else []), *(["text"] if self.says else [])]
        turn = f"{calls} with {' and '.join(more)}" if more else calls
        what = {"tool": "results", "user": "the user speaks again", "tool user": "results and the user's words"}
        verb = "when" if self.follows == "user" else "at the"
        return f"after {turn}, {verb} {what.get(self.follows, self.follows)}"


@dataclass(frozen=True)
class CodecProof:
    """What is known of a model's codec.

    Attributes:
        family: whose renderer it is: a family of the `renderers` package, "chatml" for ours, or "template".
        renderer: its class.
        proven: where the template keeps what was sampled, so does the codec, and what it appends is what a render of
            the whole conversation has there.
        unproven: what was not, and what happens then; each a sentence.
        forks: where the template writes history anew, so that a rollout's next turn begins a row of its own.
        call_format: how the model writes calls.
        warm_start_refusal: why demonstrations cannot be trained on; None where they can.
        thinks: sampled turns may begin with a thought.
        variables: of the template, which `chat_template_kwargs` sets.
        appended: in how many situations it goes on in the same row.
        blocked: where the codec begins a new row although its renderer would append.
    """

    family: str
    renderer: str
    proven: bool
    unproven: tuple[str, ...]
    forks: tuple[str, ...]
    call_format: str
    warm_start_refusal: str | None
    thinks: bool
    variables: tuple[str, ...]
    appended: int = 0
    blocked: frozenset[Situation] = frozenset()

    @property
    def warm_start(self) -> bool:
        """Whether demonstrations can be trained on."""
        return self.warm_start_refusal is None


@dataclass
class Findings:
    """What the battery showed."""

    appended: set[Situation] = field(default_factory=set)
    rewritten: set[Situation] = field(default_factory=set)
    wrong: set[Situation] = field(default_factory=set)
    missed: set[Situation] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    demonstrations: set[str] = field(default_factory=set)


def examine(codec: "ChatCodec") -> Findings:
    """Sample the battery's turns one after another, as a rollout does."""
    findings = Findings()
    for messages, tools in ROLLOUTS:
        try:
            _examine(codec, messages, tools, findings)
        except UserError as error:
            findings.refused.add(str(error).partition("\n")[0])
    if _control_tokens_get_through(codec):
        findings.refused.add("a tool's result can hold tokens that end a turn")
    return findings


def _examine(codec: "ChatCodec", messages: list[dict[str, Any]], tools: list[Any], findings: Findings) -> None:
    row: list[int] | None = None
    if not codec.one_call:
        messages = codec.demonstration(messages)
    for turn in (index for index, message in enumerate(messages) if message["role"] == "assistant"):
        if codec.one_call and len(messages[turn].get("tool_calls") or []) > 1:
            findings.rewritten.add(
                Situation("reasoning_content" in messages[turn], bool(messages[turn]["content"]), 2, "tool")
            )
            row = None
            continue
        prompt = row or codec.prompt_ids(messages[:turn], tools)
        try:
            sampled = codec.sampled_ids(messages, turn, tools)
        except UserError as error:
            findings.demonstrations.add(str(error).partition("\n")[0])
            return
        if difference := _misread(codec, prompt, sampled, messages[turn], tools):
            findings.demonstrations.add(difference)
        following = list(itertools.takewhile(lambda one: one["role"] != "assistant", messages[turn + 1 :]))
        if not following:
            return
        appended = codec.append(prompt, sampled, following, tools)
        situation = codec.situation(prompt, sampled, following, tools)
        whole = codec.prompt_ids(messages[: turn + 1 + len(following)], tools)
        kept = codec.text_of(whole).startswith(codec.text_of([*prompt, *sampled]))
        if appended is None:
            (findings.missed if kept else findings.rewritten).add(situation)
        elif continues(codec, [*prompt, *sampled], appended, whole):
            findings.appended.add(situation)
        else:
            (findings.wrong if kept else findings.rewritten).add(situation)
            codec.block(situation)
            appended = None
        row = None if appended is None else [*prompt, *sampled, *appended]


def continues(codec: "ChatCodec", before: list[int], appended: list[int], whole: list[int]) -> bool:
    """Whether what was appended is what a render of the whole conversation has there, behind the same text.

    Sampled ids may be others than a tokenizer gives the same text.
    """
    place = len(whole) - len(appended)
    return whole[place:] == appended and codec.text_of(whole[:place]) == codec.text_of(before)


def _misread(
    codec: "ChatCodec", prompt: list[int], sampled: list[int], message: dict[str, Any], tools: list[Any]
) -> str | None:
    if not sampled:
        return "no token of a demonstration's turn is the model's"
    if sampled[-1] not in codec.stop_ids:
        return "a demonstration's turn does not end in a token at which generation stops"
    return misread(codec.parse(sampled, prompt, tools, new_call_id=lambda: "call_1"), message)


def misread(read: "AssistantTurn", message: Mapping[str, Any]) -> str | None:
    """How a turn that was read back differs from the message that it was; None where it does not."""
    expected = [call["function"] for call in message.get("tool_calls") or []]
    if [call.name for call in read.tool_calls] != [function["name"] for function in expected]:
        return "calls are not read back"
    if [_object(call.arguments) for call in read.tool_calls] != [_object(one["arguments"]) for one in expected]:
        return "a call's arguments are not read back as they were"
    if not expected and read.content.strip() != (message.get("content") or "").strip():
        return "an answer is not read back as it was"
    return None


def _object(arguments: Any) -> Any:
    return wire.parse(arguments) if isinstance(arguments, str) else arguments


def _control_tokens_get_through(codec: "ChatCodec") -> bool:
    """Whether texts of control tokens in a tool's result become such tokens."""

    def stops(content: str) -> int:
        ids = codec.prompt_ids([USER, ASKS, {**FOUND, "content": content}], TOOLS)
        return sum(token_id in codec.stop_ids for token_id in ids)

    try:
        return stops(" ".join(codec.text_of([token_id]) for token_id in codec.stop_ids)) != stops("a")
    except UserError:
        return False


def prove(codec: "ChatCodec", *, family: str, call_format: str, thinks: bool, variables: Sequence[str]) -> CodecProof:
    """The proof of a codec, which from then on appends nothing in situations where that was wrong."""
    findings = examine(codec)
    unproven = [f"{situation}: each next turn becomes a row of its own" for situation in _ordered(findings.wrong)]
    unproven += [f"{refusal}" for refusal in sorted(findings.refused)]
    refusal = next(iter(sorted(findings.demonstrations)), None)
    return CodecProof(
        family=family,
        renderer=type(codec.renderer).__name__,
        proven=not unproven and refusal is None,
        unproven=tuple(unproven),
        forks=tuple(str(situation) for situation in _ordered((findings.rewritten | findings.missed) - findings.wrong)),
        call_format=call_format,
        warm_start_refusal=refusal,
        thinks=thinks,
        variables=tuple(variables),
        appended=len(findings.appended - codec.blocked),
        blocked=codec.blocked,
    )


def _ordered(situations: set[Situation]) -> list[Situation]:
    return sorted(situations, key=lambda one: (one.follows, one.calls, one.thinks, one.says))
