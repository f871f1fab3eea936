"""The loss over a token tree is the ordinary per-rollout loss: same log-probabilities, same gradients (float32)."""

from functools import cache, partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from agentrft.learner import Policy, TrainingRow, tree_forward, tree_plan
from agentrft.learner.policy import gradient_of
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import SampledLogprobs, tree_logprobs
from agentrft.models.forward import TransformersForward
from agentrft.models.native import load_kernels
from agentrft.models.packed import PackedModel
from tests.learner.rows import group_of_depth_three, groups_of_rows, padded_sampled_logprobs, row
from tests.tiny_model import ARCHITECTURES, TinyModel, tiny_model

cached_model = cache(tiny_model)
LOGPROB_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-4


def token_weights(count: int) -> Tensor:
    """Different ones for each token, of both signs, so that no token's gradient can stand in for another's."""
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def compare(model: TinyModel, rows: list[TrainingRow], temperature: float = 1.0) -> tuple[float, float]:
    """Largest difference of log-probabilities, and largest relative one of any parameter's gradient."""
    for side in (model.planned, model.plain):
        side.zero_grad()
        side.requires_grad_(True)
    sampled = tree_logprobs(TransformersForward(model.planned), build_token_tree(rows), rows, temperature)
    expected = padded_sampled_logprobs(model.plain, rows, temperature)
    weights = token_weights(len(expected))
    (sampled.logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    ours = {name: parameter.grad for name, parameter in model.planned.named_parameters()}
    theirs = {name: parameter.grad for name, parameter in model.plain.named_parameters()}
    return float((sampled.logprobs - expected).abs().max().detach()), relative_difference(ours, theirs)


def relative_difference(ours: dict[str, Tensor | None], theirs: dict[str, Tensor | None]) -> float:
    """Largest ||difference|| / ||reference|| of any parameter.

    A parameter whose exact gradient is about zero, as that of a key bias, is measured against the whole gradient.
    """
    gradients = {name: gradient for name, gradient in theirs.items() if gradient is not None}
    whole = float(torch.stack([gradient.norm() for gradient in gradients.values()]).norm())
    worst = 0.0
    for name, gradient in gradients.items():
        own = ours[name]
        assert own is not None, name
        worst = max(worst, float((own - gradient).norm()) / max(float(gradient.norm()), 1e-2 * whole))
    return worst


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shared_results", [True, False])
def test_three_turns_agree_with_the_padded_computation(architecture: str, shared_results: bool) -> None:
    rows = group_of_depth_three(shared_results=shared_results)
    logprob_error, gradient_error = compare(cached_model(architecture), rows)
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


def test_shared_tool_results_are_computed_once() -> None:
    shared = build_token_tree(group_of_depth_three(shared_results=True))
    unshared = build_token_tree(group_of_depth_three(shared_results=False))
    assert shared.total_tokens == unshared.total_tokens == 8 * 56
    assert unshared.unique_tokens == 25 + 4 * 6 + 8 * 25
    assert shared.unique_tokens == 25 + 4 * 15 + 8 * 16


@settings(deadline=None, max_examples=80)
@given(groups_of_rows())
def test_any_tree_agrees_with_the_padded_computation(rows: list[TrainingRow]) -> None:
    logprob_error, gradient_error = compare(cached_model("llama"), rows)
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


@pytest.mark.parametrize("tile_tokens", [1, 5, 1000])
@pytest.mark.parametrize("stored_bytes", [0, 1 << 30])
def test_tiles_of_any_size_agree_with_probabilities_kept_or_not(
    monkeypatch: pytest.MonkeyPatch, tile_tokens: int, stored_bytes: int
) -> None:
    monkeypatch.setattr(tree_plan, "tiles_of", partial(tree_plan.tiles_of, tile_tokens=tile_tokens))
    monkeypatch.setattr(tree_plan, "MAX_STORED_BYTES", stored_bytes)
    logprob_error, gradient_error = compare(cached_model("qwen3"), group_of_depth_three(shared_results=False))
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


@pytest.mark.parametrize("temperature", [0.6, 1.4])
def test_the_temperature_is_that_of_the_log_probabilities(temperature: float) -> None:
    logprob_error, gradient_error = compare(
        cached_model("llama"), group_of_depth_three(shared_results=True), temperature
    )
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


def test_both_rows_of_a_rollout_that_forked_belong_to_it() -> None:
    prompt = [11, 12, 13, 14]
    rows = [
        row([(False, prompt), (True, [21, 22])], 0),
        row([(False, [*prompt, 30, 31]), (True, [23, 24, 25])], 0),
        row([(False, prompt), (True, [21, 26])], 1),
    ]
    model = cached_model("llama")
    sampled = tree_logprobs(TransformersForward(model.planned), build_token_tree(rows), rows, 1.0)
    assert sampled.rollout.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert sampled.sampling_logprobs.tolist() == pytest.approx([x for r in rows for x in r.sampling_logprobs])
    assert torch.allclose(sampled.logprobs, padded_sampled_logprobs(model.plain, rows), atol=LOGPROB_TOLERANCE)


def test_the_entropy_is_that_of_the_distribution_a_token_was_sampled_from() -> None:
    rows = [row([(False, [1, 2, 3]), (True, [4, 5])], 0)]
    model = cached_model("llama")
    sampled = tree_logprobs(TransformersForward(model.planned), build_token_tree(rows), rows, 0.7)
    with torch.no_grad():
        logits = model.plain(torch.tensor([rows[0].token_ids])).logits[0, 2:4] / 0.7
    assert torch.allclose(sampled.entropy, torch.distributions.Categorical(logits=logits).entropy(), atol=1e-4)
    assert not sampled.entropy.requires_grad


def adapter_gradients(policy: Policy) -> dict[str, Tensor | None]:
    return {name: master.grad for name, master in zip(policy.master_state(), policy.masters, strict=True)}


def adapted(architecture: str) -> tuple[Policy, Policy]:
    """The same random adapters on the model as we compute it, and on transformers' own."""
    model = tiny_model(architecture)
    policies = Policy(model.planned, lora_rank=4, seed=0), Policy(model.plain, lora_rank=4, seed=0)
    generator = torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(value.shape, generator=generator) * 0.1 for name, value in policies[0].master_state().items()
    }
    for policy in policies:
        policy.load_master_state(state)
    return policies


