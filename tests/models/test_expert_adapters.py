"""Adapters on the experts of a mixture: computed as PEFT computes them, merged as the engine has them."""

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor

from agentrft.errors import UserError
from agentrft.job.checkpoint import save_weights
from agentrft.job.export import describe_weights
from agentrft.job.references import ModelReference
from agentrft.learner import Policy
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from agentrft.models.architecture import inspect_architecture
from agentrft.models.experts import ExpertAdapter, experts_per_token
from agentrft.models.forward import TransformersForward
from agentrft.models.packed import PackedModel
from agentrft.server.inference.adapters import load_adapter, merge_adapter, read_adapter
from tests.learner.masters import with_random_masters
from tests.learner.rows import group_of_depth_three, padded_sampled_logprobs
from tests.learner.test_tree_forward import relative_difference, token_weights
from tests.model_families import FAMILIES, family_model
from tests.models.test_routing import WITH_EXPERTS
from tests.tiny_model import TinyModel, tiny_model

# Experts' weights as [outputs, inputs], as [inputs, outputs] with biases, and without gates beside shared ones.
KINDS = ["qwen3_moe", "gpt_oss", "nemotron_h"]
ALL = [one if one in KINDS else pytest.param(one, marks=pytest.mark.slow) for one in WITH_EXPERTS]
RANK = 4


def trained(model: TinyModel, *, size: float = 0.1, **settings: Any) -> Policy:
    """A policy whose adapters all change something."""
    return with_random_masters(Policy(model.planned.requires_grad_(False), lora_rank=RANK, seed=0, **settings), size)


def gradients(policy: Policy) -> dict[str, Tensor]:
    """Of the tree of a group, at the masters."""
    rows = group_of_depth_three(shared_results=True)
    sampled = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0)
    for master in policy.masters:
        assert master.grad is not None
        master.grad.zero_()
    sampled.logprobs.mul(token_weights(len(sampled.logprobs))).sum().backward()
    return {str(n): master.grad.clone() for n, master in enumerate(policy.masters) if master.grad is not None}


@pytest.mark.parametrize("family", ALL)
def test_log_probabilities_and_gradients_are_those_of_pefts_own_computing(family: str) -> None:
    policy = trained(family_model(family))
    adapters = [one for one in policy.model.modules() if isinstance(one, ExpertAdapter)]
    assert adapters, "experts are adapted"
    ours = gradients(policy)
    rows = group_of_depth_three(shared_results=True)
    logprobs = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0).logprobs.detach()
    for adapter in adapters:
        adapter.__class__ = ParamWrapper
    expected = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0).logprobs.detach()
    assert float((logprobs - expected).abs().max()) < 1e-5
    assert relative_difference(ours, gradients(policy)) < 1e-5
    assert all(float(one.abs().max()) > 0 for one in ours.values())


@pytest.mark.parametrize("family", KINDS)
def test_in_bfloat16_the_learner_sees_small_changes_as_the_engine_does(family: str) -> None:
    model = family_model(family, torch.bfloat16)
    frozen = {name: weight.clone() for name, weight in model.plain.named_parameters()}
    policy = trained(model, size=0.01)
    policy.write_to(TransformersForward(model.plain))
    changed = 0
    for name, layer in policy.model.named_modules():
        if isinstance(layer, ExpertAdapter):
            own = f"{name.removeprefix('base_model.model.').replace('.base_layer', '')}.{layer.parameter_name}"
            engine, learner = model.plain.get_parameter(own), layer.merged_weight()
            assert torch.equal(engine, learner), "both compute with the same rounded weights"
            changed += int((learner != frozen[own]).sum())
            left, right, scale = layer.get_delta_factors("default")
            exact = (left.float() @ right.float() * scale).detach()
            moved = (learner - frozen[own]).detach().float()
            assert abs(float((moved * exact).sum() / exact.square().sum()) - 1) < 0.2, "the change is there on average"
    assert changed > 0


@pytest.mark.parametrize("family", ALL)
def test_a_server_and_peft_read_the_adapter(tmp_path: Path, family: str) -> None:
    model = family_model(family)
    policy = trained(model)
    expected = copy.deepcopy(model.plain)
    policy.write_to(TransformersForward(expected))
    save_weights(tmp_path, policy)
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    each = RANK // experts_per_token(model.plain.config)
    assert config["target_parameters"] == sorted(f"experts.{name}" for name in _adapted(policy))
    assert set(config["rank_pattern"].values()) == {each} and set(config["alpha_pattern"].values()) == {2 * each}

    served = copy.deepcopy(model.plain)
    merge_adapter(model.plain, TransformersForward(served), tmp_path / "adapter")
    for name, weight in expected.named_parameters():
        assert torch.equal(served.get_parameter(name), weight), name

    rows = group_of_depth_three(shared_results=True)
    loaded = PeftModel.from_pretrained(copy.deepcopy(model.plain), str(tmp_path / "adapter"))
    ours, theirs = (padded_sampled_logprobs(one, rows, 1.0) for one in (expected, loaded))
    assert float((ours - theirs).abs().max()) < 1e-4

    weights = describe_weights(ModelReference("x", folder=tmp_path), None, model="smollm2-135m")
    assert weights.lora_experts and weights.lora_rank == RANK
    again = Policy(family_model(family).planned.requires_grad_(False), lora_rank=RANK, seed=5)
    ModelReference("x", folder=tmp_path / "adapter").apply(again)
    assert all(torch.equal(one, other) for one, other in zip(again.masters, policy.masters, strict=True))


