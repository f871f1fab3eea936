"""A job's durable record: one SQLite file per folder of runs, and the files of each job beside it, or in a bucket, too.

What a method here has returned from is on disk, so a job that is killed at any moment loses nothing that was finished.
"""

from agentrft.store.artifacts import read_rollouts, rollout_row, write_rollouts
from agentrft.store.jobs import JobStore
from agentrft.store.object_store import ObjectStore
from agentrft.store.rows import Event, EventLevel, JobRow, PendingKey, PendingRollout
from agentrft.store.shared import Artifacts, SharedArtifacts
from agentrft.store.states import JobStatus

__all__ = [
    "Artifacts",
    "Event",
    "EventLevel",
    "JobRow",
    "JobStatus",
    "JobStore",
    "ObjectStore",
    "PendingKey",
    "PendingRollout",
    "SharedArtifacts",
    "read_rollouts",
    "rollout_row",
    "write_rollouts",
]
