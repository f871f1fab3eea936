"""What a server keeps beside its jobs: requests, files, uploads, evals, keys, permissions, webhook deliveries and
responses.

Every method is one short transaction, on disk when it returns.
"""

from agentrft.server.records.access import AccessRecords
from agentrft.server.records.base import new_id
from agentrft.server.records.deliveries import DeliveryRecords
from agentrft.server.records.eval_leases import EvalLeases
from agentrft.server.records.evals import EvalRecords
from agentrft.server.records.files import FileRecords
from agentrft.server.records.job_lists import JobLists
from agentrft.server.records.jobs import RUNNABLE, JobRecords
from agentrft.server.records.responses import ResponseRecords
from agentrft.server.records.sealed import SealedRecords
from agentrft.store import JobStore

__all__ = ["RUNNABLE", "Records", "new_id"]


class Records(JobRecords, FileRecords, EvalRecords, AccessRecords, DeliveryRecords, ResponseRecords, SealedRecords):
    """The server's tables in a store's database."""

    def __init__(self, store: JobStore) -> None:
        super().__init__(store)
        self.lists = JobLists(store.database)
        self.eval_leases = EvalLeases(store)