def _adapted(policy: Policy) -> set[str]:
    return {one.parameter_name for one in policy.model.modules() if isinstance(one, ExpertAdapter)}


@pytest.mark.parametrize(
    "change",
    [
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 4}},
        {"alpha_pattern": {"experts.down_proj": 64, "experts.gate_up_proj": 64}},
        {"alpha_pattern": {}},
        {"target_parameters": []},
        {"target_parameters": ["experts.down_proj"], "rank_pattern": {}, "alpha_pattern": {}},
    ],
)
def test_what_is_no_adapter_of_these_experts_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    model = family_model("qwen3_moe")
    save_weights(tmp_path, trained(model))
    path = tmp_path / "adapter/adapter_config.json"
    read = json.loads(path.read_text())
    path.write_text(json.dumps({**read, **change}))
    forward = TransformersForward(copy.deepcopy(model.plain))
    if change.get("target_parameters") == ["experts.down_proj"]:
        merge_adapter(model.plain, forward, tmp_path / "adapter")  # the files say the same: all that have the module
        return
    with pytest.raises(UserError, match="LoRA"):
        merge_adapter(model.plain, forward, tmp_path / "adapter")


@pytest.mark.parametrize(
    "config",
    [
        [],
        {"r": 0},
        {"r": "many"},
        {"lora_alpha": None},
        {"target_parameters": [1]},
        {"target_parameters": 5},
        {"rank_pattern": ["x"]},
        {"alpha_pattern": {"experts.down_proj": None}},
    ],
)
def test_an_odd_configuration_is_an_error_of_the_adapter(tmp_path: Path, config: Any) -> None:
    save_weights(tmp_path, trained(family_model("qwen3_moe")))
    path = tmp_path / "adapter/adapter_config.json"
    read = json.loads(path.read_text())
    path.write_text(json.dumps({**read, **config} if isinstance(config, dict) else config))
    with pytest.raises(UserError, match="adapter"):
        read_adapter(tmp_path / "adapter")


def test_a_model_without_experts_takes_no_adapter_of_some_and_a_layers_own_weight_is_its_layer(tmp_path: Path) -> None:
    save_weights(tmp_path, trained(family_model("qwen3_moe")))
    base = PackedModel(tiny_model("llama").planned)
    with pytest.raises(UserError, match="does not fit its base model: it changes experts"):
        load_adapter(tmp_path / "adapter", base)

    config = LoraConfig(r=2, lora_alpha=4, target_modules=[], target_parameters=["mlp.down_proj.weight"])
    adapted = get_peft_model(tiny_model("llama").plain, config)
    adapted.save_pretrained(str(tmp_path / "of-a-layer"))
    files = read_adapter(tmp_path / "of-a-layer")
    assert not files.experts and all(name.endswith("mlp.down_proj") for name in files.layers) and files.layers


def test_an_adapter_of_other_experts_does_not_fit(tmp_path: Path) -> None:
    save_weights(tmp_path, trained(family_model("qwen3_moe")))
    for family in ("mixtral", "gpt_oss", "gemma2"):
        model = family_model(family)
        with pytest.raises(UserError, match="does not fit its base model"):
            merge_adapter(model.plain, TransformersForward(copy.deepcopy(model.plain)), tmp_path / "adapter")


def test_without_lora_experts_they_stay() -> None:
    policy = trained(family_model("qwen3_moe"), lora_experts=False)
    assert not _adapted(policy) and not any("experts" in name for name in policy.master_state())
    assert isinstance(policy.model, PeftModel)
    config = policy.model.peft_config["default"]
    assert not getattr(config, "target_parameters", None) and not config.rank_pattern


@pytest.mark.parametrize("family", ALL)
def test_what_is_trained_and_kept_is_foreseen(family: str) -> None:
    one = inspect_architecture(FAMILIES[family](), torch.float32)
    for rank, lora_experts in ((RANK, True), (RANK, False), (1, True)):
        policy = Policy(
            family_model(family).planned.requires_grad_(False), lora_rank=rank, lora_experts=lora_experts, seed=0
        )
        assert sum(map(Tensor.numel, policy.masters)) == one.trained_parameters(rank, lora_experts=lora_experts)
        foreseen = one.training_costs(rank, lora_experts=lora_experts)
        seen = policy.forward.costs
        assert (seen.pass_bytes, seen.largest_pass_bytes) == (foreseen.pass_bytes, foreseen.largest_pass_bytes)
        # The same but for the adapters' own and the experts' other way on the meta device.
        assert 0.4 < seen.activation_bytes / foreseen.activation_bytes < 1.6
    assert one.training_costs(None, lora_experts=True) == one.costs
    wide = dataclasses.replace(one.costs, pass_bytes=9_000_000_000, largest_pass_bytes=3_000_000_000)
    assert wide.kept_bytes(10) > 12e9 > wide.recomputed_bytes(10) > 6e9


def test_the_costs_are_known_without_merging_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take the memory of all experts at once."""
    policy = trained(family_model("qwen3_moe"))
    with monkeypatch.context() as patched:
        patched.setattr(ExpertAdapter, "merged_weight", None)
        assert policy.forward.costs.pass_bytes > 0
    gradients(policy)
    assert not any(one.is_left_out for one in policy.model.modules() if isinstance(one, ExpertAdapter))
