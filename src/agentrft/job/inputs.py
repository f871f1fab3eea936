"""The data files of a job, known by their contents: a resumed job goes on with the samples that it began with."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from agentrft.errors import UserError
from agentrft.spec import BaseJobSpec


def file_digests(spec: BaseJobSpec) -> dict[str, str]:
    """SHA-256 of each data file, by its path; files that are not there are left out."""
    return {str(path): _sha256(path) for path in spec.data_files.values() if path.is_file()}


def check_unchanged(spec: BaseJobSpec, digests: Mapping[str, str]) -> None:
    """Raise UserError if a data file is not what it was when the job was made."""
    now = file_digests(spec)
    changed = [path for path, digest in digests.items() if now.get(path) != digest]
    if changed:
        what = ", ".join(path if Path(path).is_file() else f"{path} (gone)" for path in changed)
        raise UserError(
            f"these data files are not what they were when the job began: {what}.",
            "Put them back as they were, or start a new job: its steps would otherwise mix two data sets.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
