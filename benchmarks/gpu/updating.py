"""An update over a tree of 16,384 tokens, against the rate of matrix products, and the memory that it takes."""

import math
import random
import statistics
import time
from dataclasses import dataclass

from agentrft.job.memory_needs import memory_needs
from agentrft.learner import Learner, Policy, TrainingGroup, TrainingRow
from agentrft.models.architecture import inspect_architecture
from agentrft.models.memory import device_memory
from agentrft.models.peak import matmul_flops_per_s
from benchmarks.gpu.device_memory import DeviceMemory
from benchmarks.gpu.findings import Findings, Setting
from benchmarks.gpu.models import shape, shaped_model
from benchmarks.gpu.profile import profiled

LORA_RANK, ROLLOUTS, UPDATES = 16, 8, 2
GOAL_OF_MATMUL = 0.4
MEMORY_SLACK = 1.15


@dataclass(frozen=True)
class Load:
    """A group's prompt; of each rollout a sampled call, its result, and a sampled answer; in tokens."""

    prompt: int
    call: int
    result: int
    answer: int

    @property
    def longest(self) -> int:
        return self.prompt + self.call + self.result + self.answer

    @property
    def unique_tokens(self) -> int:
        return self.prompt + ROLLOUTS * (self.longest - self.prompt)


def run(setting: Setting, findings: Findings) -> None:
    """A model of the setting's shape, with adapters, updated."""
    assert setting.model is not None
    load = Load(32, 4, 8, 12) if setting.small else Load(2048, 256, 512, 1024)
    config, device = shape(setting.model), setting.device
    architecture = inspect_architecture(config, setting.dtype)
    matmul = matmul_flops_per_s(setting.dtype, device)
    memory = DeviceMemory(device)
    memory.begin()
    before = memory.used
    with findings.timed("making the policy"):
        policy = Policy(shaped_model(setting.model, setting.dtype, device), lora_rank=LORA_RANK, seed=0)
        setting.wait()
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-5, temperature=1.0, max_grad_norm=1.0)
    needs = memory_needs(
        architecture,
        memory=device_memory(device),
        on_cpu=device.type == "cpu",
        context_tokens=load.longest,
        rollouts=ROLLOUTS,
        lora_rank=LORA_RANK,
        pass_tokens=load.unique_tokens,
    )
    predicted = {"weights": needs.weights, "trained": needs.trained, "update": needs.update}
    findings.note(load=vars(load), parameters=architecture.parameters, predicted_bytes=predicted)
    findings.note(recomputes=needs.recomputes)
    findings.note(policy_bytes=memory.used - before)
    memory.begin()
    group = group_of(load, config.vocab_size)
    seconds, flops = [], 0.0
    for number in range(1 + UPDATES):
        started = time.perf_counter()
        metrics = learner.update(learner.plan([group]))
        setting.wait()
        # The first one takes memory and chooses kernels.
        if number:
            seconds.append(time.perf_counter() - started)
            flops = metrics.flops_per_s * metrics.seconds
            findings.note(unique_tokens=metrics.unique_tokens, grad_norm=metrics.grad_norm)
    measured, mean = memory.peak - before, statistics.mean(seconds)
    findings.note(
        update_s=mean,
        unique_tokens_per_s=load.unique_tokens / mean,
        flops=flops,
        update_share_of_matmul=flops / mean / matmul,
        goal=GOAL_OF_MATMUL,
        measured_bytes=measured,
    )
    if device.type == "cuda":
        share = measured / sum(predicted.values())
        findings.check("update: memory, as a share of the prediction", share, at_most=MEMORY_SLACK)
    with profiled(setting, findings, "update_profile"):
        learner.update(learner.plan([group]))


def group_of(load: Load, vocabulary: int) -> TrainingGroup:
    """Random tokens."""
    source = random.Random(0)

    def tokens(count: int) -> list[int]:
        return [source.randrange(vocabulary) for _ in range(count)]

    shared, rows = tokens(load.prompt), []
    for rollout in range(ROLLOUTS):
        ids = [*shared, *tokens(load.longest - load.prompt)]
        call_end = load.prompt + load.call
        positions = [*range(load.prompt, call_end), *range(call_end + load.result, len(ids))]
        # About what random weights give them.
        rows.append(TrainingRow(ids, positions, [-math.log(vocabulary)] * len(positions), rollout))
    return TrainingGroup(rows, [float(rollout % 2) for rollout in range(ROLLOUTS)])
