"""Plans of published steps, beside what they took."""

from typing import Any

import torch

from agentrft.planning.efficiency import PUBLISHED_LEARNER, VLLM
from agentrft.planning.generation import Engines
from agentrft.planning.hardware import gpu_device
from agentrft.planning.model import planned_model
from agentrft.planning.times import Ranks, StepTimes, step_times
from agentrft.planning.workload import Workload
from benchmarks.public_runs import RUNS, PublicRun

FACTOR = 1.5
GPUS_OF_NODE = 8
# vLLM's and the recipes' own limit.
SEQUENCES = 1024
# Of a GPU that is shared with a learner, what the recipes give to vLLM.
MEMORY_SHARE = 0.6


def planned(run: PublicRun) -> StepTimes:
    """The plan of a published step."""
    model = planned_model(run.model, None, dtype=torch.bfloat16, lora_rank=None)
    work = Workload(
        groups=run.groups,
        rollouts_per_group=run.rollouts_per_group,
        prompt_tokens=run.prompt_tokens,
        turns=1,
        turn_tokens=run.sampled_tokens,
        result_tokens=0,
        most_sampled=run.most_sampled,
        context_tokens=int(run.prompt_tokens) + run.most_sampled,
        at_once=run.groups * run.rollouts_per_group,
        minibatches=run.minibatches,
        extra_forwards=run.extra_forwards,
        shares_prompts=False,
        runs_ahead=run.runs_ahead,
    )
    device = gpu_device(run.gpu)
    room = MEMORY_SHARE * device.memory * run.tensor_parallel - model.weights
    tokens = run.prompt_tokens + run.sampled_tokens
    engines = Engines(
        run.engine_gpus // run.tensor_parallel,
        run.tensor_parallel,
        min(SEQUENCES, int(room / (tokens * model.kv_bytes))),
        VLLM,
    )
    ranks = Ranks(run.learner_gpus, PUBLISHED_LEARNER, crosses_nodes=run.learner_gpus > GPUS_OF_NODE)
    return step_times(
        model,
        work,
        device,
        engines=engines,
        ranks=ranks,
        shared=run.shared,
        publishing="links",
        sleeps=run.shared,
    )


def compared() -> list[dict[str, Any]]:
    """Every published step with its plan; `factor` is how far they are apart, `within` whether by at most `FACTOR`."""
    rows: list[dict[str, Any]] = []
    for run in RUNS:
        times = planned(run)
        ratio = times.total / run.step_s
        rows.append(
            {
                "name": run.name,
                "source": run.source,
                "note": run.note,
                "main": run.main,
                "measured_s": run.step_s,
                "planned_s": round(times.total, 1),
                "generation_s": round(times.rollouts.total, 1),
                "update_s": round(times.update, 1),
                "publish_s": round(times.publish, 1),
                "planned_over_measured": round(ratio, 3),
                "factor": round(max(ratio, 1 / ratio), 3),
                "within": max(ratio, 1 / ratio) <= FACTOR,
            }
        )
    return rows
