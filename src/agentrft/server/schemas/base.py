"""What all descriptions share: closed objects, pages, deletions, errors."""

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

T = TypeVar("T")
Seconds = Annotated[int, Field(ge=0, description="since the epoch")]
Nothing = Annotated[list[Any], Field(max_length=0)]


class Answer(BaseModel):
    """Has no other fields than these."""

    model_config = ConfigDict(extra="forbid")


class Page(Answer, Generic[T]):
    object: Literal["list"]
    data: list[T]
    has_more: bool


class PageWithEnds(Page[T], Generic[T]):
    """`first_id` and `last_id` are null where the page is empty."""

    first_id: str | None
    last_id: str | None


class ErrorDetail(Answer):
    """`param` is the field of the request at fault, `code` a short reason for programs."""

    message: str
    type: Literal["invalid_request_error", "authentication_error", "server_error"]
    param: str | None
    code: str | None


class ErrorBody(Answer):
    """Every error of the API."""

    error: ErrorDetail
