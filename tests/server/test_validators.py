"""Files and jobs' data are looked at in processes of their own; each has an end, whatever becomes of those."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentrft.server.app import create_app
from agentrft.server.background.validation import left_over, validate_file
from agentrft.server.context import Context
from agentrft.server.creation import validators
from agentrft.server.creation.request import content_path
from agentrft.server.records.rows import FileRow
from agentrft.server.settings import Settings
from tests.job.tiny_job import prompt

LONG = "import time\ndef grade(sample, item):\n    time.sleep(60)\n    return 1"


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    one: Context = create_app(Settings(tmp_path / "data", max_running_jobs=0)).state.context
    yield one
    await one.close()


def uploaded(context: Context, content: str, name: str = "file-a") -> FileRow:
    content_path(context.settings, name).write_text(content)
    return context.records.add_file(name, "rows.jsonl", "fine-tune", len(content), None)


def looked_at(context: Context, row: FileRow) -> FileRow:
    found = context.records.file(row.file_id)
    assert found is not None
    return found


async def test_good_and_bad_rows_are_told_apart(context: Context) -> None:
    good = uploaded(context, json.dumps({"messages": prompt("apple")}), "file-good")
    bad = uploaded(context, '{"messages": []}\n', "file-bad")
    await asyncio.gather(*(validate_file(context, row) for row in (good, bad)))
    assert looked_at(context, good).status == "processed"
    found = looked_at(context, bad)
    assert found.status == "error" and "line 1: messages" in str(found.status_details)


async def test_a_file_whose_look_died_is_an_error_and_the_next_is_looked_at(context: Context) -> None:
    row = uploaded(context, json.dumps({"messages": prompt("apple")}))
    pool = context.validators._pool
    pool._module = "tests.server.there_is_none"
    await validate_file(context, row)
    found = looked_at(context, row)
    assert found.status == "error"
    assert "could not be looked at: its process ended: ModuleNotFoundError" in str(found.status_details)
    pool._module = validators.MODULE
    await validate_file(context, row)
    assert looked_at(context, row).status == "processed"


async def test_a_server_that_ends_in_the_middle_of_a_look_begins_it_again(context: Context) -> None:
    row = uploaded(context, json.dumps({"messages": prompt("apple")}) + "\n" * 2_000_000)
    looking = asyncio.create_task(validate_file(context, row))
    while not context.validators._pool._busy:
        await asyncio.sleep(0.01)
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    assert looked_at(context, row).status == "uploaded"
    assert not context.validators._pool._busy and not context.validators._pool._free
    await asyncio.gather(*await left_over(context))
    assert looked_at(context, row).status == "processed"
    assert await left_over(context) == []


async def test_a_look_that_takes_too_long_has_an_end(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validators, "LOOK_S", 0.001)
    row = uploaded(context, json.dumps({"messages": prompt("apple")}))
    await validate_file(context, row)
    assert looked_at(context, row).status == "error" and "TimeoutError" in str(looked_at(context, row).status_details)


async def test_a_grader_that_is_only_looked_at_does_not_wait_for_those_that_run(context: Context) -> None:
    spec: dict[str, Any] = {"type": "python", "name": "long", "source": LONG, "trusted": True}
    running = [asyncio.create_task(context.grading.grade(spec, "x", [], {}, f"trace_{i}")) for i in range(8)]
    await asyncio.sleep(0.1)
    async with asyncio.timeout(30):
        await context.grading.check(spec)
    assert not any(task.done() for task in running)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
