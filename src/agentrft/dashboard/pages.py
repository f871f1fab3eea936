"""The pages by their addresses: each as HTML, and at the same address with `.json` as the data that it shows."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

import jinja2
from fastapi import APIRouter, FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from agentrft.dashboard import guide
from agentrft.dashboard.assets import text_of, vega
from agentrft.dashboard.charts import Chart, embedded
from agentrft.dashboard.freshness import not_modified, tag_of, tag_of_jobs
from agentrft.dashboard.queries import SORTS, Filter
from agentrft.dashboard.runs import JobData, Runs
from agentrft.dashboard.server_side import Action, ServerSide
from agentrft.dashboard.views import (
    chat,
    compare,
    cost,
    data,
    jobs,
    latency,
    new_job,
    overview,
    playground,
    rollout,
    rollouts,
    tools,
    why,
)
from agentrft.errors import UserError
from agentrft.store.numbers import finite
from agentrft.store.states import ENDED

TEMPLATES = Path(__file__).parent / "templates"
# Nothing is loaded from elsewhere, and the pages stand in no frame. Vega makes functions of its expressions.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
}
CHARTS: dict[str, Chart] = {
    chart.name: chart for chart in (*overview.CHARTS, *latency.CHARTS, *tools.CHARTS, why.COURSE)
}
# The views of one job, in the order in which they stand on top.
TABS = (
    ("", "Overview"),
    ("groups", "Groups"),
    ("rollouts", "Rollouts"),
    ("why", "Why"),
    ("compare", "Compare"),
    ("data", "Data"),
    ("tools", "Tools and graders"),
    ("playground", "Playground"),
    ("chat", "Chat"),
)
# What people type on these would be lost if they were drawn anew.
STILL = frozenset({"playground", "chat"})
SCRIPTS = ("dashboard", "api", "actions", "new_job", "playground", "chat")
# What stands for a value that is not there: an en dash.
NOTHING = "\u2013"
NO_SERVER = "Jobs are created by the pages of a server: `agentrft serve`."
NO_HEADERS: Mapping[str, str] = MappingProxyType({})
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
    shown = _Shown(runs, root, server)

    @router.get("/", include_in_schema=False)
    @router.get("/index.json", include_in_schema=False)
    def all_jobs(request: Request) -> Response:
        tag = shown.tag_of_all()
        if request.headers.get("if-none-match") == tag:
            return not_modified(tag)
        values = jobs.jobs(runs, _prices(request))
        return shown.page(request, "jobs.html", values, {"ETag": tag}, tag=tag, is_live=True)

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
        if shown.is_known(request, job):
            return shown.unchanged(request, job)
        return shown.job_page(
            request,
            "overview.html",
            job,
            overview.overview(job, step, _thresholds(request), _prices(request)),
            "",
            step,
        )

    @router.get("/jobs/{job_id}/{tab}", include_in_schema=False)
    def one_tab(request: Request, job_id: str, tab: str, step: Step = None, page: Page = 1) -> Response:
        name = _plain(tab)
        job = shown.job(job_id)
        if name not in STILL and shown.is_known(request, job):
            return shown.unchanged(request, job)
        if name == "playground":
            values = _playground(job, server, request, step)
        elif name == "chat":
            query = request.query_params
            values = chat.chat(job, server, a=query.get("a", ""), b=query.get("b", ""), sample=query.get("sample", ""))
        elif name in _TABS:
            values = _TABS[name](job, request, step, page)
        else:
            raise HTTPException(404, f"There is no page '{tab}'.")
        return shown.job_page(request, f"{name}.html", job, values, name, step)

    @router.get("/jobs/{job_id}/rollouts/{trace_id}", include_in_schema=False)
    def one_rollout(request: Request, job_id: str, trace_id: str) -> Response:
        job = shown.job(job_id)
        if shown.is_known(request, job):
            return shown.unchanged(request, job)
        try:
            found = rollout.rollout(job, _plain(trace_id))
        except UserError as error:
            raise HTTPException(503, f"This rollout cannot be shown: {error}") from error
        if found is None:
            raise HTTPException(404, f"There is no rollout '{_plain(trace_id)}' among those that were looked at.")
        return shown.job_page(request, "rollout.html", job, found, "rollouts", found["rollout"]["step"])

    @router.get("/static/{name}", include_in_schema=False)
    def static(name: str, request: Request) -> Response:
        return _static(name, request)

    return router


class _Shown:
    """Pages of some runs."""

    def __init__(self, runs: Runs, root: str, server: ServerSide | None) -> None:
        self._runs = runs
        self._root = root
        self._server = server

    def job(self, job_id: str) -> JobData:
        try:
            return self._runs.job(job_id)
        except UserError as error:
            raise HTTPException(404, str(error)) from error

    def job_page(
        self, request: Request, template: str, job: JobData, values: dict[str, Any], tab: str, step: int | None
    ) -> Response:
        headers = {"ETag": self.tag(request, job)}
        if request.url.path.endswith(".json"):
            return _json(values, headers)
        about = {
            "tag": headers["ETag"],
            "problem": job.problem,
            "job_row": job.row,
            "steps": overview.step_bar(job.metrics),
            "tabs": TABS,
            "tab": tab,
            "step": step,
            "base": f"{self._root}/jobs/{job.job_id}",
            # Also of a job that has ended, as long as its rollouts are being looked through.
            "is_live": tab not in STILL and (job.row.status not in ENDED or bool(values.get("steps_missing"))),
            "actions": self.actions(job.job_id),
        }
        return self.page(request, template, values, headers, **about)

    def tag(self, request: Request, job: JobData) -> str:
        return tag_of(request, job, self.actions(job.job_id))

    def is_known(self, request: Request, job: JobData) -> bool:
        """Whether who asks has a page of the job as it is now."""
        known = request.headers.get("if-none-match")
        return known is not None and known == self.tag(request, job)

    def unchanged(self, request: Request, job: JobData) -> Response:
        return not_modified(self.tag(request, job))

    def tag_of_all(self) -> str:
        """Of the list of jobs."""
        rows = self._runs.store.list_jobs()
        return tag_of_jobs(self._runs, rows, [self.actions(row.job_id) for row in rows])

    def actions(self, job_id: str) -> list[Action]:
        return [] if self._server is None else self._server.actions(job_id)

    def page(
        self,
        request: Request,
        template: str,
        values: dict[str, Any],
        headers: Mapping[str, str] = NO_HEADERS,
        **about: Any,
    ) -> Response:
        if request.url.path.endswith(".json"):
            return _json(values)
        drawn = {name: CHARTS[name].spec(rows) for name, rows in values.get("charts", {}).items() if name in CHARTS}
        if course := (values.get("chosen") or {}).get("course"):
            drawn["course"] = why.COURSE.spec(course)
        query = dict(request.query_params)
        context = {
            "root": self._root,
            "has_server": self._server is not None,
            "actions_of": self.actions,
            "specs": {name: embedded(spec) for name, spec in drawn.items()},
            "chart_titles": CHARTS,
            "json_url": f"{_json_path(request.url.path)}{'?' + urlencode(query) if query else ''}",
            "query": query,
            "state": _state(values, about),
            "link": lambda **changes: _link(query, changes),
            **values,
            **about,
        }
        return HTMLResponse(environment().get_template(template).render(context), headers={**HEADERS, **headers})


def _state(values: dict[str, Any], about: dict[str, Any]) -> str:
    """Changes whenever there is something new to be seen."""
    seen = {
        **_without_clock(values),
        "steps": about.get("steps"),
        "status": getattr(about.get("job_row"), "status", ""),
        "actions": about.get("actions"),
    }
    return hashlib.sha256(json.dumps(finite(seen), default=str).encode()).hexdigest()[:16]


def _without_clock(values: dict[str, Any]) -> dict[str, Any]:
    """What is shown, without what changes by itself."""

    def still(line: Any) -> Any:
        return {name: value for name, value in line.items() if name != "seconds"} if isinstance(line, dict) else line

    lines = [still(line) for line in values.get("jobs", [])]
    return {**values, "job": still(values.get("job")), "jobs": lines}


def _rollouts(job: JobData, request: Request, step: int | None, page: int) -> dict[str, Any]:
    query = request.query_params
    sort = query.get("sort", "step")
    order: Literal["asc", "desc"] = "desc" if query.get("order") == "desc" else "asc"
    return rollouts.rollouts(
        job, _filter(request, step), sort=sort if sort in SORTS else "step", order=order, page=page
    )


def _groups(job: JobData, request: Request, step: int | None, page: int) -> dict[str, Any]:
    return rollouts.groups(job, _filter(request, step), page=page)


def _why(job: JobData, request: Request, step: int | None, page: int) -> dict[str, Any]:
    return why.why(job, request.query_params.get("behaviour", ""))


def _compare(job: JobData, request: Request, step: int | None, page: int) -> dict[str, Any]:
    query = request.query_params
    try:
        other = job.runs.job(query["with"]) if query.get("with") else job
    except UserError as error:
        raise HTTPException(404, str(error)) from error
    phase = query.get("phase") or "validation"
    return compare.compare(
        job,
        other,
        phase=phase,
        step_a=_number(query.get("a"), int),
        step_b=_number(query.get("b"), int),
        sample=query.get("sample", ""),
    )


def _data(job: JobData, request: Request, step: int | None, page: int) -> dict[str, Any]:
    query = request.query_params
    return data.data(job, phase=query.get("phase") or "train", state=query.get("state", ""))


def _tools(job: JobData, request: Request, step: int | None, page: int) -> dict[str, Any]:
    return tools.tools(job)


def _playground(job: JobData, server: ServerSide | None, request: Request, step: int | None) -> dict[str, Any]:
    query = request.query_params
    count = _number(query.get("count"), int) or playground.ROLLOUTS
    return playground.playground(job, server, phase=query.get("phase", ""), step=step, count=count)


_TABS: dict[str, Callable[[JobData, Request, int | None, int], dict[str, Any]]] = {
    "rollouts": _rollouts,
    "groups": _groups,
    "why": _why,
    "compare": _compare,
    "data": _data,
    "tools": _tools,
}


def _filter(request: Request, step: int | None) -> Filter:
    query = request.query_params
    return Filter(
        phase=query.get("phase") or "train",
        step=step,
        sample=query.get("sample", ""),
        outcome=query.get("outcome", ""),
        tool=query.get("tool", ""),
        behaviour=query.get("behaviour", ""),
        lacks=query.get("lacks", ""),
        text=query.get("text", "")[:200],
        low=_number(query.get("low"), float),
        high=_number(query.get("high"), float),
    )


def _thresholds(request: Request) -> latency.Thresholds:
    given = {name: _number(request.query_params.get(f"{name}_over"), float) for name in ("rollout", "call")}
    return latency.Thresholds(**{f"{name}_s": value for name, value in given.items() if value is not None})


def _prices(request: Request) -> cost.Prices:
    query = request.query_params
    return cost.Prices(_number(query.get("price_hour"), float), _number(query.get("price_judge"), float))


def _number(text: str | None, kind: Callable[[str], Any]) -> Any:
    try:
        value = kind(text) if text else None
        if value is not None and not math.isfinite(value):
            raise ValueError(text)
        return value
    except ValueError:
        raise HTTPException(400, f"'{(text or '')[:40]}' is no number.") from None


def _plain(name: str) -> str:
    return name.removesuffix(".json")


def _json_path(path: str) -> str:
    return f"{path}index.json" if path.endswith("/") else f"{path}.json"


def _json(values: dict[str, Any], headers: Mapping[str, str] = NO_HEADERS) -> Response:
    fixed = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return JSONResponse(finite(values), headers={**fixed, **headers})


def _link(query: dict[str, str], changes: dict[str, Any]) -> str:
    """The page's own address with some parameters changed; those of None are left out, and the page begins anew."""
    kept = {name: value for name, value in query.items() if name != "page" and name not in changes}
    kept |= {name: str(value) for name, value in changes.items() if value is not None and value != ""}
    return f"?{urlencode(kept)}"


