"""Responses: a request's fields for text and function calls, and what it asks of a turn."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from agentrft.server.inference.chat_request import constraints, shown_tools, with_tool_names
from agentrft.server.inference.constraints import OutputFormat, ToolRule
from agentrft.server.inference.errors import FieldFault, invalid
from agentrft.server.inference.fields import (
    Choice,
    CommonRequest,
    Function,
    FunctionName,
    RequestModel,
    SchemaFormat,
    argument_text,
    checked_format,
    checked_schemas,
    new_seed,
    text_of,
)
from agentrft.server.inference.turn_sampler import TurnSettings

_NEEDED = {
    "message": ("role", "content"),
    "function_call": ("call_id", "name"),
    "function_call_output": ("call_id", "output"),
}
_TEXTS = ("input_text", "output_text")


class Item(RequestModel):
    """One item of `input`, also as an answer's `output` has it: `id` and `status` say nothing here."""

    type: Literal["message", "function_call", "function_call_output"] = "message"
    role: Literal["developer", "system", "user", "assistant"] | None = None
    content: str | None = None
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    output: str | None = None
    id: str | None = None
    status: str | None = None

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: Any, info: ValidationInfo) -> Any:
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
        if self.type != "function_call" and self.arguments is not None:
            raise FieldFault(f"an item of type '{self.type}' has no such field", ".arguments")
        for field in ("role", "content", "call_id", "name", "output"):
            given, needed = getattr(self, field) is not None, field in _NEEDED[self.type]
            if given != needed:
                says = "needs it" if needed else "has no such field"
                raise FieldFault(f"an item of type '{self.type}' {says}", f".{field}")
        return self


class FlatTool(Function):
    type: Literal["function"]


class FlatChoice(RequestModel):
    type: Literal["function"]
    name: FunctionName


class TextFormat(RequestModel):
    """`name`, `schema` and `strict` go with a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(RequestModel):
    format: TextFormat = TextFormat(type="text")


class StreamOptions(RequestModel):
    """`include_obfuscation` asks for padding against eavesdroppers; over loopback there are none."""

    include_obfuscation: bool = False


class ResponsesRequest(CommonRequest):
    """The body of `POST /v1/responses`. Nothing is stored: `store` makes no difference."""

    input: str | list[Item]
    instructions: str = ""
    tools: list[FlatTool] = Field(default=[])
    tool_choice: Choice | FlatChoice = "auto"
    max_output_tokens: int | None = Field(default=None, gt=0)
    text: TextOptions = TextOptions()
    stream_options: StreamOptions = StreamOptions()
    truncation: Literal["disabled"] = "disabled"
    background: Literal[False] = False
    include: list[str] = Field(default=[], max_length=0)

    def settings(self) -> TurnSettings:
        """What is asked of a turn.

        Raises:
            ApiError: 400, for fields that do not go together.
        """
        functions = checked_schemas(list(self.tools), "tools")
        choice = self.tool_choice
        name = choice.name if isinstance(choice, FlatChoice) else None
        rule = ToolRule("named" if isinstance(choice, FlatChoice) else choice, name)
        return TurnSettings(
            messages=self._messages(),
            tools=shown_tools(functions, rule),
            constraints=constraints(functions, rule, self._output()),
            parallel_tool_calls=self.parallel_tool_calls,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_output_tokens,
            stop=(),
            seed=new_seed(),
            messages_field="input",
        )

    def _messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = []
        if self.instructions:
            messages.append({"role": "system", "content": self.instructions})
        if isinstance(self.input, str):
            return [*messages, {"role": "user", "content": self.input}]
        for item in self.input:
            _append(messages, item)
        if not self.input:
            raise invalid("There is nothing to answer.", "input")
        return with_tool_names(messages, "input")

    def _output(self) -> OutputFormat | None:
        given = self.text.format
        schema = given.schema_
        if given.type != "json_schema":
            if given.name or given.description or given.strict is not None or schema is not None:
                raise invalid("A schema goes with type 'json_schema'.", "text.format.type")
            return OutputFormat(field="text.format") if given.type == "json_object" else None
        if schema is None or given.name is None:
            raise invalid("Type 'json_schema' needs a name and a schema.", "text.format")
        named = SchemaFormat(name=given.name, description=given.description, schema=schema)
        checked_format(named, "text.format.schema")
        return OutputFormat(schema, given.name, given.description or "", "text.format")


def _append(messages: list[dict[str, Any]], item: Item) -> None:
    """Add an item; the calls of one turn become one message, with the text before them."""
    if item.type == "message":
        messages.append({"role": item.role, "content": item.content})
    elif item.type == "function_call_output":
        messages.append({"role": "tool", "tool_call_id": item.call_id, "content": item.output})
    else:
        if not messages or messages[-1]["role"] != "assistant":
            messages.append({"role": "assistant", "content": ""})
        function = {"name": item.name, "arguments": item.arguments or ""}
        call = {"id": item.call_id, "type": "function", "function": function}
        messages[-1].setdefault("tool_calls", []).append(call)
