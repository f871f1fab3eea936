"""What runs beside the answers goes on, whatever it raises."""

import asyncio
from contextlib import suppress

import pytest
from sqlalchemy.exc import OperationalError

from agentrft.server.background.loop import keep_doing


async def test_whatever_it_raises_it_is_done_again(caplog: pytest.LogCaptureFixture) -> None:
    raised = iter(
        [RuntimeError("the handler is closed"), OperationalError("SELECT", {}, Exception("gone")), KeyError(1)]
    )
    done = asyncio.Event()

    async def work() -> None:
        for error in raised:
            raise error
        done.set()

    task = asyncio.create_task(keep_doing("looking at the jobs", work, every_s=0.01))
    async with asyncio.timeout(10):
        await done.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING", "ERROR"]
    assert all("looking at the jobs failed, which is tried again" in record.message for record in caplog.records)


async def test_it_is_woken_before_its_time() -> None:
    times, woken = 0, asyncio.Event()

    async def work() -> None:
        nonlocal times
        times += 1

    task = asyncio.create_task(keep_doing("work", work, every_s=3600, woken=woken))
    async with asyncio.timeout(10):
        for wanted in (1, 2, 3):
            while times < wanted:
                await asyncio.sleep(0.01)
            woken.set()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
