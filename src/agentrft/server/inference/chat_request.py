"""Chat Completions: a request's fields, and what it asks of a turn."""

from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from agentrft.server.inference.constraints import Constraints, OutputFormat, ToolRule
from agentrft.server.inference.errors import FieldFault, invalid
from agentrft.server.inference.field_rules import Ignored, Refused, RequestModel
from agentrft.server.inference.fields import (
    EFFORT,
    MAX_CHOICES,
    OBFUSCATION,
    VERBOSITY,
    Choice,
    CommonRequest,
    Function,
    FunctionName,
    SchemaFormat,
    argument_text,
    checked_format,
    checked_schemas,
    new_seed,
    text_of,
)
from agentrft.server.inference.template_variables import TemplateWish
from agentrft.server.inference.turn_sampler import TurnSettings

SAMPLING = Refused("it would change what the model samples, which the engine cannot", (0,))
# Beside `role`, `content` and `name`.
_FIELDS_OF = {
    "assistant": {"tool_calls", "reasoning_content", "refusal"},
    "tool": {"tool_call_id"},
}


class CalledFunction(RequestModel):
    """`arguments` is JSON as a model wrote it; none at all are a call without arguments."""

    name: str
    arguments: str = ""

    @field_validator("arguments", mode="before")
    @classmethod
    def _as_text(cls, arguments: Any) -> Any:
        return argument_text(arguments)


class Call(RequestModel):
    id: str
    type: Literal["function"]
    function: CalledFunction


class Message(RequestModel):
    """One message, also as an answer has it. `refusal` is what the assistant said instead of `content`."""

    role: Literal["developer", "system", "user", "assistant", "tool"]
    content: str | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = Field(default=None, max_length=0)
    audio: Annotated[Any, Refused("answers are text")] = None
    function_call: Annotated[Any, Refused("this older form of a call is `tool_calls` now")] = None

    @field_validator("content", mode="before")
    @classmethod
    def _join_parts(cls, content: Any, info: ValidationInfo) -> Any:
        role = info.data.get("role")
        # A tool may have nothing to say.
        if role == "tool" and content == []:
            return ""
        return text_of(content, ("text", "refusal") if role == "assistant" else ("text",))

    @model_validator(mode="after")
    def _check_role(self) -> "Message":
        fields = ("tool_calls", "tool_call_id", "reasoning_content", "refusal")
        given = {name for name in fields if getattr(self, name)}
        wrong = sorted(given - _FIELDS_OF.get(self.role, set()))
        if wrong:
            raise FieldFault(f"a message of role '{self.role}' has no such field", f".{wrong[0]}")
        if self.role == "tool" and self.tool_call_id is None:
            raise FieldFault("a tool's message needs it", ".tool_call_id")
        if self.content is None and self.refusal is None and not self.tool_calls:
            raise FieldFault(f"a message of role '{self.role}' needs text", ".content")
        return self


class NamedFunction(RequestModel):
    name: FunctionName


class NamedChoice(RequestModel):
    type: Literal["function"]
    function: NamedFunction


class AllowedFunctions(RequestModel):
    mode: Literal["auto", "required"]
    tools: list[NamedChoice] = Field(min_length=1)


class AllowedChoice(RequestModel):
    """Only some of the tools may be called."""

    type: Literal["allowed_tools"]
    allowed_tools: AllowedFunctions


class Tool(RequestModel):
    type: Literal["function"]
    function: Function


class ResponseFormat(RequestModel):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: SchemaFormat | None = None


class StreamOptions(RequestModel):
    include_usage: bool = False
    include_obfuscation: Annotated[bool, OBFUSCATION] = False


