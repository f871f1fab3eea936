"""What the web pages of a server can do beyond looking, as `agentrft.dashboard.server_side` wants it."""

from typing import TYPE_CHECKING, Any

from agentrft.server.context import Context
from agentrft.server.objects.jobs import checkpoints, model_name, resumable_from
from agentrft.store import JobRow
from agentrft.store.states import ENDED

if TYPE_CHECKING:
    from agentrft.dashboard.server_side import Action, StoredFile

FINE_TUNE = "fine-tune"
# What a request that says nothing of it has.
NOT_SAID = (("priority", 0), ("integrations", []))


class PageActions:
    """Of one server."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def actions(self, job: JobRow) -> "list[Action]":
        served = self._context.records.served(job.job_id)
        if served is None:
            return []
        found: list[Action] = []
        if job.status in ("queued", "running", "interrupted") and served.wish is None:
            found.append("pause")
        if served.wish == "pause" or job.status in resumable_from(job):
            found.append("resume")
        if job.status not in ENDED and served.wish != "cancel":
            found.append("cancel")
        return [*found, "clone"]

    def request(self, job_id: str) -> dict[str, Any] | None:
        served = self._context.records.served(job_id)
        if served is None:
            return None
        request = dict(served.request)
        request |= request.pop("ours")
        return {name: value for name, value in request.items() if (name, value) not in NOT_SAID}

    def base_models(self) -> list[str]:
        return sorted(self._context.catalog.weights)

    def files(self) -> "list[StoredFile]":
        from agentrft.dashboard.server_side import StoredFile

        usable = (one for one in self._context.records.files() if one.purpose == FINE_TUNE and one.status != "error")
        return [StoredFile(one.file_id, one.filename) for one in usable]

    def chat_models(self, job_id: str) -> list[str]:
        served = self._context.records.served(job_id)
        if served is None:
            return []
        job, organization = self._context.store.get_job(job_id), self._context.settings.organization
        best = [model_name(job, served, organization)] if job.status == "succeeded" else []
        steps = checkpoints(job, served, self._context.store, organization)
        return [*best, *(one["fine_tuned_model_checkpoint"] for one in steps), served.request["model"]]
