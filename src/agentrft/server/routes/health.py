"""Whether the server lives, is ready, and what it does: for machines that watch it."""

from collections import Counter

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from agentrft.server.context import context_of
from agentrft.server.json_bodies import WireRoute
from agentrft.server.objects.jobs import shown_status

router = APIRouter(route_class=WireRoute)


@router.get("/healthz", response_class=PlainTextResponse)
async def healthz() -> str:
    """From the event loop itself: no thread, no database and no queue is between the question and the answer."""
    return "ok"


@router.get("/readyz", response_class=PlainTextResponse)
async def readyz(request: Request) -> str:
    """Ready is a server that can read its database."""
    context = context_of(request)
    await context.quickly(context.records.lists.counts)
    return "ok"


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """In the text format of Prometheus."""
    context = context_of(request)
    registry = CollectorRegistry()
    jobs = Gauge("agentrft_jobs", "Jobs by status.", ["status"], registry=registry)
    reward = Gauge("agentrft_job_reward_mean", "Mean reward of the last step.", ["job", "phase"], registry=registry)
    step = Gauge("agentrft_job_step", "Last committed step.", ["job"], registry=registry)
    lists = context.records.lists
    for status, count in lists.counts().items():
        # Two of ours are one of the API's.
        jobs.labels(shown_status(status)).inc(count)
    for job_id, last in lists.steps_of_running().items():
        step.labels(job_id).set(last)
        for row in context.store.metrics(job_id):
            if "reward_mean" in row:
                reward.labels(job_id, row["phase"]).set(row["reward_mean"])
    answered: Counter[tuple[str, int]] = request.app.state.answered
    answers = Gauge(
        "agentrft_http_answers_total", "Answers by route and status.", ["route", "status"], registry=registry
    )
    for (route, code), count in answered.items():
        answers.labels(route, str(code)).set(count)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
