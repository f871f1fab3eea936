"""The life of a job, as one table. A job of the command line is never queued."""

from typing import Literal

JobStatus = Literal["created", "queued", "running", "paused", "interrupted", "failed", "cancelled", "succeeded"]

TRANSITIONS: dict[JobStatus, frozenset[JobStatus]] = {
    "created": frozenset({"queued", "running", "cancelled", "failed"}),
    "queued": frozenset({"running", "paused", "cancelled", "failed"}),
    "running": frozenset({"paused", "interrupted", "failed", "succeeded"}),
    "paused": frozenset({"queued", "running", "cancelled"}),
    "interrupted": frozenset({"queued", "running", "paused", "cancelled", "failed"}),
    "failed": frozenset({"queued", "running"}),
    "cancelled": frozenset(),
    "succeeded": frozenset(),
}
# A job in one of these is done; a failed one may be resumed.
ENDED: tuple[JobStatus, ...] = ("succeeded", "failed", "cancelled")


def check_transition(old: JobStatus, new: JobStatus) -> None:
    """Raise ValueError unless a job may go from `old` to `new`."""
    if new not in TRANSITIONS[old]:
        allowed = ", ".join(sorted(TRANSITIONS[old])) or "nothing: it is final"
        raise ValueError(f"a job that is '{old}' cannot become '{new}'; allowed: {allowed}")
