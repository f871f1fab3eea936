"""The choices of one request, sampled at the same time."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from agentrft.server.inference.turn_sampler import TextDelta, Turn, TurnSampler


async def finished_choices(sampler: TurnSampler, count: int) -> list[Turn]:
    """The whole turns of all choices, in order."""
    turns: dict[int, Turn] = {}
    async with aclosing(all_choices(sampler, count, stream=False)) as parts:
        async for index, part in parts:
            if isinstance(part, Turn):
                turns[index] = part
    return [turns[index] for index in range(count)]


async def all_choices(
    sampler: TurnSampler, count: int, *, stream: bool = True
) -> AsyncGenerator[tuple[int, TextDelta | Turn]]:
    """The parts of all choices as they come, each with its choice's number.

    Raises:
        ApiError: one of them failed; the others are given up.
    """
    # Without a bound of its own: a choice has at most a part for each token, and nobody waits for a slow client.
    parts: asyncio.Queue[tuple[int, TextDelta | Turn | None]] = asyncio.Queue()

    async def run(index: int) -> None:
        try:
            async with aclosing(sampler.sample(index, stream=stream)) as own:
                async for part in own:
                    parts.put_nowait((index, part))
        finally:
            parts.put_nowait((index, None))

    tasks = [asyncio.create_task(run(index)) for index in range(count)]
    running = count
    try:
        while running:
            index, part = await parts.get()
            if part is not None:
                yield index, part
            else:
                running -= 1
                await tasks[index]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