class ChatRequest(CommonRequest):
    """The body of `POST /v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] = Field(default=[])
    tool_choice: Choice | NamedChoice | AllowedChoice = "auto"
    max_tokens: int | None = Field(default=None, gt=0)
    max_completion_tokens: int | None = Field(default=None, gt=0)
    stop: list[str] = Field(default=[], max_length=4)
    seed: int | None = None
    n: int = Field(default=1, ge=1, le=MAX_CHOICES)
    stream_options: StreamOptions = StreamOptions()
    logprobs: bool = False
    response_format: ResponseFormat = ResponseFormat(type="text")
    frequency_penalty: Annotated[Any, SAMPLING] = 0.0
    presence_penalty: Annotated[Any, SAMPLING] = 0.0
    logit_bias: Annotated[Any, Refused("it would change what the model samples, which the engine cannot", ({},))] = None
    modalities: Annotated[Any, Refused("answers are text", (["text"],))] = None
    audio: Annotated[Any, Refused("answers are text")] = None
    functions: Annotated[Any, Refused("this older form of tools is `tools` now")] = None
    function_call: Annotated[Any, Refused("this older form of a choice is `tool_choice` now")] = None
    web_search_options: Annotated[Any, Refused("there is no web search here; give a function that searches")] = None
    reasoning_effort: Annotated[str, EFFORT] = ""
    verbosity: Annotated[str, VERBOSITY] = "medium"
    prediction: Annotated[dict[str, Any], Ignored("it is about speed alone")] = Field(default={})
    metadata: Annotated[dict[str, str], Ignored("it goes with a stored chat, and none is stored")] = Field(default={})
    store: Annotated[bool, Ignored("no chat is stored; the Responses API stores its own", (False,))] = False

    @field_validator("stop", mode="before")
    @classmethod
    def _as_list(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) else stop

    def settings(self) -> TurnSettings:
        """What is asked of a turn.

        Raises:
            ApiError: 400, for fields that do not go together.
        """
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise invalid("Give max_tokens or max_completion_tokens, not both.", "max_tokens")
        if "stream_options" in self.model_fields_set and not self.stream:
            raise invalid("It goes with stream: true only.", "stream_options")
        if not all(self.stop):
            raise invalid("An empty text stops nothing.", "stop")
        functions = checked_schemas([tool.function for tool in self.tools], "tools")
        rule = self._rule()
        return TurnSettings(
            messages=with_tool_names([_plain(message) for message in self.messages], "messages[{index}].tool_call_id"),
            tools=shown_tools(functions, rule),
            constraints=constraints(functions, rule, self._output()),
            parallel_tool_calls=self.parallel_tool_calls,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_completion_tokens or self.max_tokens,
            stop=tuple(self.stop),
            seed=new_seed() if self.seed is None else self.seed,
            template=TemplateWish(self.chat_template_kwargs, self.reasoning_effort),
        )

    def _rule(self) -> ToolRule:
        match self.tool_choice:
            case NamedChoice() as choice:
                return ToolRule("named", choice.function.name)
            case AllowedChoice() as choice:
                names = frozenset(one.function.name for one in choice.allowed_tools.tools)
                return ToolRule(choice.allowed_tools.mode, allowed=names)
            case kind:
                return ToolRule(kind)

    def _output(self) -> OutputFormat | None:
        given = self.response_format
        if (given.type == "json_schema") != (given.json_schema is not None):
            raise invalid("json_schema goes with type 'json_schema', and only with it.", "response_format.json_schema")
        if given.json_schema is not None:
            schema = checked_format(given.json_schema, "response_format.json_schema.schema")
            return OutputFormat(schema.schema_, schema.name, schema.description or "")
        return OutputFormat() if given.type == "json_object" else None


def shown_tools(functions: list[Function], rule: ToolRule) -> list[dict[str, Any]]:
    """The tools that the model sees.

    Raises:
        ApiError: 400, if a call is demanded of a function that is not there.
    """
    names = [function.name for function in functions]
    if rule.kind == "required" and not names:
        raise invalid("A call cannot be required without tools.", "tool_choice")
    wanted = (rule.allowed or frozenset()) if rule.name is None else {rule.name}
    missing = sorted(wanted.difference(names))
    if missing:
        raise invalid(f"There is no tool '{missing[0]}'.", "tool_choice")
    if rule.kind == "none":
        return []
    return [function.tool for function in functions if rule.allowed is None or function.name in rule.allowed]


def constraints(functions: list[Function], rule: ToolRule, output: OutputFormat | None) -> Constraints:
    strict = {
        function.name: function.argument_schema for function in functions if function.strict and rule.kind != "none"
    }
    return Constraints(rule, strict, output)


def with_tool_names(messages: list[dict[str, Any]], field: str) -> list[dict[str, Any]]:
    """The messages, each tool's with the name of its function, which some templates show.

    Args:
        field: what an error calls the call's id; `{index}` is the message's.

    Raises:
        ApiError: 400, for a result without a call.
    """
    names: dict[str, str] = {}
    for index, message in enumerate(messages):
        for call in message.get("tool_calls") or []:
            names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool":
            if message["tool_call_id"] not in names:
                raise invalid(
                    f"No message before it makes the call '{message['tool_call_id']}'.",
                    field.format(index=index),
                )
            message["name"] = names[message["tool_call_id"]]
    return messages


def _plain(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content or message.refusal or ""}
    if message.name:
        plain["name"] = message.name
    if message.tool_calls:
        plain["tool_calls"] = [call.model_dump() for call in message.tool_calls]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.reasoning_content:
        plain["reasoning_content"] = message.reasoning_content
    return plain
