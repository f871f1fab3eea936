"""Models and steps that the tests of plans share."""

import pytest
import torch

from agentrft.planning.hardware import Device
from agentrft.planning.model import PlannedModel, planned_model
from agentrft.planning.workload import Workload


@pytest.fixture(scope="session")
def qwen3_8b() -> PlannedModel:
    """All weights are trained."""
    return planned_model("Qwen/Qwen3-8B", None, dtype=torch.bfloat16, lora_rank=None)


@pytest.fixture(scope="session")
def qwen3_8b_lora() -> PlannedModel:
    return planned_model("Qwen/Qwen3-8B", None, dtype=torch.bfloat16, lora_rank=16)


@pytest.fixture
def step() -> Workload:
    """Of four groups of eight."""
    return Workload(
        groups=4,
        rollouts_per_group=8,
        prompt_tokens=1000,
        turns=3,
        turn_tokens=100,
        result_tokens=50,
        most_sampled=2000,
        context_tokens=4096,
        tool_s=2.0,
        grade_s=1.0,
        at_once=32,
        minibatches=1,
    )


@pytest.fixture
def round_device() -> Device:
    """With rates that are easy to reckon with."""
    return Device("round", memory=10**12, bandwidth=1e12, flops=1e15, link=1e11, network=1e10)
