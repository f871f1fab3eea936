"""Tools as a job declares them: HTTP endpoints, MCP servers, Python functions."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Discriminator, Field, HttpUrl, Tag, field_validator, model_validator

from agentrft.spec.base import SpecModel
from agentrft.wire import is_object

# To be matched in full: `$` also stands before a newline at the end.
TOOL_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


class ToolLimits(SpecModel):
    """What every kind of tool has.

    Attributes:
        timeout_s: seconds that one attempt at a call may take.
        max_concurrency: calls under way at once, at most.
        idempotent: False where a call that may have happened must not be made again; True where calls may even be made
            up, to try the tool; None: neither was said, and what failed is made again.
        max_calls: calls of it in one rollout; for those beyond the model reads an error.
        max_output_characters: a longer answer is cut, with a notice that the model reads.
        cache: within a step, equal calls are made once. For tools whose answer depends on the arguments alone.
        record: a folder in which every call is kept with its answer.
        replay: the folder of an earlier `record` from which calls are answered.
        on_replay_miss: what becomes of a call that the folder lacks: a failure of the infrastructure ("error"), or a
            real call ("live").
    """

    timeout_s: float = Field(default=60.0, gt=0, le=600)
    max_concurrency: int = Field(default=32, ge=1, le=4096)
    idempotent: bool | None = None
    max_calls: Annotated[int, Field(ge=1)] | None = None
    max_output_characters: Annotated[int, Field(ge=100)] | None = None
    cache: bool = False
    record: Path | None = None
    replay: Path | None = None
    on_replay_miss: Literal["error", "live"] = "error"

    @model_validator(mode="after")
    def _repeats_are_harmless(self) -> "ToolLimits":
        if self.cache and not self.may_repeat:
            raise ValueError(
                "cache: a tool with `idempotent: false` does something at each call; leave one of them out"
            )
        return self

    @property
    def may_repeat(self) -> bool:
        """Whether a call that may have happened may be made again."""
        return self.idempotent is not False


class _NamedTool(ToolLimits):
    """What `http` and `python` tools have in common.

    Attributes:
        name: what the model calls it by: 1 to 64 letters, digits, `_` or `-`.
        example: arguments that `agentrft check` may call the tool with, and a job before it begins.
    """

    example: dict[str, Any] | None = None

    @field_validator("name", check_fields=False)
    @classmethod
    def _name_is_callable(cls, name: str | None) -> str | None:
        if name is not None and not TOOL_NAME.fullmatch(name):
            raise ValueError("must be 1 to 64 letters, digits, underscores or dashes")
        return name


def _plain_kind(kind: Any) -> Any:
    """A tool's `type` as it is called here: left out, or "function" as in Chat Completions, it is an HTTP tool."""
    return "http" if kind is None or kind == "function" else kind


