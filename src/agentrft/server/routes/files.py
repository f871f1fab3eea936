"""`/v1/files` and `/v1/uploads`: data comes in, whole or in parts, and is looked at before a job may use it."""

import hashlib
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, BackgroundTasks, Depends, Form, UploadFile
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, Field

from agentrft.errors import ArtifactsError
from agentrft.server.background.validation import validate_file
from agentrft.server.context import Context, check_limit, context_of, result_file_id
from agentrft.server.creation.request import PARTIAL_PREFIX, content_path
from agentrft.server.errors import ApiError, not_found
from agentrft.server.json_bodies import WireRoute
from agentrft.server.objects.files import file_object, upload_object
from agentrft.server.objects.pages import page
from agentrft.server.records import new_id
from agentrft.server.records.rows import FileRow, UploadRow
from agentrft.server.request_limits import MOST_FILE_BYTES, MOST_PART_BYTES
from agentrft.server.routes.parameters import FilesLimit, Order
from agentrft.server.schemas.answers import answers, answers_bytes
from agentrft.server.schemas.files import DeletedFile, File, FilePage, Purpose, Upload, UploadPart
from agentrft.wire import storable_text

logger = logging.getLogger(__name__)

router = APIRouter(route_class=WireRoute)

MOST_UPLOAD_BYTES = 8 * 1024 * 1024 * 1024
MOST_PARTS = 10_000
LONGEST_FILENAME = 1024
UPLOAD_S = 3600.0
CHUNK = 1024 * 1024

InContext = Annotated[Context, Depends(context_of)]


@router.post("/v1/files", **answers(File))
def create_file(
    context: InContext,
    background: BackgroundTasks,
    file: UploadFile,
    purpose: Annotated[Purpose, Form()],
    anchor: Annotated[Literal["created_at"] | None, Form(alias="expires_after[anchor]")] = None,
    seconds: Annotated[int | None, Form(alias="expires_after[seconds]", ge=3600, le=2592000)] = None,
) -> dict[str, Any]:
    """Upload a file; it is checked in the background, and ends as `processed` or `error`."""
    if (anchor is None) != (seconds is None):
        raise ApiError(400, "expires_after: give the anchor 'created_at' and seconds.", param="expires_after")
    filename = _filename(file.filename or "file", "file")
    partial, file_id = _partial(context), new_id("file-")
    size = _copy(file.file.read, partial, MOST_FILE_BYTES)
    _keep(partial, file_id, context)
    expires_at = None if seconds is None else time.time() + seconds
    row = context.records.add_file(file_id, filename, purpose, size, expires_at)
    background.add_task(validate_file, context, row)
    return file_object(row)


@router.get("/v1/files", **answers(FilePage))
def list_files(
    context: InContext,
    after: str | None = None,
    limit: FilesLimit = 10000,
    order: Order = "desc",
    purpose: str | None = None,
) -> dict[str, Any]:
    rows = [row for row in context.records.files() if purpose in (None, row.purpose) and not _has_expired(row)]
    items = [file_object(row) for row in (rows if order == "desc" else rows[::-1])]
    return page(items, after=after, limit=check_limit(limit, 10000), with_ends=True)


@router.get("/v1/files/{file_id}", **answers(File))
def retrieve_file(file_id: str, context: InContext) -> dict[str, Any]:
    made = _made_file(file_id, context)
    return file_object(_row(file_id, context)) if made is None else file_object(made[0])


@router.get("/v1/files/{file_id}/content", **answers_bytes("application/octet-stream", "text/csv"))
def file_content(file_id: str, context: InContext) -> Response:
    made = _made_file(file_id, context)
    if made is not None:
        return Response(made[1], media_type="text/csv")
    _row(file_id, context)
    return FileResponse(_content(file_id, context), media_type="application/octet-stream")


