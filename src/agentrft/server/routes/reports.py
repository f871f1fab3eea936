"""Pages for people, behind the same guard as the API."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from agentrft.server.json_bodies import WireRoute
from agentrft.server.objects.report_page import HEADERS, report_page
from agentrft.server.routes.evals import report_of
from agentrft.server.routes.files import InContext
from agentrft.server.routes.parameters import BaseUrl
from agentrft.server.schemas.answers import answers_bytes

router = APIRouter(route_class=WireRoute)


@router.get("/evals/{eval_id}/runs/{run_id}", **answers_bytes("text/html"))
def show_run(
    eval_id: str,
    run_id: str,
    context: InContext,
    base_url: BaseUrl,
    page: Annotated[int, Query(ge=1, le=10**9)] = 1,
) -> HTMLResponse:
    """A run of an eval as a page: `report_url` of the run."""
    run, items, means = report_of(eval_id, run_id, context, base_url, page_number=page)
    return HTMLResponse(report_page(run, items, means, page=page), headers=HEADERS)
