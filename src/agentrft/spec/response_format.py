"""The form that a final answer must have, as Chat Completions writes it."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, model_validator

from agentrft.spec.base import SpecModel
from agentrft.spec.json_schema import SchemaFault, read_schema


class JsonSchemaFormat(SpecModel):
    """A JSON Schema with its name.

    Attributes:
        name: as Chat Completions has it; it changes nothing here.
        description: as Chat Completions has it; it changes nothing here.
        answer_schema: the JSON Schema of the answer, called `schema` in the API and in job files.
        strict: as Chat Completions has it: an answer that does not fit is a failure either way.
    """

    model_config = ConfigDict(populate_by_name=True)

    name: str = "answer"
    description: str | None = None
    answer_schema: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None


class ResponseFormat(SpecModel):
    """The form of the final answer. An answer of another form is a failure of the model.

    Attributes:
        type: "text" is any answer, "json_object" any JSON object.
        json_schema: the schema of the answer, with the type "json_schema".
    """

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = None

    @property
    def answer_schema(self) -> dict[str, Any] | None:
        """JSON Schema of the answer; None where it may be any text."""
        if self.json_schema is not None:
            return self.json_schema.answer_schema
        return {"type": "object"} if self.type == "json_object" else None

    @property
    def unenforced(self) -> tuple[str, ...]:
        """What of the schema answers are not held against, each with the reason."""
        return () if self.json_schema is None else read_schema(self.json_schema.answer_schema).unenforced

    @model_validator(mode="after")
    def _has_its_schema(self) -> "ResponseFormat":
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError("'json_schema' goes with type json_schema, and with no other")
        if self.json_schema is not None:
            try:
                read_schema(self.json_schema.answer_schema)
            except SchemaFault as fault:
                raise ValueError(f"json_schema.schema: {fault}") from fault
        return self
