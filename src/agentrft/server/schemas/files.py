"""Files and uploads."""

from typing import Literal

from agentrft.server.schemas.base import Answer, PageWithEnds, Seconds

Purpose = Literal["fine-tune", "evals", "user_data", "assistants", "batch", "vision"]


class File(Answer):
    """`status_details` says, of a file in error, which lines are at fault."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: Seconds
    expires_at: Seconds | None
    filename: str
    purpose: Purpose | Literal["fine-tune-results"]
    status: Literal["uploaded", "processed", "error"]
    status_details: str | None


class FilePage(PageWithEnds[File]):
    pass


class DeletedFile(Answer):
    id: str
    object: Literal["file"]
    deleted: Literal[True]


class Upload(Answer):
    """`file` is there once it is completed."""

    id: str
    object: Literal["upload"]
    bytes: int
    created_at: Seconds
    expires_at: Seconds
    filename: str
    purpose: Purpose
    status: Literal["pending", "completed", "cancelled", "expired"]
    file: File | None


class UploadPart(Answer):
    id: str
    object: Literal["upload.part"]
    created_at: Seconds
    upload_id: str
