"""Responses: a request's fields for text and function calls, and what it asks of a turn."""

from typing import Annotated, Any, Literal

from pydantic import Field

from agentrft.server.inference.chat_request import constraints, shown_tools, with_tool_names
from agentrft.server.inference.constraints import OutputFormat, ToolRule
from agentrft.server.inference.errors import invalid
from agentrft.server.inference.field_rules import Ignored, Refused, RequestModel
from agentrft.server.inference.fields import (
    EFFORT,
    OBFUSCATION,
    VERBOSITY,
    Choice,
    CommonRequest,
    Function,
    FunctionName,
    SchemaFormat,
    checked_format,
    checked_schemas,
    new_seed,
)
from agentrft.server.inference.response_items import Item, messages_of
from agentrft.server.inference.template_variables import TemplateWish
from agentrft.server.inference.turn_sampler import TurnSettings

OF_BUILT_IN_TOOLS = Ignored("there are no built-in tools")
# What `include` may ask for. The rest is about built-in tools and images, of which there are none.
ENCRYPTED_THOUGHTS, LOGPROBS = "reasoning.encrypted_content", "message.output_text.logprobs"
Includable = Literal[
    "reasoning.encrypted_content",
    "message.output_text.logprobs",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]


class FlatTool(Function):
    type: Literal["function"]
    allowed_callers: Annotated[list[str] | None, Ignored("all calls are direct", (["direct"],))] = None
    defer_loading: Annotated[bool | None, Ignored("the model sees all tools", (False,))] = None
    output_schema: Annotated[dict[str, Any] | None, Ignored("outputs are text to the model")] = None
    async_: Annotated[bool | None, Ignored("a call's output is waited for", (False,))] = Field(
        default=None, alias="async"
    )


class FlatChoice(RequestModel):
    type: Literal["function"]
    name: FunctionName


class AllowedChoice(RequestModel):
    """Only some of the tools may be called."""

    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[FlatChoice] = Field(min_length=1)


class TextFormat(RequestModel):
    """`name`, `schema` and `strict` go with a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: FunctionName | None = None
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class TextOptions(RequestModel):
    format: TextFormat = TextFormat(type="text")
    verbosity: Annotated[str, VERBOSITY] = "medium"


class ReasoningOptions(RequestModel):
    """`generate_summary` is the older name of `summary`; all kinds of summaries are the thoughts themselves."""

    effort: Annotated[str, EFFORT] = ""
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Annotated[str, Ignored("the chat template says which thoughts of earlier turns are shown", ("auto",))] = ""
    mode: Annotated[str, Ignored("there is one mode", ("standard",))] = ""


class StreamOptions(RequestModel):
    include_obfuscation: Annotated[bool, OBFUSCATION] = False


class ResponsesRequest(CommonRequest):
    """The body of `POST /v1/responses`. The API stores answers and looks up what a request refers to: the items of
    `previous_response_id` are `earlier_items` here.
    """

    input: str | list[Item]
    earlier_items: list[Item] = Field(default=[])
    instructions: str = ""
    tools: list[FlatTool] = Field(default=[])
    tool_choice: Choice | FlatChoice | AllowedChoice = "auto"
    max_output_tokens: int | None = Field(default=None, gt=0)
    text: TextOptions = TextOptions()
    reasoning: ReasoningOptions = ReasoningOptions()
    include: list[Includable] = Field(default=[])
    metadata: dict[str, str] = Field(default={})
    store: bool = True
    previous_response_id: str | None = None
    stream_options: StreamOptions = StreamOptions()
    truncation: Annotated[
        Literal["auto", "disabled"], Ignored("a conversation that does not fit is a 400", ("disabled",))
    ] = "disabled"
    context_management: Annotated[list[Any], Ignored("nothing is taken out of a conversation")] = Field(default=[])
    max_tool_calls: Annotated[int | None, OF_BUILT_IN_TOOLS] = None
    image: Annotated[dict[str, Any], Ignored("there are no images")] = Field(default={})
    access_programs: Annotated[dict[str, Any], Ignored("there is nothing that takes a permission")] = Field(default={})
    background_options: Annotated[dict[str, Any], Ignored("it goes with `background`")] = Field(default={})
    background: Annotated[Any, Refused("an answer comes with its request; ask with stream: true", (False,))] = None
    conversation: Annotated[Any, Refused("no conversations are kept; go on with previous_response_id")] = None
    prompt: Annotated[Any, Refused("no prompts are kept here; give instructions and input")] = None

    @property
    def ignored(self) -> list[str]:
        """See `RequestModel`."""
        unused = [name for name in self.include if name not in (ENCRYPTED_THOUGHTS, LOGPROBS)]
        own = [path for path in super().ignored if not path.startswith("earlier_items")]
        return [*own, *(f"include={name}" for name in unused)]

    @property
    def wants_summary(self) -> bool:
        return self.reasoning.summary is not None or self.reasoning.generate_summary is not None

    def settings(self) -> TurnSettings:
        """What is asked of a turn.

        Raises:
            ApiError: 400, for fields that do not go together.
        """
        functions = checked_schemas(list(self.tools), "tools")
        rule = self._rule()
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
            template=TemplateWish(self.chat_template_kwargs, self.reasoning.effort, "reasoning.effort"),
        )

    def _messages(self) -> list[dict[str, Any]]:
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        given = [Item(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        said = messages_of([*self.earlier_items, *given])
        if not given or not said:
            raise invalid("There is nothing to answer.", "input")
        return with_tool_names([*system, *said], "input")

    def _rule(self) -> ToolRule:
        match self.tool_choice:
            case FlatChoice() as choice:
                return ToolRule("named", choice.name)
            case AllowedChoice() as choice:
                return ToolRule(choice.mode, allowed=frozenset(one.name for one in choice.tools))
            case kind:
                return ToolRule(kind)

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
