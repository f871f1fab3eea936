"""Header values stay out of the store: what is stored says `***`, and a resumed job reads them from its file again."""

from pathlib import Path
from typing import Any

from agentrft.errors import UserError
from agentrft.spec import JobSpec, load_job

HIDDEN = "***"


def stored_spec(spec: JobSpec, source: Path | None) -> dict[str, Any]:
    """The spec as it is stored: `{"source": path of the job's file or None, "job": the spec without secrets}`."""
    return {"source": str(source.resolve()) if source else None, "job": _hide(spec.model_dump(mode="json"))}


def restored_spec(stored: dict[str, Any]) -> JobSpec:
    """The spec of a stored job, with header values from its file where it has any.

    Raises:
        UserError: header values are needed and the file is gone, or has other headers by now.
    """
    job = stored["job"]
    if _has_hidden(job):
        source = stored["source"]
        if source is None:
            raise UserError("the job's header values are not stored, and it came from no file.", "Start it anew.")
        current = load_job(Path(source)).model_dump(mode="json")
        job = _reveal(job, current, source)
    return JobSpec.model_validate(job)


def _hide(value: Any, in_headers: bool = False) -> Any:
    if isinstance(value, dict):
        return {key: _hide(item, in_headers or key == "headers") for key, item in value.items()}
    if isinstance(value, list):
        return [_hide(item, in_headers) for item in value]
    return HIDDEN if in_headers else value


def _has_hidden(value: Any, in_headers: bool = False) -> bool:
    if isinstance(value, dict):
        return any(_has_hidden(item, in_headers or key == "headers") for key, item in value.items())
    if isinstance(value, list):
        return any(_has_hidden(item, in_headers) for item in value)
    return in_headers


def _reveal(stored: Any, current: Any, source: str) -> Any:
    """`stored` with each hidden value replaced by the one at the same place in the file."""
    if isinstance(stored, dict):
        other = current if isinstance(current, dict) else {}
        return {key: _reveal(item, other.get(key), source) for key, item in stored.items()}
    if isinstance(stored, list):
        other = current if isinstance(current, list) and len(current) == len(stored) else [None] * len(stored)
        return [_reveal(item, now, source) for item, now in zip(stored, other, strict=True)]
    if stored != HIDDEN:
        return stored
    if not isinstance(current, str):
        raise UserError(
            f"{source} no longer has a header that the job was started with.", "Put it back, or start a new job."
        )
    return current
