"""Worker: the embedded engine on given prompts, one session each, all at once."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from agentrft.engine import Sampling
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.limits import EngineLimits
from agentrft.models.forward import forward_of
from benchmarks.ours.model import frozen_model
from benchmarks.protocol import Repetition, serve


def load(config: dict[str, Any]) -> Repetition:
    """A repetition samples exactly `max_tokens` for each prompt, with no prefix left over from the one before."""
    longest = max(len(prompt) + tokens for prompt, tokens in zip(config["prompts"], config["max_tokens"], strict=True))
    # As in a job, one thread does all that computes.
    compute = ThreadPoolExecutor(max_workers=1)
    forward = compute.submit(lambda: forward_of(frozen_model(config, longest))).result()
    runner = asyncio.Runner()
    limits = EngineLimits(longest, max_sequences=len(config["prompts"]))
    engine = compute.submit(lambda: EmbeddedEngine(forward, limits, executor=compute)).result()

    async def one(prompt: list[int], tokens: int, seed: int) -> int:
        session = await engine.open()
        sampling = Sampling(config["temperature"], config["top_p"], tokens, frozenset(), seed, deadline_s=3600.0)
        try:
            return len((await session.generate(prompt, sampling)).token_ids)
        finally:
            session.close()

    async def all_at_once(seed: int) -> list[int]:
        turns = zip(config["prompts"], config["max_tokens"], strict=True)
        return await asyncio.gather(*(one(prompt, n, 1000 * seed + i) for i, (prompt, n) in enumerate(turns)))

    def repeat(seed: int) -> dict[str, Any]:
        runner.run(engine.update_weights(lambda _: None, engine.policy_version + 1))
        started = time.perf_counter()
        sampled = runner.run(all_at_once(seed))
        seconds = time.perf_counter() - started
        assert sampled == config["max_tokens"]
        return {"seconds": seconds, "sampled_tokens": sum(sampled)}

    return repeat


if __name__ == "__main__":
    serve(load, ["agentrft", "torch", "transformers"])
