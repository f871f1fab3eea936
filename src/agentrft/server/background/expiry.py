"""Deleting what nobody can use any more: expired files, uploads that were abandoned, what a kill left half written, and
responses of long ago.

Bytes go first, then the row that knows of them: a kill in between leaves a row, which the next look finds again.
Bytes that no row knows are left alone: they may be of another database.
"""

import asyncio
import shutil
import time
from typing import TYPE_CHECKING

from agentrft.server.background.loop import keep_doing
from agentrft.server.creation.request import PARTIAL_PREFIX, content_path

if TYPE_CHECKING:
    from agentrft.server.context import Context

LOOK_S = 10.0
# A request that found a file shortly before it expired may still be making a job of it; one may be joining the parts of
# gigabytes, or writing them.
FILE_GRACE_S = 60.0
UPLOAD_GRACE_S = 3600.0
# How long responses are kept, and how much of them; the oldest go first.
RESPONSE_AGE_S = 30 * 24 * 3600.0
MOST_RESPONSE_BYTES = 1024 * 1024 * 1024


async def clean(context: "Context") -> None:
    """At once, and again and again until cancelled."""
    await keep_doing("deleting what has expired", lambda: asyncio.to_thread(clean_once, context), every_s=LOOK_S)


def clean_once(context: "Context") -> None:
    now = time.time()
    _delete_files(context, now - FILE_GRACE_S)
    _delete_uploads(context, now - UPLOAD_GRACE_S)
    _delete_partial(context, now - UPLOAD_GRACE_S)
    context.records.trim_responses(now - RESPONSE_AGE_S, most_bytes=MOST_RESPONSE_BYTES)


def _delete_files(context: "Context", before: float) -> None:
    expired = context.records.expired_files(before)
    in_use = context.records.lists.users_of_files() if expired else {}
    for file_id in expired:
        if file_id not in in_use:
            context.store.artifacts.delete(content_path(context.settings, file_id))
            context.records.delete_file(file_id)


def _delete_uploads(context: "Context", before: float) -> None:
    for upload_id in context.records.expired_uploads(before):
        for part_id in context.records.parts(upload_id):
            context.store.artifacts.delete(content_path(context.settings, part_id))
        context.records.delete_upload(upload_id)


def _delete_partial(context: "Context", before: float) -> None:
    for path in context.settings.files_dir.glob(f"{PARTIAL_PREFIX}*"):
        try:
            if path.stat().st_mtime < before:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink()
        except FileNotFoundError:  # it has become whole
            pass
