"""The life of a job, as one table."""

from typing import Literal

JobStatus = Literal["created", "running", "paused", "interrupted", "failed", "succeeded"]

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    "created": frozenset({"running", "failed"}),
    "running": frozenset({"paused", "interrupted", "failed", "succeeded"}),
    "paused": frozenset({"running"}),
    "interrupted": frozenset({"running"}),
    "failed": frozenset({"running"}),
    "succeeded": frozenset(),
}


def check_transition(old: JobStatus, new: JobStatus) -> None:
    """Raise ValueError unless a job may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old])) or "nothing: it is final"
        raise ValueError(f"a job that is '{old}' cannot become '{new}'; allowed: {allowed}")
