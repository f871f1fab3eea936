"""From what a view found to an answer: as HTML, as JSON, or that nothing has changed."""

import hashlib
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any
from urllib.parse import urlencode

from fastapi import HTTPException, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from agentrft.dashboard.charts import Chart, embedded
from agentrft.dashboard.freshness import not_modified, tag_of, tag_of_jobs
from agentrft.dashboard.runs import JobData, Runs
from agentrft.dashboard.server_side import Action, ServerSide
from agentrft.dashboard.templating import environment
from agentrft.dashboard.views import jobs, latency, overview, tools, why
from agentrft.dashboard.views.cost import Prices
from agentrft.errors import UserError
from agentrft.store import JobRow
from agentrft.store.numbers import finite
from agentrft.store.states import ENDED

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
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class Renderer:
    """Answers with pages of some runs.

    Args:
        root: the path that the pages are mounted at.
        server: what is around them; None where they only look.
    """

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
        actions = self.actions(job.row)
        headers = {"ETag": tag_of(request, job, actions)}
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
            "actions": actions,
        }
        return self.page(request, template, values, headers, **about)

    def unchanged(self, request: Request, job: JobData) -> Response | None:
        """The answer to who has a page of the job as it is now; None to others."""
        known = request.headers.get("if-none-match")
        if known is None or known != tag_of(request, job, self.actions(job.row)):
            return None
        return not_modified(known)

    def all_jobs(self, request: Request, prices: Prices) -> Response:
        """The list of jobs, or that it is as it was."""
        rows = self._runs.store.list_jobs()
        actions = {row.job_id: self.actions(row) for row in rows}
        tag = tag_of_jobs(self._runs, rows, list(actions.values()))
        if request.headers.get("if-none-match") == tag:
            return not_modified(tag)
        values = jobs.jobs(self._runs, rows, prices)
        return self.page(request, "jobs.html", values, {"ETag": tag}, tag=tag, is_live=True, actions=actions)

    def actions(self, job: JobRow) -> list[Action]:
        return [] if self._server is None else self._server.actions(job)

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
