"""Worker: the validation reward of an adapter, whoever trained it: the same samples, rolled out with the same seeds."""

import asyncio
import time
from pathlib import Path
from typing import Any

from agentrft.job import NoProgress, Stop, resolve_reference
from agentrft.job.collect import Collector
from agentrft.job.runtime import Runtime
from agentrft.job.tasks import rollout_tasks
from agentrft.report.summary import summarise
from benchmarks.ours.job import job_spec
from benchmarks.protocol import Repetition, serve


def load(config: dict[str, Any]) -> Repetition:
    """A repetition validates the adapter in the configured place, a link that the benchmark moves."""
    spec = job_spec(
        config,
        {"type": "python", "source_file": config["grader"], "trusted": True},
        validation_file=config["validation_data"],
        hyperparameters={"lora_rank": config["lora_rank"]},
    )
    runner = asyncio.Runner()
    runtime = Runtime(spec)
    collector = Collector(runtime, progress=NoProgress(), stop=Stop())
    initial = runtime.policy.master_state()

    async def validate(seed: int) -> dict[str, Any]:
        if Path(config["adapter"]).exists():
            await runtime.compute(resolve_reference(config["adapter"], None).apply, runtime.policy)
        else:
            await runtime.compute(runtime.policy.load_master_state, initial)
        await runtime.publish_policy()
        tasks = rollout_tasks(
            runtime.validation,
            step=0,
            rollouts_per_sample=config["validation_rollouts"],
            temperature=config["temperature"],
            top_p=config["top_p"],
            seed=seed,
            policy_version=runtime.policy.version,
        )
        started = time.perf_counter()
        rollouts = await collector.collect("validation", 0, tasks)
        summary = summarise(rollouts, pass_threshold=spec.pass_threshold)
        return {"seconds": time.perf_counter() - started, "reward": summary.reward_mean}

    return lambda seed: runner.run(validate(seed))


if __name__ == "__main__":
    serve(load, ["agentrft"])
