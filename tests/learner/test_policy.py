"""The policy that the engine gets is the one that is trained."""

import copy

import pytest
import torch

from agentrft.learner import Learner, Policy
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.models.forward import Forward, TransformersForward
from tests.learner.rows import group_of_depth_three, padded_sampled_logprobs
from tests.tiny_model import ARCHITECTURES, tiny_model


def learner_for(policy: Policy, learning_rate: float) -> Learner:
    return Learner(policy, algorithm="grpo", learning_rate=learning_rate, temperature=1.0, max_grad_norm=1.0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("lora_rank", [4, None])
def test_the_engines_weights_give_the_policys_log_probabilities(architecture: str, lora_rank: int | None) -> None:
    model, rows = tiny_model(architecture), group_of_depth_three(shared_results=True)
    policy = Policy(model.planned, lora_rank=lora_rank, seed=0)
    learner = learner_for(policy, 5e-3)
    before = padded_sampled_logprobs(model.plain, rows).detach()
    for _ in range(3):
        learner.supervised_update(rows)
    policy.write_to(TransformersForward(model.plain))
    with torch.no_grad():
        own = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0).logprobs
        merged = padded_sampled_logprobs(model.plain, rows)
    assert (own - before).abs().max() > 0.05
    assert torch.allclose(own, merged, atol=1e-4)


def test_writing_to_the_engine_again_does_not_add_the_adapter_twice() -> None:
    model, rows = tiny_model("llama"), group_of_depth_three(shared_results=True)
    policy = Policy(model.planned, lora_rank=4, seed=0)
    learner_for(policy, 5e-3).supervised_update(rows)
    policy.write_to(TransformersForward(model.plain))
    once = copy.deepcopy(model.plain.state_dict())
    policy.write_to(TransformersForward(model.plain))
    assert all(torch.equal(once[name], value) for name, value in model.plain.state_dict().items())


@pytest.mark.parametrize("lora_rank", [4, None])
def test_an_engine_apart_generates_with_the_old_policy_until_it_is_given_the_new_one(lora_rank: int | None) -> None:
    model, rows = tiny_model("llama"), group_of_depth_three(shared_results=True)
    policy = Policy(model.planned, lora_rank=lora_rank, seed=0, engine_device=torch.device("cpu"))
    learner = learner_for(policy, 5e-3)

    @torch.no_grad()
    def logprobs(forward: Forward) -> torch.Tensor:
        return tree_logprobs(forward, build_token_tree(rows), rows, 1.0).logprobs

    before = logprobs(policy.engine_forward)
    for _ in range(3):
        learner.supervised_update(rows)
    trained = logprobs(policy.forward)
    assert torch.equal(logprobs(policy.engine_forward), before)
    assert (trained - before).abs().max() > 0.05
    policy.write_to(policy.engine_forward)
    assert torch.allclose(logprobs(policy.engine_forward), trained, atol=1e-4)


def test_a_new_adapter_changes_nothing_yet_and_depends_on_its_seed_alone() -> None:
    states = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(states))
        model, rows = tiny_model("llama"), group_of_depth_three(shared_results=True)
        policy = Policy(model.planned, lora_rank=4, seed=seed)
        with torch.no_grad():
            own = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0).logprobs
            assert torch.allclose(own, padded_sampled_logprobs(model.plain, rows), atol=1e-4)
        states.append(policy.master_state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])


@pytest.mark.parametrize("lora_rank", [4, None])
def test_in_bfloat16_updates_too_small_to_see_add_up(lora_rank: int | None) -> None:
    model, rows = tiny_model("llama", torch.bfloat16), group_of_depth_three(shared_results=True)
    policy = Policy(model.planned, lora_rank=lora_rank, seed=0)
    learner = learner_for(policy, 2e-5)
    weights = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    name = next(n for n in weights if "layers.0.mlp.up_proj" in n and "lora_B" not in n)
    # An adapter's second half starts at zero, and so does the gradient of its first half.
    learner.supervised_update(rows)
    first, large = weights[name].detach().clone(), weights[name].abs() > 0.1

    def share_moved() -> float:
        return float((weights[name] != first)[large].float().mean())

    before = policy.master_state()[name]
    learner.supervised_update(rows)
    assert float((policy.master_state()[name] != before).float().mean()) > 0.9
    assert share_moved() < 0.2, "rounded away, for now"
    for _ in range(60):
        learner.supervised_update(rows)
    assert share_moved() > 0.4
    assert all(torch.equal(weights[n], master.to(torch.bfloat16)) for n, master in policy.master_state().items())
    assert all(master.dtype == torch.float32 for master in policy.masters)