def _static(name: str, request: Request) -> Response:
    kinds = {f"{script}.js": "text/javascript" for script in (*SCRIPTS, "vega")} | {"dashboard.css": "text/css"}
    if name not in kinds:
        raise HTTPException(404, "There is no such file.")
    try:
        content = vega() if name == "vega.js" else text_of(name)
    except UserError as error:
        raise HTTPException(503, str(error)) from error
    tag = f'"{hashlib.sha256(content.encode()).hexdigest()[:20]}"'
    headers = {"ETag": tag, "Cache-Control": "no-cache", "X-Content-Type-Options": "nosniff"}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kinds[name], headers=headers)


@cache
def environment() -> jinja2.Environment:
    """The templates, and how numbers are written in them."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "number": lambda value: NOTHING if value is None else guide.number(float(value)),
        "share": lambda value: NOTHING if value is None else guide.share(float(value)),
        "seconds": lambda value: NOTHING if value is None else guide.seconds(float(value)),
        "hours": lambda value: guide.seconds(3600 * float(value)),
        "clock": lambda value: time.strftime("%Y-%m-%d %H:%M", time.gmtime(value)),
        "colour": colour,
    }
    return environment


def colour(level: float | None) -> str:
    """Of a reward between the lowest (0) and the highest (1), for `background`; told apart by lightness, too."""
    if level is None:
        return "var(--missing)"
    return f"color-mix(in oklab, var(--high) {round(level * 100)}%, var(--low))"