def compare_adapters(policies: tuple[Policy, Policy], rows: list[TrainingRow]) -> tuple[float, float]:
    """As `compare`, of the adapters' gradients."""
    ours, reference = policies
    for policy in policies:
        for master in policy.masters:
            gradient_of(master).zero_()
    sampled: SampledLogprobs = tree_logprobs(ours.forward, build_token_tree(rows), rows, 1.0)
    expected = padded_sampled_logprobs(reference.model, rows)
    weights = token_weights(len(expected))
    (sampled.logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    error = float((sampled.logprobs - expected).abs().max().detach())
    return error, relative_difference(adapter_gradients(ours), adapter_gradients(reference))


cached_policies = cache(adapted)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("shared_results", [True, False])
def test_gradients_of_merged_adapters_agree_too(architecture: str, shared_results: bool) -> None:
    policies = cached_policies(architecture)
    assert isinstance(policies[0].forward, PackedModel)
    logprob_error, gradient_error = compare_adapters(policies, group_of_depth_three(shared_results=shared_results))
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


@settings(deadline=None, max_examples=80)
@given(groups_of_rows())
def test_gradients_of_merged_adapters_agree_on_any_tree(rows: list[TrainingRow]) -> None:
    logprob_error, gradient_error = compare_adapters(cached_policies("qwen3"), rows)
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
@pytest.mark.parametrize("head_rows", [1, 7])
def test_a_head_computed_in_parts_agrees_too(
    monkeypatch: pytest.MonkeyPatch, architecture: str, head_rows: int
) -> None:
    monkeypatch.setattr(tree_forward, "HEAD_ROWS", head_rows)
    rows = group_of_depth_three(shared_results=False)
    for logprob_error, gradient_error in (
        compare(cached_model(architecture), rows),
        compare_adapters(cached_policies(architecture), rows),
    ):
        assert logprob_error < LOGPROB_TOLERANCE
        assert gradient_error < GRADIENT_TOLERANCE


def test_layers_computed_again_in_the_backward_pass_agree_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_forward, "ACTIVATION_SHARE", 0.0)
    policies, computed = cached_policies("llama"), []
    layer = PackedModel._layer_with_gradient

    def counted(self: PackedModel, index: int, *arguments: Any) -> Any:
        computed.append(index)
        return layer(self, index, *arguments)

    monkeypatch.setattr(PackedModel, "_layer_with_gradient", counted)
    logprob_error, gradient_error = compare_adapters(policies, group_of_depth_three(shared_results=True))
    assert sorted(computed) == sorted([*range(3), *range(3)])
    assert logprob_error < LOGPROB_TOLERANCE
    assert gradient_error < GRADIENT_TOLERANCE


@pytest.mark.parametrize("architecture", ["llama_wide", "qwen3_wide"])
def test_native_kernels_agree_within_the_resolution_of_bfloat16(
    monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    """Against the same pass by PyTorch's operators, which the tests above compare with transformers."""
    if load_kernels() is None:
        pytest.skip("no C++ compiler here")
    rows = group_of_depth_three(shared_results=True)

    def computed(native: bool) -> tuple[Tensor, dict[str, Tensor | None]]:
        with monkeypatch.context() as patch:
            if not native:
                patch.setattr("agentrft.models.native.kernels.load_kernels", lambda: None)
            policy = Policy(tiny_model(architecture, torch.bfloat16).planned, lora_rank=4, seed=0)
            generator = torch.Generator().manual_seed(1)
            state = policy.master_state()
            policy.load_master_state({n: torch.randn(v.shape, generator=generator) * 0.05 for n, v in state.items()})
            sampled = tree_logprobs(policy.forward, build_token_tree(rows), rows, 1.0)
            (sampled.logprobs * token_weights(len(sampled.logprobs))).sum().backward()
        return sampled.logprobs.detach(), adapter_gradients(policy)

    (ours, our_gradients), (expected, gradients) = computed(True), computed(False)
    assert float((ours - expected).abs().mean()) < 2e-2
    assert relative_difference(our_gradients, gradients) < 0.1
