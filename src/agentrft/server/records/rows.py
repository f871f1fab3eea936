"""What the server's tables hand out: rows as they were when they were read. Times are in seconds since the epoch."""

from dataclasses import dataclass
from typing import Any

UNKNOWN_MODEL = "unknown"


@dataclass(frozen=True)
class ServedJob:
    """What a server knows of a job beside its record; columns as in the table.

    `request` always has the fields that are shown of it, also where the record lost some.
    """

    job_id: str
    request: dict[str, Any]
    priority: int
    wish: str | None
    lease_owner: str | None
    lease_until: float | None
    crashes: int
    estimated_finish: float | None

    def __post_init__(self) -> None:
        given = self.request if isinstance(self.request, dict) else {}
        metadata, method, ours = given.get("metadata"), given.get("method"), given.get("ours")
        integrations = given.get("integrations")
        shown = {
            **given,
            "model": _text_or(given.get("model"), UNKNOWN_MODEL),
            "training_file": _text_or(given.get("training_file"), ""),
            "validation_file": _text_or(given.get("validation_file"), None),
            "suffix": _text_or(given.get("suffix"), None),
            "metadata": metadata if isinstance(metadata, dict) else None,
            "method": method if isinstance(method, dict) else {},
            # Jobs of earlier versions have none.
            "integrations": integrations if isinstance(integrations, list) else [],
            "ours": ours if isinstance(ours, dict) else {},
        }
        object.__setattr__(self, "request", shown)


@dataclass(frozen=True)
class FileRow:
    """An uploaded file; times in seconds since the epoch."""

    file_id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None
    status: str
    status_details: str | None


@dataclass(frozen=True)
class UploadRow:
    """A file that comes in parts."""

    upload_id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float
    status: str
    file_id: str | None


@dataclass(frozen=True)
class KeyRow:
    """An API key, without the key."""

    key_id: str
    name: str
    created_at: float
    revoked_at: float | None


@dataclass(frozen=True)
class PermissionRow:
    permission_id: str
    checkpoint: str
    project_id: str
    created_at: float


def _text_or(value: Any, otherwise: Any) -> Any:
    return value if isinstance(value, str) else otherwise
