"""Conversations as one chat template takes them: what it refuses or leaves out is found by asking it.

What a template without tools needs is written as our ChatML convention has it: the tools in the system's message, calls
as `<tool_call>` text, results in the user's turn. Where it shows calls and no tools, they are told with such a call.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jinja2

from agentrft import wire
from agentrft.chat.call_formats.call_ids import any_id, named, nine
from agentrft.chat.call_formats.hermes_text import Hermes
from agentrft.chat.call_formats.json_calls import PHI_4
from agentrft.chat.call_formats.pythonic import LFM2
from agentrft.chat.hermes import INSTRUCTION, describe_tools
from agentrft.chat.memo import Memo
from agentrft.chat.probes import FIRST, SECOND, THIRD, TOOL, answer, called, result, user
from agentrft.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]

# Where templates look for thoughts: the first is what everybody else calls them.
_THOUGHT_KEYS = ("reasoning_content", "thinking", "reasoning")
# Renderings that are kept: a demonstration asks for the same several times.
_TEXTS = 64


class ConversationTemplate:
    """A tokenizer's chat template, with what it takes of a conversation.

    Args:
        tokenizer: with the template.
        variables: for the template, such as `enable_thinking`.

    Attributes:
        takes_tools: it shows the tools that it is given; else they are told in the system's message.
        writes_calls: it shows calls; else they are part of the answer's text, written by `writer`.
        writer: the form of calls where the template leaves them to the model; None for a form that is not known.
        one_call: it takes a turn with one call, and refuses or loses the second; calls are shown one after another.
        thought_key: under which it shows an assistant's thoughts; None where it shows none.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerFast", variables: Mapping[str, Any] | None = None) -> None:
        self._tokenizer = tokenizer
        self._variables = dict(variables or {})
        self._texts: Memo[str] = Memo(_TEXTS)
        self.takes_tools = self.writes_calls = self._takes_results = self._takes_system = True
        self.one_call = self._arguments_as_text = self._merges_users = self._joins_thoughts = self._says_apart = False
        self._id_of = any_id
        self.thought_key: str | None = None
        self.writer: Any = None
        self._tools_in_system = False
        self._instruction = INSTRUCTION
        self._find_out()

    def text(self, messages: Messages, tools: Tools | None = None, add_generation_prompt: bool = False) -> str:
        """What the template makes of a conversation.

        Raises:
            UserError: it refuses it.
        """
        shaped = self._shaped(self.split(messages)[0], tools)
        shown = list(tools) if tools and self.takes_tools and not self._tools_in_system else None
        key = json.dumps([shaped, shown, add_generation_prompt], default=repr)
        return self._texts.get(key, lambda: self._rendered(shaped, shown, add_generation_prompt))

    def _rendered(self, messages: list[dict[str, Any]], tools: Any, add_generation_prompt: bool) -> str:
        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    tools=tools,
                    add_generation_prompt=add_generation_prompt,
                    tokenize=False,
                    **self._variables,
                )
            )
        # Templates are programs: whatever they cannot add, index or iterate over ends so.
        except (jinja2.TemplateError, TypeError, ValueError, LookupError, AttributeError) as error:
            raise UserError(
                f"The model's chat template refuses a conversation: {error}",
                "Write it as this model's conversations are: its roles, their order, and calls with their results.",
            ) from error

    def split(self, messages: Messages) -> tuple[list[dict[str, Any]], list[int]]:
        """The messages with at most as many calls a turn as the template takes, and of which each is a part."""
        found: list[tuple[int, dict[str, Any]]] = []
        waiting: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for index, message in enumerate(messages):
            calls = message.get("tool_calls") or []
            if not self.one_call or len(calls) < 2:
                if message["role"] == "tool" and message.get("tool_call_id") in waiting:
                    continue
                found.append((index, dict(message)))
                continue
            results = {
                one.get("tool_call_id"): (place, one)
                for place, one in enumerate(messages[index + 1 :], index + 1)
                if one["role"] == "tool"
            }
            for number, call in enumerate(calls):
                part = {**message, "content": "" if number else message.get("content"), "tool_calls": [call]}
                if number:
                    part.pop("reasoning_content", None)
                found.append((index, part))
                if call.get("id") in results:
                    waiting[call["id"]] = results[call["id"]]
                    place, one = results[call["id"]]
                    found.append((place, dict(one)))
        return [message for _, message in found], [index for index, _ in found]

    def with_native_ids(self, calls: Sequence[str | None], messages: Messages) -> list[dict[str, Any]]:
        """The messages with the first results naming the calls that they answer as the model did."""
        answered = [dict(message) for message in messages]
        for call_id, message in zip(calls, answered, strict=False):
            if message["role"] != "tool":
                break
            if call_id and self._id_of is not any_id:
                message["tool_call_id"] = call_id
        return answered

    # What the template takes

    def _find_out(self) -> None:
        if SECOND not in self.text([user(), answer()]):
            raise UserError(
                "The chat template shows no answer of an assistant.",
                "Use the model's instruct version, or put a chat_template.jinja that does beside its tokenizer.",
            )
        self._takes_system = self._shows([{"role": "system", "content": THIRD}, user()], THIRD)
        self._merges_users = not self._shows([user(), user(SECOND)], FIRST, SECOND)
        self.takes_tools = self._shows([user("Hm.")], FIRST, tools=[TOOL])
        if not self.takes_tools:
            self.takes_tools = self._tools_in_system = True
            if not self._shows([user("Hm.")], FIRST, tools=[TOOL]):
                self.takes_tools = self._tools_in_system = False
        self.writes_calls = self._finds_calls()
        if not self.writes_calls:
            self.writer = self._found_writer()
        elif not self.takes_tools:
            self._instruction = f"Call tools as {self._example()}. Tools:"
        self._takes_results = (self.takes_tools or self.writes_calls) and self._shows(
            [user("Hm."), called(), result(THIRD)], THIRD, tools=[TOOL]
        )
        self.thought_key = next((key for key in _THOUGHT_KEYS if self._shows_thought(key)), None)
        self._says_apart = self.writes_calls and self._moves_content()
        if self.thought_key and self.writes_calls:
            both = called(content=FIRST, **{self.thought_key: THIRD})
            self._joins_thoughts = not self._shows([user("Hm."), both], THIRD, tools=[TOOL])

    def _found_writer(self) -> Any:
        """The form that the tokenizer has tokens for, or that the template tells the model of; else our convention."""
        vocabulary = self._tokenizer.get_vocab()
        for form in (LFM2, PHI_4):
            if self.takes_tools and {form.opening, form.closing} <= vocabulary.keys():
                return form
        return Hermes() if not self.takes_tools or self._shows([user("Hm.")], "<tool_call>", tools=[TOOL]) else None

    def _example(self) -> str:
        """A call as the template writes it."""
        prompt = self.text([user("Hm.")], None, True)
        shown = self.text([user("Hm."), called({"KEY": "VALUE"}, name="NAME")])
        differs = (place for place, (a, b) in enumerate(zip(shown, prompt, strict=False)) if a != b)
        return shown[next(differs, len(prompt)) :].removesuffix(str(self._tokenizer.eos_token or "")).strip()

    def _finds_calls(self) -> bool:
        """Whether it shows calls, and how it wants them: their ids, and their arguments as objects or as JSON text."""
        one = [user("Hm."), called(name=THIRD)]
        as_python = f"{{'{FIRST}': '{SECOND}'}}"
        for self._id_of in (any_id, nine, named):
            for self._arguments_as_text in (False, True):
                if self._shows(one, THIRD, SECOND, tools=[TOOL]) and as_python not in self.text(one, [TOOL]):
                    two = [user("Hm."), called({FIRST: THIRD}, {FIRST: SECOND})]
                    self.one_call = not self._shows(two, THIRD, SECOND, tools=[TOOL])
                    return True
        self._id_of, self._arguments_as_text = any_id, False
        return False

    def _moves_content(self) -> bool:
        """Whether it shows what was said before a call behind that, and in its place where that is a message before."""
        told = [user("Hm."), called(content=THIRD)]
        shown = self.text(told, [TOOL])
        if THIRD not in shown or shown.index(THIRD) < shown.index(SECOND):
            return False
        self._says_apart = True
        return self._says_before_calling(told)

    def _says_before_calling(self, told: Messages) -> bool:
        said, _, rest = self.text(told, [TOOL]).partition(THIRD)
        return said == self.text(told[:1], [TOOL], True) and SECOND in rest

    def _shows_thought(self, key: str) -> bool:
        """Some show what was thought before a call, and nothing of what was before an answer."""
        of_call = [user("Hm."), called(**{key: THIRD})]
        return self._shows([user(), answer(**{key: THIRD})], THIRD) or (
            self.writes_calls and self._shows(of_call, THIRD, tools=[TOOL])
        )

    def _shows(self, messages: Messages, *texts: str, tools: Tools | None = None) -> bool:
        try:
            shown = self.text(messages, tools)
        except UserError:
            return False
        return all(text in shown for text in texts)

    # How it is given what it takes

    def _shaped(self, messages: Sequence[dict[str, Any]], tools: Tools | None) -> list[dict[str, Any]]:
        if tools and (not self.takes_tools or self._tools_in_system):
            messages = self._with_tools(messages, tools)
        shaped: list[dict[str, Any]] = []
        names: dict[str, str] = {}
        for message in messages:
            if message["role"] == "assistant":
                if self._says_apart and message.get("tool_calls") and message.get("content"):
                    said = {key: value for key, value in message.items() if key != "tool_calls"}
                    shaped.append(self._assistant(said, names))
                    message = {**message, "content": "", "reasoning_content": None}
                shaped.append(self._assistant(message, names))
            elif message["role"] == "tool" and not self._takes_results:
                told = f"<tool_response>\n{message.get('content') or ''}\n</tool_response>"
                if shaped and shaped[-1].get("is_result"):
                    shaped[-1]["content"] += f"\n{told}"
                else:
                    shaped.append({"role": "user", "content": told, "is_result": True})
            elif message["role"] == "tool":
                call_id = message.get("tool_call_id")
                shaped.append({**message, "tool_call_id": names.get(call_id or "", call_id)})
            else:
                shaped.append(message)
        return self._alternating(shaped)

    def _with_tools(self, messages: Sequence[dict[str, Any]], tools: Tools) -> list[dict[str, Any]]:
        """The tools in the system's message: as its text, or under a key, as Phi-4-mini's template wants them."""
        first, rest = (messages[0], messages[1:]) if messages[:1] and _is_system(messages[0]) else ({}, messages)
        content = str(first.get("content") or "")
        if self._tools_in_system:
            functions = [tool.get("function", tool) for tool in tools]
            return [{"role": "system", "content": content, "tools": wire.dump(functions)}, *rest]
        told = describe_tools(tools, self._instruction)
        return [{"role": "system", "content": f"{content}\n\n{told}" if content else told}, *rest]

    def _assistant(self, message: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
        """An assistant's message; `names` gets the ids that its calls are shown with."""
        shaped = dict(message)
        calls = shaped.pop("tool_calls", None) or []
        thoughts = shaped.get("reasoning_content")
        if thoughts is None:
            shaped.pop("reasoning_content", None)
        if thoughts and self.thought_key:
            shaped[self.thought_key] = thoughts
            if calls and self._joins_thoughts and shaped.get("content"):
                shaped[self.thought_key], shaped["content"] = f"{thoughts}\n{shaped['content']}", ""
        if calls and not self.writes_calls:
            shaped["content"] = (self.writer or Hermes()).write(shaped.get("content") or "", calls)
        elif calls:
            shaped["tool_calls"] = [self._call(call, names) for call in calls]
        return shaped

    def _call(self, call: Mapping[str, Any], names: dict[str, str]) -> dict[str, Any]:
        function = dict(call["function"])
        arguments = function.get("arguments")
        if self._arguments_as_text and not isinstance(arguments, str):
            function["arguments"] = wire.dump(arguments)
        given = str(call.get("id") or f"call_{len(names) + 1}")
        names[given] = self._id_of(given, str(function["name"]), len(names))
        return {**call, "id": names[given], "function": function}

    def _alternating(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        shaped: list[dict[str, Any]] = []
        for message in messages:
            message.pop("is_result", None)
            before = shaped[-1] if shaped else None
            if not self._takes_system and _is_system(message) and before is None:
                shaped.append({**message, "role": "user", "is_system": True})
            elif (
                before
                and message["role"] == "user" == before["role"]
                and (self._merges_users or before.get("is_system"))
            ):
                shaped[-1] = {**message, "content": f"{before['content']}\n\n{message['content']}"}
            else:
                shaped.append(message)
        for message in shaped:
            message.pop("is_system", None)
        return shaped


def _is_system(message: Mapping[str, Any]) -> bool:
    return message["role"] in ("system", "developer")
