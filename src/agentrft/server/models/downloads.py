"""Trained weights as one file to download: PEFT's adapter as it is, or merged into the whole model."""

import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.background import BackgroundTask

from agentrft.server.context import Context
from agentrft.server.creation.request import PARTIAL_PREFIX
from agentrft.server.errors import ApiError
from agentrft.server.models.lookup import ServedModel

# For a merge, and as long again for those before it.
MERGE_S = 1800.0
MEDIA_TYPE = "application/zip"


def zipped(folder: Path, context: Context) -> FileResponse:
    """The files of a folder, as a zip that is gone when it was sent."""
    path = _temporary(context) / "weights.zip"
    # Weights do not get smaller by compression.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for one in sorted(folder.glob("[!.]*")):
            archive.write(one, one.name)
    return FileResponse(path, media_type=MEDIA_TYPE, background=BackgroundTask(shutil.rmtree, path.parent, True))


def merged(model: ServedModel, checkpoint: Path, context: Context) -> FileResponse:
    """The whole model, with its tokenizer and chat template, as `agentrft export --format merged` writes it.

    Raises:
        ApiError: another merge or this one took too long, or the base model cannot be had.
    """
    if not context.merging.acquire(timeout=MERGE_S):
        raise ApiError(503, "Other models are being merged; try again later.", code="overloaded")
    folder = _temporary(context)
    try:
        told = {"name": model.name, "base": model.base, "checkpoint": str(checkpoint), "out": str(folder / "merged")}
        ended = subprocess.run(
            [sys.executable, "-m", "agentrft.server.models.merge"],
            input=json.dumps(told),
            capture_output=True,
            text=True,
            timeout=MERGE_S,
        )
        if ended.returncode != 0:
            why = ended.stderr.strip().splitlines()[-1:] or ["no reason given"]
            raise ApiError(503, f"'{model.name}' could not be merged: {why[0]}", param="model", code="merge_failed")
        return zipped(folder / "merged", context)
    except subprocess.TimeoutExpired as error:
        raise ApiError(503, f"'{model.name}' was not merged within {MERGE_S:.0f} s.", code="merge_failed") from error
    finally:
        context.merging.release()
        shutil.rmtree(folder, ignore_errors=True)


def _temporary(context: Context) -> Path:
    """A folder that is deleted with what a kill left half written."""
    context.settings.files_dir.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=PARTIAL_PREFIX, dir=context.settings.files_dir))