@router.delete("/v1/files/{file_id}", **answers(DeletedFile))
def delete_file(file_id: str, context: InContext) -> dict[str, Any]:
    row = _row(file_id, context)
    user = context.records.lists.users_of_files().get(row.file_id)
    if user is not None:
        raise ApiError(409, f"{row.file_id} is in use by {user}. Cancel that first.", code="file_in_use")
    context.store.artifacts.delete(content_path(context.settings, row.file_id))
    context.records.delete_file(row.file_id)
    return {"id": row.file_id, "object": "file", "deleted": True}


class UploadCreate(BaseModel):
    """Body of `uploads.create`."""

    filename: str
    purpose: Purpose
    bytes: Annotated[int, Field(ge=1, le=MOST_UPLOAD_BYTES)]
    mime_type: str


class UploadComplete(BaseModel):
    """Body of `uploads.complete`."""

    part_ids: list[str]
    md5: str | None = None  # of the whole file, in hexadecimal


@router.post("/v1/uploads", **answers(Upload))
def create_upload(body: UploadCreate, context: InContext) -> dict[str, Any]:
    filename = _filename(body.filename, "filename")
    return upload_object(context.records.add_upload(filename, body.purpose, body.bytes, UPLOAD_S))


@router.post("/v1/uploads/{upload_id}/parts", **answers(UploadPart))
def add_part(upload_id: str, data: UploadFile, context: InContext) -> dict[str, Any]:
    upload = _pending(upload_id, context)
    partial = _partial(context)
    size = _copy(data.file.read, partial, MOST_PART_BYTES)
    parts = context.records.parts(upload_id)
    if len(parts) >= MOST_PARTS or sum(parts.values()) + size > MOST_UPLOAD_BYTES:
        partial.unlink()
        raise ApiError(400, "data: the upload would be too large.", param="data", code="invalid_value")
    part_id = new_id("part_")
    _keep(partial, part_id, context)
    created_at = context.records.add_part(part_id, upload.upload_id, size)
    return {"id": part_id, "object": "upload.part", "created_at": int(created_at), "upload_id": upload_id}


@router.post("/v1/uploads/{upload_id}/complete", **answers(Upload))
def complete_upload(
    upload_id: str, body: UploadComplete, context: InContext, background: BackgroundTasks
) -> dict[str, Any]:
    upload = _pending(upload_id, context)
    parts = context.records.parts(upload_id)
    size = _size_of_parts(body.part_ids, parts)
    if size != upload.bytes:
        message = f"The parts have {size} bytes, and the upload was created for {upload.bytes}."
        raise ApiError(400, message, param="part_ids", code="invalid_value")
    partial = _partial(context)
    with partial.open("wb") as whole:
        for part_id in body.part_ids:
            with _content(part_id, context).open("rb") as part:
                shutil.copyfileobj(part, whole, CHUNK)
    if body.md5 is not None and _md5(partial) != body.md5.lower():
        partial.unlink()
        raise ApiError(400, "md5: the parts make another file.", param="md5", code="invalid_value")
    file_id = new_id("file-")
    _keep(partial, file_id, context)
    row = context.records.add_file(file_id, upload.filename, upload.purpose, size, None)
    if not context.records.end_upload(upload_id, "completed", row.file_id):
        context.records.delete_file(row.file_id)
        _discard(file_id, context)
        raise ApiError(400, f"{upload_id} has ended.", code="invalid_value")
    _drop_parts(parts, context)
    background.add_task(validate_file, context, row)
    ended = context.records.upload(upload_id)
    assert ended is not None
    return upload_object(ended, row)


@router.post("/v1/uploads/{upload_id}/cancel", **answers(Upload))
def cancel_upload(upload_id: str, context: InContext) -> dict[str, Any]:
    _pending(upload_id, context)
    context.records.end_upload(upload_id, "cancelled")
    _drop_parts(context.records.parts(upload_id), context)
    ended = context.records.upload(upload_id)
    assert ended is not None
    return upload_object(ended)


