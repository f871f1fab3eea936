"""Fields that both APIs have: closed to what is unknown, and strict about types."""

import random
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from agentrft import wire
from agentrft.data.messages import PartFault, joined_text
from agentrft.server.inference.errors import ApiError, FieldFault, from_validation, invalid
from agentrft.server.inference.field_rules import Ignored, Refused, RequestModel
from agentrft.spec.chat_template import GivenVariables
from agentrft.tools import schema_fault
from agentrft.wire import WireError, dump

MAX_CHOICES = 128
OF_OPENAI = Ignored("it names an end user to OpenAI")
CACHED = Ignored("the engine itself decides what it keeps of prompts")
# Where the template has something for it, it is honoured: see `chosen_variables`.
EFFORT = Ignored("a model thinks as it was trained to, where its chat template has no switch for it")
OBFUSCATION = Ignored("streams are not padded", (False,))
VERBOSITY = Ignored("a model says as much as it was trained to", ("medium",))
FunctionName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]


Model = TypeVar("Model", bound=RequestModel)


class CommonRequest(RequestModel):
    """What both requests hold."""

    model: str
    parallel_tool_calls: bool = True
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    chat_template_kwargs: GivenVariables = Field(default={})
    stream: bool = False
    user: Annotated[str, OF_OPENAI] = ""
    safety_identifier: Annotated[str, OF_OPENAI] = ""
    prompt_cache_key: Annotated[str, CACHED] = ""
    prompt_cache_options: Annotated[dict[str, Any], CACHED] = Field(default={})
    prompt_cache_retention: Annotated[str, CACHED] = ""
    service_tier: Annotated[str, Ignored("there is one tier", ("auto", "default"))] = ""
    top_logprobs: Annotated[int, Refused("only the sampled tokens' own log-probabilities are known", (0,))] = 0
    moderation: Annotated[Any, Refused("nothing here looks for harmful content, and a request may rely on it")] = None


class Function(RequestModel):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def tool(self) -> dict[str, Any]:
        """In the shape that training shows to the model."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        if self.parameters is not None:
            function["parameters"] = self.parameters
        return {"type": "function", "function": function}

    @property
    def argument_schema(self) -> dict[str, Any]:
        return self.parameters or {}


class SchemaFormat(RequestModel):
    """An answer in a JSON Schema."""

    name: FunctionName
    description: str | None = None
    schema_: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


def parse(model: type[Model], body: bytes) -> Model:
    """A request's body.

    Raises:
        ApiError: 400, naming the field.
    """
    try:
        text = wire.decode(body)
        # What pydantic reads itself may be endless, or half of a surrogate pair.
        wire.parse(text)
        return model.model_validate_json(text)
    except WireError as error:
        raise invalid(f"The body: {error}.", error.place or None, "invalid_json") from error
    except ValidationError as error:
        raise from_validation(error) from error


def text_of(content: Any, types: tuple[str, ...]) -> Any:
    """A list of text parts as one text, None where it is empty; other types of parts are an error that names them."""
    if not isinstance(content, list):
        return content
    try:
        return joined_text(content, types)
    except PartFault as fault:
        raise FieldFault(fault.problem, fault.place) from fault


def argument_text(arguments: Any) -> Any:
    """A call's arguments as text: objects as JSON. Text stays as it is, also what is no JSON: a model wrote it so, and
    its own answers can be sent back.
    """
    return dump(arguments) if isinstance(arguments, dict) else arguments


def checked_schemas(functions: list[Function], param: str) -> list[Function]:
    """The functions; a schema that describes no arguments, or a name that is there twice, is an error."""
    names = [function.name for function in functions]
    for index, function in enumerate(functions):
        fault = schema_fault(function.argument_schema)
        if fault is not None:
            raise invalid(f"Function '{function.name}': {fault}", f"{param}[{index}]", "invalid_function_parameters")
        if function.name in names[:index]:
            raise invalid(f"Function '{function.name}' is there twice.", f"{param}[{index}]")
    return functions


def checked_format(given: SchemaFormat, param: str) -> SchemaFormat:
    fault = schema_fault(given.schema_)
    if fault is not None:
        raise ApiError(400, f"Schema '{given.name}': {fault}", code="invalid_json_schema", param=param)
    return given


def new_seed() -> int:
    return random.getrandbits(63)


Choice = Literal["auto", "none", "required"]
