"""Chat messages as files and clients have them, brought to the one shape that everything behind reads.

In that shape no key is null, content is text (text parts are joined), a call's arguments are the JSON text of an
object, and a tool's message has the name of the function that it is the result of.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from agentrft import wire
from agentrft.call_arguments import ArgumentsError, read_arguments
from agentrft.wire import is_list, is_object

ROLES = ("system", "developer", "user", "assistant", "tool")
BETWEEN_PARTS = "\n"
MAX_QUOTED_CHARACTERS = 80
# What OpenAI's clients call text, by the part's type: the key that holds it.
_TEXT_KEYS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "reasoning_text": "text",
    "refusal": "refusal",
}


class PartFault(ValueError):
    """A part of a message's content that is not text.

    Attributes:
        place: of it, in the content, as `[0].type`.
        problem: in words.
    """

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(problem)
        self.place = place
        self.problem = problem


def joined_text(parts: Sequence[Any], types: Collection[str]) -> str | None:
    """Content parts as one text, a line break between two. None without any part.

    Args:
        types: of parts that are taken: some of `text`, `input_text`, `output_text`, `refusal`.

    Raises:
        PartFault: a part is of another type, or has no text.
    """
    texts: list[str] = []
    for index, part in enumerate(parts):
        if not is_object(part):
            raise PartFault(f"[{index}]", "expected an object with 'type' and 'text'")
        kind = part.get("type")
        if not isinstance(kind, str) or kind not in types:
            shown = f"'{kind}'" if isinstance(kind, str) else "missing"
            raise PartFault(f"[{index}].type", f"{shown}; only text is supported: {', '.join(sorted(types))}")
        text = part.get(_TEXT_KEYS[kind])
        if not isinstance(text, str):
            raise PartFault(f"[{index}].{_TEXT_KEYS[kind]}", "expected a string")
        texts.append(text)
    return BETWEEN_PARTS.join(texts) if texts else None


def read_messages(given: Any, field: str = "messages") -> tuple[list[dict[str, Any]], list[str]]:
    """A row's messages in their one shape, and their faults, each with its field. With faults there are no messages.

    Args:
        field: of the row, that they are in.
    """
    if not is_list(given) or not given:
        return [], [f"{field}: expected a non-empty list of chat messages"]
    messages: list[dict[str, Any]] = []
    faults: list[str] = []
    for index, message in enumerate(given):
        if is_object(message):
            messages.append(_read_message(message, f"{field}[{index}]", faults))
        else:
            faults.append(f"{field}[{index}]: expected an object with 'role' and 'content'")
    faults = faults or _result_faults(messages, field)
    return ([] if faults else messages), faults


def demonstration_faults(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """What would be trained on as nonsense, in the messages of a demonstration that `read_messages` returned."""
    if messages[-1]["role"] != "assistant":
        return ["messages: a demonstration must end in an assistant's message"]
    if all(message["role"] == "assistant" for message in messages):
        return ["messages: nothing comes before the assistant's message; a demonstration begins with its prompt"]
    faults = empty_turns(messages, "messages")
    if not any(is_trained_on(message) for message in messages):
        faults.append("messages: every assistant's message has weight 0, so there is nothing to train on")
    return faults


def empty_turns(messages: Sequence[Mapping[str, Any]], field: str) -> list[str]:
    """Of messages to be trained on, those in which nothing is said and nothing called, each as a fault."""
    return [
        f"{field}[{index}].content: an assistant's message without text or calls would be trained on as an empty turn"
        for index, message in enumerate(messages)
        if is_trained_on(message) and not message["content"].strip() and not message.get("tool_calls")
    ]


def is_trained_on(message: Mapping[str, Any]) -> bool:
    """Whether a message of a demonstration is the agent's, and has not the `weight` 0 that leaves it out."""
    return message["role"] == "assistant" and message.get("weight") != 0


def _read_message(given: Mapping[str, Any], where: str, faults: list[str]) -> dict[str, Any]:
    message = {key: value for key, value in given.items() if value is not None}
    role = message.get("role")
    if role not in ROLES:
        legacy = "; the legacy role of results is 'tool' now, with a tool_call_id" if role == "function" else ""
        faults.append(f"{where}.role: expected one of {', '.join(ROLES)}, found {_quoted(role)}{legacy}")
    if "function_call" in message:
        faults.append(f"{where}.function_call: this legacy form of a call is not read; write it as `tool_calls`")
    calls = message.pop("tool_calls", None)
    if calls:
        read = _read_calls(calls, f"{where}.tool_calls", faults)
        if role == "assistant":
            message["tool_calls"] = read
        elif role in ROLES:
            faults.append(f"{where}.tool_calls: a message of role '{role}' makes no calls")
    elif calls is not None and not is_list(calls):
        faults.append(f"{where}.tool_calls: expected a list")
    for key in ("name", "tool_call_id", "reasoning_content"):
        if not isinstance(message.get(key, ""), str):
            faults.append(f"{where}.{key}: expected a string, found {_quoted(message[key])}")
    if role == "assistant" and message.get("weight", 1) not in (0, 1):
        faults.append(f"{where}.weight: expected 0 or 1, found {_quoted(message['weight'])}")
    # What the assistant said instead of content.
    refusal = message.pop("refusal", None) if role == "assistant" else None
    if not isinstance(refusal, str | None):
        faults.append(f"{where}.refusal: expected a string, found {_quoted(refusal)}")
    needs_text = role != "assistant" or (not calls and refusal is None)
    message["content"] = _read_content(message, f"{where}.content", faults, needs_text=needs_text) or refusal or ""
    return message


