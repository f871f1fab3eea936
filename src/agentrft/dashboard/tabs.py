"""The views of one job by the names in their addresses, each with what the address asks of it."""

import math
from collections.abc import Callable
from typing import Any, Literal

from fastapi import HTTPException, Request

from agentrft.dashboard.queries import SORTS, Filter
from agentrft.dashboard.runs import JobData
from agentrft.dashboard.server_side import ServerSide
from agentrft.dashboard.views import chat, compare, cost, data, latency, playground, rollouts, tools, why
from agentrft.errors import UserError


def tab_values(
    name: str, job: JobData, server: ServerSide | None, request: Request, step: int | None, page: int
) -> dict[str, Any] | None:
    """What a view shows; None where there is none of that name."""
    if name == "playground":
        return _playground(job, server, request, step)
    if name == "chat":
        query = request.query_params
        return chat.chat(job, server, a=query.get("a", ""), b=query.get("b", ""), sample=query.get("sample", ""))
    return _TABS[name](job, request, step, page) if name in _TABS else None


def thresholds(request: Request) -> latency.Thresholds:
    """From when on a rollout and a call count as slow: `rollout_over` and `call_over`, in seconds."""
    given = {name: _number(request.query_params.get(f"{name}_over"), float) for name in ("rollout", "call")}
    return latency.Thresholds(**{f"{name}_s": value for name, value in given.items() if value is not None})


def prices(request: Request) -> cost.Prices:
    """What an hour and a million of judges' tokens cost: `price_hour` and `price_judge`."""
    query = request.query_params
    return cost.Prices(_number(query.get("price_hour"), float), _number(query.get("price_judge"), float))


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


def _number(text: str | None, kind: Callable[[str], Any]) -> Any:
    try:
        value = kind(text) if text else None
        if value is not None and not math.isfinite(value):
            raise ValueError(text)
        return value
    except ValueError:
        raise HTTPException(400, f"'{(text or '')[:40]}' is no number.") from None
