"""Files, uploads and permissions as the API's objects."""

from typing import Any

from agentrft.server.records.rows import FileRow, PermissionRow, UploadRow


def file_object(row: FileRow) -> dict[str, Any]:
    return {
        "id": row.file_id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": int(row.created_at),
        "expires_at": None if row.expires_at is None else int(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "status_details": row.status_details,
    }


def upload_object(row: UploadRow, file: FileRow | None = None) -> dict[str, Any]:
    return {
        "id": row.upload_id,
        "object": "upload",
        "bytes": row.bytes,
        "created_at": int(row.created_at),
        "expires_at": int(row.expires_at),
        "filename": row.filename,
        "purpose": row.purpose,
        "status": row.status,
        "file": None if file is None else file_object(file),
    }


def permission_object(row: PermissionRow) -> dict[str, Any]:
    return {
        "id": row.permission_id,
        "object": "checkpoint.permission",
        "created_at": int(row.created_at),
        "project_id": row.project_id,
    }