def _filename(given: str, param: str) -> str:
    """A name that can be stored and shown; it is never a path here.

    Raises:
        ApiError: it is too long.
    """
    if len(given) > LONGEST_FILENAME:
        message = f"{param}: a name of at most {LONGEST_FILENAME} characters is needed."
        raise ApiError(400, message, param=param, code="invalid_value")
    return storable_text(given)


def _row(file_id: str, context: Context) -> FileRow:
    row = context.records.file(file_id)
    if row is None or _has_expired(row):
        raise not_found(f"There is no file '{file_id}'.", param="file_id", code="file_not_found")
    return row


def _made_file(file_id: str, context: Context) -> tuple[FileRow, str] | None:
    """A job's CSV of metrics, if that is what the id says."""
    prefix = result_file_id("ftjob-")
    if not file_id.startswith(prefix):
        return None
    job, served = context.job(f"ftjob-{file_id.removeprefix(prefix)}")
    text = context.result_csv(job)
    created_at = job.finished_at or job.created_at
    row = FileRow(
        file_id, "step_metrics.csv", "fine-tune-results", len(text.encode()), created_at, None, "processed", None
    )
    return row, text


def _pending(upload_id: str, context: Context) -> UploadRow:
    upload = context.records.upload(upload_id)
    if upload is None:
        raise not_found(f"There is no upload '{upload_id}'.", param="upload_id", code="upload_not_found")
    if upload.status == "pending" and upload.expires_at < time.time():
        context.records.end_upload(upload_id, "expired")
        raise ApiError(400, f"{upload_id} has expired.", code="invalid_value")
    if upload.status != "pending":
        raise ApiError(400, f"{upload_id} is {upload.status}.", code="invalid_value")
    return upload


def _has_expired(row: FileRow) -> bool:
    return row.expires_at is not None and row.expires_at < time.time()


def _partial(context: Context) -> Path:
    folder = context.settings.files_dir
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{PARTIAL_PREFIX}{time.monotonic_ns()}"


def _copy(read: Callable[[int], bytes], path: Path, most: int) -> int:
    """Write a body to a file; its size."""
    size = 0
    with path.open("wb") as target:
        while chunk := read(CHUNK):
            size += len(chunk)
            if size > most:
                target.close()
                path.unlink()
                raise ApiError(413, f"At most {most} bytes are taken at once; use /v1/uploads.", code="too_large")
            target.write(chunk)
    return size


def _size_of_parts(part_ids: list[str], parts: dict[str, int]) -> int:
    """Bytes of all, known before one is copied.

    Raises:
        ApiError: one is not of this upload, or is there twice.
    """
    unknown = next((part_id for part_id in part_ids if part_id not in parts), None)
    if unknown is not None:
        raise ApiError(400, f"part_ids: {unknown[:100]} is no part of it.", param="part_ids", code="invalid_value")
    if len(set(part_ids)) != len(part_ids):
        raise ApiError(400, "part_ids: a part is there twice.", param="part_ids", code="invalid_value")
    return sum(parts[part_id] for part_id in part_ids)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _drop_parts(parts: dict[str, int], context: Context) -> None:
    for part_id in parts:
        _discard(part_id, context)


def _keep(partial: Path, file_id: str, context: Context) -> None:
    """Give a body that came its place, where it outlives this process and this machine."""
    path = content_path(context.settings, file_id)
    partial.rename(path)
    try:
        context.store.artifacts.push(path)
    except ArtifactsError:
        path.unlink()
        raise


def _discard(file_id: str, context: Context) -> None:
    """Nothing names it any more, so it may stay where it cannot be deleted."""
    try:
        context.store.artifacts.delete(content_path(context.settings, file_id))
    except ArtifactsError as error:
        logger.warning("%s", error.cause)


def _content(file_id: str, context: Context) -> Path:
    path = content_path(context.settings, file_id)
    if not context.store.artifacts.fetch(path):
        raise not_found(f"The content of {file_id} is gone.", param="file_id", code="file_not_found")
    return path
