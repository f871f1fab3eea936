"""The items of a response's `input`, and the messages that the model sees of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from agentrft.server.inference.errors import FieldFault
from agentrft.server.inference.field_rules import Ignored, RequestModel
from agentrft.server.inference.fields import argument_text, text_of
from agentrft.server.inference.thoughts import unpacked

_NEEDED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name"),
    "function_call_output": ("call_id", "output"),
    "reasoning": (),
}
_MAY_HAVE = {
    "function_call": ("arguments",),
    "function_call_output": ("name",),
    "reasoning": ("content", "encrypted_content", "summary"),
}
_TEXTS = ("input_text", "output_text")
_OF_OTHER_TOOLS = Ignored("it belongs to tools that are not here")


class Item(RequestModel):
    """One item of `input`, also as an answer's `output` has it: `id` and `status` say nothing here."""

    type: Literal["message", "function_call", "function_call_output", "reasoning"] = "message"
    role: Literal["developer", "system", "user", "assistant"] | None = None
    content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | None = None
    encrypted_content: str | None = None
    summary: list[Any] | None = None
    id: str | None = None
    status: str | None = None
    phase: Annotated[str | None, Ignored("the model is not shown it")] = None
    namespace: Annotated[str | None, _OF_OTHER_TOOLS] = None
    caller: Annotated[dict[str, Any] | None, Ignored("all calls are direct", ({"type": "direct"},))] = None
    async_: Annotated[bool | None, Ignored("a call's output is waited for", (False,))] = Field(
        default=None, alias="async"
    )

    @field_validator("type", mode="before")
    @classmethod
    def _refuse_other_kinds(cls, kind: Any) -> Any:
        if isinstance(kind, str) and kind not in _NEEDED:
            raise ValueError(f"'{kind}': only {', '.join(_NEEDED)} and item_reference are taken here")
        return kind

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: Any, info: ValidationInfo) -> Any:
        if info.data.get("type") == "reasoning":
            return "" if content == [] else text_of(content, ("reasoning_text",))
        return text_of(content, (*_TEXTS, "refusal") if info.data.get("role") == "assistant" else _TEXTS)

    @field_validator("output", mode="before")
    @classmethod
    def _join_output(cls, output: Any) -> Any:
        # A tool may have nothing to say.
        return "" if output == [] else text_of(output, _TEXTS)

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, arguments: Any) -> Any:
        return argument_text(arguments)

    @model_validator(mode="after")
    def _check_fields(self) -> "Item":
        needed, optional = _NEEDED[self.type], _MAY_HAVE.get(self.type, ())
        for field in ("role", "content", "call_id", "name", "arguments", "output", "encrypted_content", "summary"):
            given = getattr(self, field) is not None
            if given and field not in (*needed, *optional):
                raise FieldFault(f"an item of type '{self.type}' has no such field", f".{field}")
            if not given and field in needed:
                raise FieldFault(f"an item of type '{self.type}' needs it", f".{field}")
        return self

    @property
    def thoughts(self) -> str:
        """The text of a reasoning item; empty where it has none that can be read here."""
        return self.content or unpacked(self.encrypted_content or "") or ""

    @property
    def ignored(self) -> list[str]:
        """See `RequestModel`; thoughts that cannot be read here, such as another server's, are among them."""
        lost = [] if self.thoughts else [name for name in ("encrypted_content", "summary") if getattr(self, name)]
        return [*super().ignored, *lost]


def messages_of(items: list[Item]) -> list[dict[str, Any]]:
    """The items in Chat Completions shape; thoughts, text and calls of one turn become one message."""
    messages: list[dict[str, Any]] = []
    thoughts = ""
    for item in items:
        if item.type == "reasoning":
            thoughts = "\n".join(filter(None, (thoughts, item.thoughts)))
            continue
        _append(messages, item, thoughts)
        thoughts = ""
    return messages


def _append(messages: list[dict[str, Any]], item: Item, thoughts: str) -> None:
    if item.type == "message":
        messages.append({"role": item.role, "content": item.content})
    elif item.type == "function_call_output":
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
    else:
        if thoughts or not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        function = {"name": item.name, "arguments": item.arguments or ""}
        call = {"id": item.call_id, "type": "function", "function": function}
        messages[-1].setdefault("tool_calls", []).append(call)
    if thoughts and messages[-1]["role"] == "assistant":
        messages[-1]["reasoning_content"] = thoughts
