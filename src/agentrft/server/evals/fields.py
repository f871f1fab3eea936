"""What requests about evals hold: closed to unknown fields, with the reason where something is not offered."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError, model_validator

from agentrft.server.errors import ApiError
from agentrft.spec.base import SpecModel
from agentrft.spec.shown import plain_key, shown_key

LONGEST_NAME = 256
MOST_CRITERIA = 64
ROW_MESSAGES = {"type": "item_reference", "item_reference": "item.messages"}
Role = Literal["system", "developer", "user", "assistant"]
Name = Annotated[str, Field(max_length=LONGEST_NAME)]


class Fields(SpecModel):
    """A field that is null is one that is not given, as OpenAI's own client has it."""

    model_config = ConfigDict(populate_by_name=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, given: Any) -> Any:
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


Model = TypeVar("Model", bound=Fields)


class EvalCreate(Fields):
    """Body of `evals.create`; `agentrft` comes as `extra_body`."""

    data_source_config: dict[str, Any]
    testing_criteria: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_CRITERIA)]
    name: Name = "eval"
    metadata: Any = None
    agentrft: dict[str, Any] = Field(default_factory=dict[str, Any])


class EvalUpdate(Fields):
    """Body of `evals.update`."""

    name: Name | None = None
    metadata: Any = None


class RunCreate(Fields):
    """Body of `evals.runs.create`; `agentrft` comes as `extra_body`, and goes before the eval's, field by field."""

    data_source: dict[str, Any]
    name: Name | None = None
    metadata: Any = None
    agentrft: dict[str, Any] = Field(default_factory=dict[str, Any])


class OurOptions(Fields):
    """`agentrft`: what a job's method and a job have beside the hosted fields, with the same names."""

    tools: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: int | None = None
    on_rollout_start: Any = None
    on_rollout_end: Any = None
    max_episode_steps: int | None = None
    max_context_tokens: int | None = None
    grade_unfinished: bool | None = None
    model_failed_reward: Any = None
    dtype: str | None = None
    deterministic: bool | None = None
    engine: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class CustomConfig(Fields):
    type: Literal["custom"]
    item_schema: dict[str, Any]
    include_sample_schema: bool = False


class ContentRow(Fields):
    item: dict[str, Any]
    sample: dict[str, Any] | None = None


class FileContent(Fields):
    type: Literal["file_content"]
    content: Annotated[list[ContentRow], Field(min_length=1)]


class FileSource(Fields):
    type: Literal["file_id"]
    id: str


class JsonlSource(Fields):
    """Rows that are graded as they are."""

    type: Literal["jsonl"]
    source: dict[str, Any]


class TextPart(Fields):
    type: Literal["input_text", "output_text", "text"]
    text: str


class TemplateMessage(Fields):
    role: Role
    content: str | TextPart | list[str | TextPart]
    type: Literal["message"] = "message"

    @property
    def text(self) -> str:
        """The template."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)


class Template(Fields):
    type: Literal["template"]
    template: Annotated[list[TemplateMessage], Field(min_length=1)]


class ItemReference(Fields):
    """Chat messages of the row, such as `item.messages`."""

    type: Literal["item_reference"]
    item_reference: str


class CommonSampling(Fields):
    """`reasoning_effort` is accepted and changes nothing: it is the weights that decide how a model thinks here."""

    seed: Annotated[int, Field(ge=0, le=2147483647)] = 0
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    # As the hosted service's own examples write it.
    max_completions_tokens: Annotated[int, Field(ge=1)] | None = None
    reasoning_effort: str | None = None
    tools: list[dict[str, Any]] = Field(default_factory=list[dict[str, Any]])

    @property
    def max_tokens(self) -> int | None:
        return self.max_completion_tokens or self.max_completions_tokens


class CompletionsSampling(CommonSampling):
    response_format: dict[str, Any] | None = None


class TextOptions(Fields):
    format: dict[str, Any] | None = None


class ResponsesSampling(CommonSampling):
    text: TextOptions = TextOptions()


class SampledSource(Fields):
    """Rows that a model of this server answers."""

    type: Literal["completions", "responses"]
    source: dict[str, Any]
    model: str
    input_messages: dict[str, Any] = Field(default_factory=lambda: dict(ROW_MESSAGES))
    sampling_params: dict[str, Any] = Field(default_factory=dict[str, Any])


def read(model: type[Model], given: Any, where: str = "") -> Model:
    """Raises ApiError, 400, with the first faulty field."""
    if not isinstance(given, dict):
        raise ApiError(400, f"{where or 'The body'}: an object is needed.", param=where or None, code="invalid_value")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _refusal(error, model, where) from error


def _refusal(error: ValidationError, model: type[Fields], where: str) -> ApiError:
    fault = error.errors(include_url=False)[0]
    *parents, last = (str(part) for part in fault["loc"])
    place = ".".join(part for part in (where, *parents) if part)
    if fault["type"] == "extra_forbidden":
        known = f" Accepted here: {', '.join(sorted(model.model_fields))}." if not parents else ""
        param = ".".join(part for part in (place, plain_key(last) or "") if part) or None
        message = f"{place + ': ' if place else ''}Unknown field {shown_key(last)}.{known}"
        return ApiError(400, message, param=param, code="unknown_parameter")
    param = f"{place}.{last}" if place else last
    code = "missing_required_parameter" if fault["type"] == "missing" else "invalid_value"
    return ApiError(400, f"{param}: {fault['msg']}.", param=param, code=code)
