"""Worker: the rollouts of one training step with a tool, by the code that a job runs."""

import asyncio
import random
import time
from typing import Any

from agentrft.job import NoProgress, Stop
from agentrft.job.collect import Collector
from agentrft.job.runtime import Runtime
from agentrft.job.tasks import rollout_tasks
from benchmarks.ours.job import job_spec
from benchmarks.protocol import Repetition, serve


def load(config: dict[str, Any]) -> Repetition:
    """A repetition is what `Trainer._step` does before its update, graded by comparing texts."""
    grader = {
        "type": "string_check",
        "name": "exact",
        "input": "{{ sample.output_text }}",
        "reference": "{{ item.answer }}",
        "operation": "eq",
    }
    runner = asyncio.Runner()
    runtime = Runtime(job_spec(config, grader))
    collector = Collector(runtime, progress=NoProgress(), stop=Stop())

    async def step(seed: int) -> dict[str, Any]:
        tasks = rollout_tasks(
            random.Random(seed).sample(runtime.train, config["samples"]),
            step=seed,
            rollouts_per_sample=config["rollouts_per_sample"],
            temperature=config["temperature"],
            top_p=config["top_p"],
            seed=seed,
            policy_version=runtime.policy.version,
        )
        await runtime.publish_policy()
        computed = runtime.engine.counters["tokens_computed"]
        started = time.perf_counter()
        rollouts = await collector.collect("bench", seed, tasks)
        seconds = time.perf_counter() - started
        broken = [rollout.failure_message for rollout in rollouts if rollout.outcome == "infra_failed"]
        if broken:
            raise RuntimeError(f"{len(broken)} rollouts broke, the first by {broken[0]}")
        return {
            "seconds": seconds,
            "rollouts": len(rollouts),
            "sampled_tokens": sum(rollout.sampled_tokens for rollout in rollouts),
            "tool_calls": sum(rollout.tool_requests for rollout in rollouts),
            "computed_tokens": runtime.engine.counters["tokens_computed"] - computed,
        }

    return lambda seed: runner.run(step(seed))


if __name__ == "__main__":
    serve(load, ["agentrft", "torch", "transformers"])