def _read_content(message: Mapping[str, Any], where: str, faults: list[str], *, needs_text: bool) -> str:
    content = message.get("content")
    if is_list(content):
        types = ("text", "refusal") if message.get("role") == "assistant" else ("text",)
        try:
            # An empty list is no content.
            content = joined_text(content, types)
        except PartFault as fault:
            faults.append(f"{where}{fault.place}: {fault.problem}")
            return ""
    if isinstance(content, str):
        return content
    # A tool may have nothing to say.
    is_empty_result = message.get("role") == "tool" and message.get("content") == []
    if content is not None or (needs_text and not is_empty_result):
        faults.append(f"{where}: expected a string or text parts, found {type(content).__name__}")
    return ""


def _read_calls(given: Any, where: str, faults: list[str]) -> list[dict[str, Any]]:
    if not is_list(given):
        faults.append(f"{where}: expected a list")
        return []
    calls: list[dict[str, Any]] = []
    seen: set[str] = set()
    for index, call in enumerate(given):
        at = f"{where}[{index}]"
        kind = call.get("type", "function") if is_object(call) else "function"
        function = call.get("function") if is_object(call) else None
        if kind != "function":
            faults.append(f"{at}.type: expected 'function', found {_quoted(kind)}")
        elif not is_object(function) or not isinstance(function.get("name"), str) or not function["name"]:
            faults.append(f"{at}.function.name: expected a string")
        elif "arguments" not in function:
            faults.append(f"{at}.function.arguments: missing; expected a JSON string or an object")
        else:
            call_id = call.get("id")
            if call_id is not None and not isinstance(call_id, str):
                faults.append(f"{at}.id: expected a string, found {_quoted(call_id)}")
            elif call_id in seen:
                faults.append(f"{at}.id: {_quoted(call_id)} is there twice")
            seen |= {call_id} if isinstance(call_id, str) else set()
            try:
                arguments = wire.dump(read_arguments(function["arguments"]))
            except (ArgumentsError, wire.WireError) as error:
                faults.append(f"{at}.function.arguments: {error}")
            else:
                calls.append({**call, "function": {**function, "arguments": arguments}})
    return calls


def _result_faults(messages: Sequence[dict[str, Any]], field: str) -> list[str]:
    """Calls without a result before the conversation goes on, and results without a call.

    Gives each result the name of its function.
    """
    faults: list[str] = []
    # Calls without a result so far, with their place.
    waiting: list[tuple[str, dict[str, Any]]] = []
    for index, message in enumerate(messages):
        where = f"{field}[{index}]"
        if message["role"] == "tool":
            found = _called(message, [call for _, call in waiting])
            if found is None:
                faults.append(f"{where}.tool_call_id: {_unmatched(message)}")
                continue
            message["name"] = waiting.pop(found)[1]["function"]["name"]
            continue
        faults += [f"{place}: there is no result of it before {where}" for place, _ in waiting]
        calls = message.get("tool_calls", [])
        waiting = [(f"{where}.tool_calls[{number}]", call) for number, call in enumerate(calls)]
    if messages[-1]["role"] != "assistant":
        faults += [f"{place}: there is no result of it" for place, _ in waiting]
    return faults


def _called(result: Mapping[str, Any], calls: Sequence[Mapping[str, Any]]) -> int | None:
    """Which of the calls a result is of; where no id is given on either side, the first."""
    wanted = result.get("tool_call_id")
    return next((index for index, call in enumerate(calls) if call.get("id") == wanted), None)


def _unmatched(result: Mapping[str, Any]) -> str:
    if "tool_call_id" not in result:
        return "missing; it says which call this is the result of"
    return f"no call {_quoted(result['tool_call_id'])} waits for a result in the assistant's message before it"


def _quoted(value: Any) -> str:
    """A faulty value as an error shows it."""
    text = wire.clean_text(repr(value))
    return text if len(text) <= MAX_QUOTED_CHARACTERS else f"{text[:MAX_QUOTED_CHARACTERS]}…"
