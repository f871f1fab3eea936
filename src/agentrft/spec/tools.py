"""Tools as a job declares them."""

import re
from typing import Any, Literal

from pydantic import AliasChoices, Field, HttpUrl, field_validator

from agentrft.spec.base import SpecModel

TOOL_NAME = re.compile(r"^[A-Za-z0-9_-]{1,64}$")


class HttpToolSpec(SpecModel):
    """One HTTP tool endpoint.

    `description` and `parameters` (a JSON Schema object) describe the tool to the model where the
    dataset row has no `tools` of its own.

    Attributes:
        format: "function_call" posts the hosted format (DESIGN section 6); "plain" posts the arguments as the JSON
            body, and the model reads the whole answer.
        timeout_s: of one attempt at a call.
        max_concurrency: calls under way at once, at most.
        retries: of a call, after faults other than 429.
        rate_limit: requests per second.
        idempotent: False where a call that may have happened must not be made again.
    """

    type: Literal["http"] = "http"
    name: str
    server_url: HttpUrl = Field(validation_alias=AliasChoices("server_url", "url"))
    headers: dict[str, str] = Field(default_factory=dict, repr=False)
    format: Literal["function_call", "plain"] = "function_call"
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=lambda: {"type": "object", "properties": {}})
    timeout_s: float = Field(default=60.0, gt=0, le=600)
    max_concurrency: int = Field(default=32, ge=1, le=4096)
    retries: int = Field(default=3, ge=0, le=3)
    rate_limit: float | None = Field(default=None, gt=0)
    idempotent: bool = True

    @field_validator("name")
    @classmethod
    def _name_is_callable(cls, name: str) -> str:
        if not TOOL_NAME.match(name):
            raise ValueError("must be 1 to 64 letters, digits, underscores or dashes")
        return name

    def function_schema(self) -> dict[str, Any]:
        """The tool as a Chat Completions `tools` entry."""
        function = {"name": self.name, "description": self.description, "parameters": self.parameters}
        return {"type": "function", "function": function}


ToolSpec = HttpToolSpec
