"""Telling the user's own server that a job has ended, signed by the Standard Webhooks scheme.

A telling is a row of the database before it is sent, so that a restart loses none; what is not answered by 2xx is sent
again, for a day.
"""

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import aiohttp
from standardwebhooks import Webhook

from agentrft.errors import UserError
from agentrft.server.background.loop import keep_doing
from agentrft.store.states import ENDED
from agentrft.traffic import public_url

if TYPE_CHECKING:
    from agentrft.server.context import Context

logger = logging.getLogger(__name__)

LOOK_S = 1.0
TIMEOUT_S = 15.0
# Seconds until each further attempt, as the scheme advises: growing, a day in all.
WAITS_S = (5, 30, 120, 600, 3600, 14400, 28800, 43200)


def tell_webhook(context: "Context", job_id: str) -> None:
    """Note that a job has ended; once, however often this is called."""
    url = context.settings.webhook_url
    job = context.store.get_job(job_id)
    if url is None or job.status not in ENDED:
        return
    body = {
        # A job that failed can be resumed, and end again.
        "id": f"evt_{job_id.removeprefix('ftjob-')}-{int(1000 * (job.finished_at or 0))}",
        "object": "event",
        "created_at": int(job.finished_at or time.time()),
        "type": f"fine_tuning.job.{job.status}",
        "data": {"id": job_id},
    }
    context.records.add_delivery(str(body["id"]), context.sealer.seal(url), json.dumps(body))


async def deliver(context: "Context") -> None:
    """Send what is due, until cancelled; also what jobs ended while nobody looked."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session:
        await keep_doing("sending webhooks", partial(_deliver_due, context, session), every_s=LOOK_S)


async def _deliver_due(context: "Context", session: aiohttp.ClientSession) -> None:
    await asyncio.to_thread(_note_ended, context)
    for row in await asyncio.to_thread(context.records.due_deliveries):
        error = await _send(context, session, row)
        attempts = row["attempts"]
        waits = error is not None and attempts < len(WAITS_S)
        due_at = time.time() + WAITS_S[attempts] if waits else None
        await asyncio.to_thread(context.records.note_delivery, row["event_id"], error=error, due_at=due_at)


def _note_ended(context: "Context") -> None:
    if context.settings.webhook_url is None:
        return
    for job_id in context.records.ended_since(context.started_at):
        tell_webhook(context, job_id)


async def _send(context: "Context", session: aiohttp.ClientSession, row: dict[str, Any]) -> str | None:
    """Why it was not taken; None if it was."""
    secret, now = context.settings.webhook_secret, datetime.now(UTC)
    headers = {
        "Content-Type": "application/json",
        "webhook-id": row["event_id"],
        "webhook-timestamp": str(int(now.timestamp())),
    }
    if secret is not None:
        headers["webhook-signature"] = Webhook(secret).sign(row["event_id"], now, row["body"])
    try:
        url = context.sealer.open(row["url"])
    except UserError as error:
        logger.warning("webhook of %s: %s", row["event_id"], error.cause)
        return "its URL was sealed with another key"
    try:
        async with session.post(url, data=row["body"], headers=headers, allow_redirects=False) as answer:
            return None if answer.status < 300 else f"HTTP {answer.status}"
    except (aiohttp.ClientError, TimeoutError) as error:
        logger.warning("webhook %s: %s", public_url(url), type(error).__name__)
        return type(error).__name__
