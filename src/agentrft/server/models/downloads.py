"""Trained weights as one file to download: PEFT's adapter as it is, or merged into the whole model.

Both are made in a process that ends when the client hangs up, and are deleted when they were sent, or could not be.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import FileResponse
from starlette.types import Receive, Scope, Send

from agentrft.server.context import Context
from agentrft.server.creation.request import PARTIAL_PREFIX
from agentrft.server.errors import ApiError
from agentrft.server.models.lookup import ServedModel, template_variables
from agentrft.server.offload.admission import Admission, unless_gone
from agentrft.server.offload.processes import ProcessDied, WorkProcess

MERGE = "agentrft.server.models.merge"
ARCHIVE = "agentrft.server.models.archive"
MERGE_S, ARCHIVE_S = 1800.0, 600.0
ARCHIVE_NAME = "weights.zip"


class TemporaryFileResponse(FileResponse):
    """A file whose folder is deleted once it was sent, or the client has gone.

    Args:
        held: closed then, too.
    """

    def __init__(self, path: Path, held: AsyncExitStack, **options: Any) -> None:
        super().__init__(path, **options)
        self._folder = path.parent
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(super().__call__(scope, receive, send))
        try:
            # A client that hung up is not sent gigabytes that nobody reads.
            await unless_gone(Request(scope, receive), sending)
        finally:
            try:
                await asyncio.to_thread(shutil.rmtree, self._folder, True)
            finally:
                await self._held.aclose()


async def zipped(request: Request, name: str, folder: Path, context: Context) -> TemporaryFileResponse:
    """The files of a folder, as a zip.

    Raises:
        ApiError: too many others are being made, or it could not be made.
    """
    told = {"folder": str(folder)}
    return await unless_gone(request, _made(ARCHIVE, told, name, context, context.zipping, ARCHIVE_S))


async def merged(request: Request, model: ServedModel, checkpoint: Path, context: Context) -> TemporaryFileResponse:
    """The whole model, with its tokenizer and chat template, as `agentrft export --format merged` writes it.

    Raises:
        ApiError: too many others are being merged, this one took too long, or the base model cannot be had.
    """
    told: dict[str, Any] = {"name": model.name, "base": model.base, "checkpoint": str(checkpoint)}
    told["chat_template_kwargs"] = await asyncio.to_thread(template_variables, model, context)
    return await unless_gone(request, _made(MERGE, told, model.name, context, context.merging, MERGE_S))


async def _made(
    module: str, told: Mapping[str, Any], name: str, context: Context, admission: Admission, timeout_s: float
) -> TemporaryFileResponse:
    async with AsyncExitStack() as held, admission.slot(), _temporary(context) as folder:
        # Until it was sent: who reads slowly keeps a copy of the model on the disk.
        await held.enter_async_context(context.sending.slot())
        process = WorkProcess(context.launcher, module)
        path = folder / ARCHIVE_NAME
        try:
            problem = await process.ask({**told, "out": str(path)}, timeout_s=timeout_s)
        except TimeoutError as error:
            raise ApiError(503, f"'{name}' was not ready within {timeout_s:.0f} s.", code="merge_failed") from error
        except ProcessDied as error:
            problem = str(error)
        finally:
            await process.close()
        if problem is not None:
            raise ApiError(503, f"'{name}' could not be packed: {problem}", param="model", code="merge_failed")
        return TemporaryFileResponse(path, held.pop_all(), media_type="application/zip")


@asynccontextmanager
async def _temporary(context: Context) -> AsyncIterator[Path]:
    """A folder for what is sent later; deleted where it is not made, or with what a kill left half written."""
    context.settings.files_dir.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=context.settings.files_dir))
    with ExitStack() as undo:
        # Not in a thread: a request that is being cancelled waits for nothing more.
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder
        undo.pop_all()
