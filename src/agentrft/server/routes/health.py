"""Whether the server lives, is ready, and what it does: for machines that watch it."""

from collections import Counter

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from agentrft.server.context import context_of
from agentrft.server.objects import status_of

router = APIRouter()


@router.get("/healthz", response_class=PlainTextResponse)
def healthz() -> str:
    return "ok"


@router.get("/readyz", response_class=PlainTextResponse)
def readyz(request: Request) -> str:
    """Ready is a server that can read its database."""
    context_of(request).store.list_jobs()
    return "ok"


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(request: Request) -> Response:
    """In the text format of Prometheus."""
    context = context_of(request)
    registry = CollectorRegistry()
    jobs = Gauge("agentrft_jobs", "Jobs by status.", ["status"], registry=registry)
    reward = Gauge("agentrft_job_reward_mean", "Mean reward of the last step.", ["job", "phase"], registry=registry)
    step = Gauge("agentrft_job_step", "Last committed step.", ["job"], registry=registry)
    known = [job for job in context.store.list_jobs() if context.records.served(job.job_id) is not None]
    for status, count in Counter(status_of(job) for job in known).items():
        jobs.labels(status).set(count)
    for job in known:
        if job.status == "running":
            step.labels(job.job_id).set(job.step)
            for row in context.store.metrics(job.job_id):
                if "reward_mean" in row:
                    reward.labels(job.job_id, row["phase"]).set(row["reward_mean"])
    answered: Counter[tuple[str, int]] = request.app.state.answered
    answers = Gauge("agentrft_http_answers_total", "Answers by route and status.", ["route", "status"],
                    registry=registry)  # fmt: skip
    for (route, code), count in answered.items():
        answers.labels(route, str(code)).set(count)
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