class HttpToolSpec(_NamedTool):
    """One HTTP tool endpoint.

    Attributes:
        type: may be left out, and "function" says the same, as in Chat Completions.
        server_url: where calls are posted to; also written `url`.
        headers: sent with every call; `${NAME}` in a value is read from the environment. Never stored, shown or logged.
        format: "function_call" posts the hosted format; "plain" posts the arguments as the JSON body, and the model
            reads the whole answer.
        description: what the model reads of the tool where the row has no `tools` of its own.
        parameters: JSON Schema of the arguments, likewise.
        retries: repetitions of a call, after faults other than 429.
        rate_limit: requests per second, at most.
        outage_deadline_s: seconds that a call waits, in all, for the endpoint to come back once it is down.
    """

    type: Annotated[Literal["http"], BeforeValidator(_plain_kind)] = "http"
    name: str
    server_url: HttpUrl = Field(validation_alias=AliasChoices("server_url", "url"), repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    format: Literal["function_call", "plain"] = "function_call"
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    retries: int = Field(default=3, ge=0, le=3)
    rate_limit: float | None = Field(default=None, gt=0)
    outage_deadline_s: float = Field(default=600.0, ge=0, le=86400)


class McpToolSpec(ToolLimits):
    """The tools of one MCP server: at a URL (streamable HTTP), or a command that speaks over stdio.

    Attributes:
        type: "mcp".
        server_label: what to call the server in messages.
        server_url: where it listens; also written `url`. This, or `command`.
        headers: sent with every request; `${NAME}` in a value is read from the environment.
        command: the program that speaks MCP over stdio, started for each rollout.
        args: of the command.
        env: variables of the command, beside PATH and HOME.
        folder: that the command runs in; the job file's where it is left out.
        allowed_tools: names of the tools that the model sees; None for all that the server has.
        examples: by tool, arguments that `agentrft check` may call it with.
        require_approval: nobody is there to approve, so "never" is all it may say.
    """

    type: Literal["mcp"]
    server_label: str
    server_url: HttpUrl | None = Field(default=None, validation_alias=AliasChoices("server_url", "url"), repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    command: str | None = None
    args: tuple[str, ...] = ()
    env: dict[str, str] = Field(default_factory=dict, repr=False)
    folder: Path | None = None
    allowed_tools: tuple[str, ...] | None = None
    examples: dict[str, dict[str, Any]] = Field(default_factory=dict)
    require_approval: Literal["never"] = "never"

    @model_validator(mode="after")
    def _one_transport(self) -> "McpToolSpec":
        if (self.server_url is None) == (self.command is None):
            raise ValueError("give exactly one of 'server_url' and 'command'")
        if self.command is None and (self.args or self.env):
            raise ValueError("'args' and 'env' belong to a 'command'")
        if self.server_url is None and self.headers:
            raise ValueError("'headers' belong to a 'server_url'")
        return self


class PythonToolSpec(_NamedTool):
    """A Python function in this process, for laptops and tests.

    Attributes:
        type: "python".
        function: "module:function"; the module is looked for in the job file's folder first. Sync or async.
        name: what the model calls it by; the function's name where none is given.
        description: what the model reads of it; the docstring's where none is given.
        parameters: JSON Schema of the arguments; made of the signature where none is given.
        folder: where the module is looked for first; the job file's.
    """

    type: Literal["python"]
    function: str
    name: str | None = None
    description: str | None = None
    parameters: dict[str, Any] | None = None
    folder: Path | None = None

    @field_validator("function")
    @classmethod
    def _is_a_reference(cls, function: str) -> str:
        if not FUNCTION.fullmatch(function):
            raise ValueError("must be written as 'module:function'")
        return function

    @property
    def tool_name(self) -> str:
        return self.name or self.function.partition(":")[2]


class HookSpec(SpecModel):
    """A URL that is told of a rollout's begin or end. In a job file the URL alone will do.

    Attributes:
        url: what is posted to.
        headers: sent with it; `${NAME}` in a value is read from the environment.
        timeout_s: seconds that one attempt may take.
        max_concurrency: requests under way at once, at most.
    """

    url: HttpUrl = Field(repr=False)
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    timeout_s: float = Field(default=60.0, gt=0, le=600)
    max_concurrency: int = Field(default=32, ge=1, le=4096)

    @model_validator(mode="before")
    @classmethod
    def _from_url(cls, given: Any) -> Any:
        return {"url": given} if isinstance(given, str) else given


def _kind(tool: Any) -> str:
    return str(_plain_kind(tool.get("type") if is_object(tool) else getattr(tool, "type", None)))


class ToolChoiceFunction(SpecModel):
    """The function of a `NamedToolChoice`.

    Attributes:
        name: a tool of the job.
    """

    name: str


class NamedToolChoice(SpecModel):
    """The tool that must be called first, as Chat Completions has it; the Responses API's flat form is taken, too.

    Attributes:
        type: "function".
        function: which one.
    """

    type: Literal["function"] = "function"
    function: ToolChoiceFunction

    @model_validator(mode="before")
    @classmethod
    def _from_flat(cls, given: Any) -> Any:
        if is_object(given) and "name" in given and "function" not in given:
            return {
                **{key: value for key, value in given.items() if key != "name"},
                "function": {"name": given["name"]},
            }
        return given


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice

ToolSpec = Annotated[
    Annotated[HttpToolSpec, Tag("http")]
    | Annotated[McpToolSpec, Tag("mcp")]
    | Annotated[PythonToolSpec, Tag("python")],
    Discriminator(_kind),
]
