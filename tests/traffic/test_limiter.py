"""The limit on an endpoint: a slow start, less when it complains or slows down, and back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from agentrft.traffic import limiter as limiter_module
from agentrft.traffic.limiter import FIRST_SLOTS, AdaptiveLimiter


@asynccontextmanager
async def all_slots_of(limiter: AdaptiveLimiter) -> AsyncIterator[list[int]]:
    """Hold every slot that there is now; yields their windows."""
    async with AsyncExitStack() as stack:
        count = int(limiter.limit)
        yield [await stack.enter_async_context(limiter.slot(queue_deadline_s=1)) for _ in range(count)]


async def answer_all(limiter: AdaptiveLimiter, latency_s: float = 0.01) -> None:
    """One round: as many answers as there are slots."""
    async with all_slots_of(limiter) as windows:
        for _ in windows:
            limiter.succeeded(latency_s)


async def test_it_starts_low_and_grows_by_a_quarter_with_every_round_of_answers() -> None:
    limiter = AdaptiveLimiter(64)
    limits = [limiter.limit]
    while limiter.limit < 64:
        await answer_all(limiter)
        limits.append(limiter.limit)
    assert limits == [32, 40, 50, 62.5, 64]


async def test_refusals_lower_the_slots_once_per_burst_and_answers_bring_them_back_one_a_round() -> None:
    limiter = AdaptiveLimiter(40)
    await answer_all(limiter)
    async with all_slots_of(limiter) as windows:
        for window in windows:
            limiter.refused(window)
    assert limiter.limit == 34
    await answer_all(limiter)
    assert 34.9 < limiter.limit < 35.1
    for _ in range(20):
        await answer_all(limiter)
    assert limiter.limit == 40


async def test_answers_to_one_call_at_a_time_do_not_raise_the_limit() -> None:
    limiter = AdaptiveLimiter(64)
    for _ in range(100):
        async with limiter.slot(queue_deadline_s=1):
            limiter.succeeded(0.01)
    assert limiter.limit == FIRST_SLOTS


async def test_answers_that_take_several_times_as_long_lower_the_limit() -> None:
    limiter = AdaptiveLimiter(64)
    for _ in range(5):
        await answer_all(limiter, latency_s=0.1)
    await answer_all(limiter, latency_s=0.2)
    assert limiter.limit == 64
    for _ in range(2):
        await answer_all(limiter, latency_s=0.4)
    assert FIRST_SLOTS <= limiter.limit < 60


async def test_a_machines_noise_on_fast_answers_does_not_lower_the_limit() -> None:
    limiter = AdaptiveLimiter(64)
    for _ in range(5):
        await answer_all(limiter, latency_s=0.001)
    await answer_all(limiter, latency_s=0.03)
    assert limiter.limit == 64


async def test_after_a_pause_it_starts_low_again(monkeypatch: pytest.MonkeyPatch) -> None:
    limiter = AdaptiveLimiter(64)
    for _ in range(3):
        await answer_all(limiter)
    monkeypatch.setattr(limiter_module, "IDLE_S", 0.0)
    await asyncio.sleep(0.001)
    async with limiter.slot(queue_deadline_s=1):
        assert limiter.limit == FIRST_SLOTS
    monkeypatch.setattr(limiter_module, "IDLE_S", 10.0)
    await answer_all(limiter)
    assert limiter.limit == 1.25 * FIRST_SLOTS


async def test_the_slots_never_fall_below_one() -> None:
    limiter = AdaptiveLimiter(2)
    for _ in range(5):
        async with limiter.slot(queue_deadline_s=1) as window:
            limiter.refused(window)
    assert limiter.limit == 1


async def test_waiting_for_a_slot_has_a_deadline_and_leaves_the_queue_clean() -> None:
    limiter = AdaptiveLimiter(1)
    async with limiter.slot(queue_deadline_s=1):
        with pytest.raises(TimeoutError):
            async with limiter.slot(queue_deadline_s=0.01):
                pass
    async with limiter.slot(queue_deadline_s=1):
        assert limiter.in_flight == 1


async def test_a_waiter_that_is_cancelled_as_its_slot_comes_hands_it_on() -> None:
    limiter = AdaptiveLimiter(1)
    order: list[str] = []

    async def hold(name: str) -> None:
        async with limiter.slot(queue_deadline_s=5):
            order.append(name)

    async with limiter.slot(queue_deadline_s=1):
        waiting = [asyncio.create_task(hold("first")), asyncio.create_task(hold("second"))]
        await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == ["second"]
    assert limiter.in_flight == 0


async def test_a_call_that_repeats_goes_before_those_that_have_not_been_sent() -> None:
    limiter = AdaptiveLimiter(1)
    order: list[str] = []

    async def hold(name: str, first: bool) -> None:
        async with limiter.slot(first=first, queue_deadline_s=5):
            order.append(name)

    async with limiter.slot(queue_deadline_s=1):
        waiting = [asyncio.create_task(hold("new", False)), asyncio.create_task(hold("again", True))]
        await asyncio.sleep(0)
    await asyncio.gather(*waiting)
    assert order == ["again", "new"]
