"""An update of a model with experts says which of them its tokens reached."""

import pytest
import torch

from agentrft.learner import Learner, Policy, TrainingGroup
from agentrft.models.architecture import OneSequence
from agentrft.models.forward import TransformersForward
from agentrft.models.planned import text_decoder
from tests.learner.rows import group_of_depth_three
from tests.model_families import FAMILIES, family_model

WITH_EXPERTS = [
    "mixtral",
    "qwen3_moe",
    "qwen3_5_moe",
    "gemma4_moe",
    "glm4_moe",
    "gpt_oss",
    "granitemoehybrid",
    "lfm2_moe",
    "nemotron_h",
]


@pytest.mark.parametrize("family", WITH_EXPERTS)
def test_an_update_counts_the_tokens_of_each_expert(family: str) -> None:
    policy = Policy(family_model(family).planned.requires_grad_(False), lora_rank=2, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-4, temperature=1.0, max_grad_norm=1.0)
    rows = group_of_depth_three(shared_results=True)
    metrics = learner.update(learner.plan([TrainingGroup(rows, [float(i % 2) for i in range(8)])]))
    assert 1.0 <= metrics.router_load_max <= 4.0, "four experts: from even to all on one"
    assert 0.0 <= metrics.router_unused_share <= 0.5, "two of four are always reached"
    assert policy.forward.take_routing().load_max == 0.0, "counted anew for each update"


def test_a_router_that_collapsed_shows() -> None:
    model = family_model("qwen3_moe").planned
    with torch.no_grad():
        for name, weight in text_decoder(model).named_parameters():
            if name.endswith("mlp.gate.weight"):
                weight.zero_()  # all experts are alike, and each token goes to the same two
    forward = TransformersForward(model)
    forward.count_routing()
    policy_rows = torch.arange(5, 45)
    forward.trunk(policy_rows, torch.arange(40), torch.arange(40), OneSequence(20))
    seen = forward.take_routing()
    assert seen.load_max == 2.0 and seen.unused_share == 0.5, "two of four have all tokens"
    with torch.no_grad():
        forward.trunk(policy_rows, torch.arange(40), torch.arange(40), OneSequence(20))
    assert forward.take_routing().load_max == 0.0, "rollouts are not counted"


def test_others_have_none() -> None:
    assert not {"llama", "qwen3"} & set(WITH_EXPERTS)
    policy = Policy(family_model("gemma2").planned.requires_grad_(False), lora_rank=2, seed=0)
    assert policy.forward.take_routing().load_max == 0.0
    assert set(WITH_EXPERTS) <= set(FAMILIES)
