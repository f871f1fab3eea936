"""The pages by their addresses: each as HTML, and at the same address with `.json` as the data that it shows."""

from typing import Annotated

from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import PlainTextResponse, Response

from agentrft.dashboard.rendering import STILL, Renderer
from agentrft.dashboard.runs import Runs
from agentrft.dashboard.server_side import ServerSide
from agentrft.dashboard.static_files import static_file
from agentrft.dashboard.tabs import prices, tab_values, thresholds
from agentrft.dashboard.views import new_job, overview, rollout
from agentrft.errors import UserError

NO_SERVER = "Jobs are created by the pages of a server: `agentrft serve`."
Step = Annotated[int | None, Query(ge=0)]
Page = Annotated[int, Query(ge=1, le=10**6)]


def dashboard_app(runs: Runs, *, root: str = "", server: ServerSide | None = None) -> FastAPI:
    """All pages of some runs, as an application of their own.

    Args:
        root: the path that it is mounted at in another one.
        server: what is around the pages; None where they only look.
    """
    app = FastAPI(title="agentrft dashboard", openapi_url=None)
    app.include_router(_router(runs, root, server))

    @app.exception_handler(404)
    @app.exception_handler(503)
    async def not_there(request: Request, error: Exception) -> Response:
        told = str(getattr(error, "detail", "There is no such page."))
        return PlainTextResponse(told, status_code=getattr(error, "status_code", 404))

    return app


def _router(runs: Runs, root: str, server: ServerSide | None) -> APIRouter:
    router = APIRouter()
    shown = Renderer(runs, root, server)

    @router.get("/", include_in_schema=False)
    @router.get("/index.json", include_in_schema=False)
    def all_jobs(request: Request) -> Response:
        return shown.all_jobs(request, prices(request))

    @router.get("/new", include_in_schema=False)
    @router.get("/new.json", include_in_schema=False)
    def new(request: Request, source: Annotated[str, Query(alias="from", max_length=200)] = "") -> Response:
        page = None if server is None else new_job.new_job(server, source)
        if page is None:
            raise HTTPException(404, "There is no such job here to begin from." if server else NO_SERVER)
        return shown.page(request, "new_job.html", page)

    @router.get("/jobs/{job_id}", include_in_schema=False)
    def one_job(request: Request, job_id: str, step: Step = None) -> Response:
        job = shown.job(_plain(job_id))
        if (unchanged := shown.unchanged(request, job)) is not None:
            return unchanged
        return shown.job_page(
            request,
            "overview.html",
            job,
            overview.overview(job, step, thresholds(request), prices(request)),
            "",
            step,
        )

    @router.get("/jobs/{job_id}/{tab}", include_in_schema=False)
    def one_tab(request: Request, job_id: str, tab: str, step: Step = None, page: Page = 1) -> Response:
        name = _plain(tab)
        job = shown.job(job_id)
        if name not in STILL and (unchanged := shown.unchanged(request, job)) is not None:
            return unchanged
        values = tab_values(name, job, server, request, step, page)
        if values is None:
            raise HTTPException(404, f"There is no page '{tab}'.")
        return shown.job_page(request, f"{name}.html", job, values, name, step)

    @router.get("/jobs/{job_id}/rollouts/{trace_id}", include_in_schema=False)
    def one_rollout(request: Request, job_id: str, trace_id: str) -> Response:
        job = shown.job(job_id)
        if (unchanged := shown.unchanged(request, job)) is not None:
            return unchanged
        try:
            found = rollout.rollout(job, _plain(trace_id))
        except UserError as error:
            raise HTTPException(503, f"This rollout cannot be shown: {error}") from error
        if found is None:
            raise HTTPException(404, f"There is no rollout '{_plain(trace_id)}' among those that were looked at.")
        return shown.job_page(request, "rollout.html", job, found, "rollouts", found["rollout"]["step"])

    @router.get("/static/{name}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        return static_file(name, request)

    return router


def _plain(name: str) -> str:
    return name.removesuffix(".json")
