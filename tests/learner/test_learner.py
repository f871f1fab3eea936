"""An update makes better rollouts more probable, and leaves nothing behind that the next one does not need."""

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.errors import JobFailedError
from agentrft.learner import Learner, Policy, TrainingGroup, TrainingRow
from agentrft.models.forward import TransformersForward
from tests.learner.rows import group_of_depth_three, on_policy_group, padded_sampled_logprobs
from tests.tiny_model import TinyModel, tiny_model


def make_learner(model: TinyModel, *, lora_rank: int | None = 4, **settings: Any) -> Learner:
    policy = Policy(model.planned, lora_rank=lora_rank, seed=3)
    wanted = {"algorithm": "grpo", "learning_rate": 1e-3, "temperature": 1.0, "max_grad_norm": 1.0, **settings}
    return Learner(policy, **wanted)


def rollout_logprobs(learner: Learner, model: TinyModel, group: TrainingGroup) -> Tensor:
    """The log-probability of each rollout under the learner's policy."""
    plain = copy.deepcopy(model.plain)
    learner.policy.write_to(TransformersForward(plain))
    with torch.no_grad():
        logprobs = padded_sampled_logprobs(plain, group.rows)
    owner = torch.tensor([r.rollout for r in group.rows for _ in r.sampled_positions])
    return torch.zeros(len(group.rewards)).index_add_(0, owner, logprobs)


def masters_of(learner: Learner) -> list[Tensor]:
    return [master.detach().clone() for master in learner.policy.masters]


def same(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
@pytest.mark.parametrize("lora_rank", [4, None])
def test_an_update_makes_the_better_rollouts_more_probable(
    model: TinyModel, algorithm: str, lora_rank: int | None
) -> None:
    group = on_policy_group(model.plain, [1.0, 0.0, 0.0, 0.2])
    learner = make_learner(model, algorithm=algorithm, lora_rank=lora_rank)
    before = rollout_logprobs(learner, model, group)
    metrics = [learner.update(learner.plan([group])) for _ in range(3)]
    change = rollout_logprobs(learner, model, group) - before
    assert change[0] > 0.05
    assert change[1] < 0 and change[2] < 0
    assert learner.policy.version == 3
    assert all(m.grad_norm > 0 and m.groups_trained == 1 for m in metrics)


def test_the_first_update_after_sampling_finds_no_gap_to_the_engine(model: TinyModel) -> None:
    group = on_policy_group(model.plain, [1.0, 0.0, 0.5])
    learner = make_learner(model)
    metrics = learner.update(learner.plan([group]))
    assert metrics.logprob_gap_max < 1e-4
    assert metrics.truncated_ratio_share == 0
    assert metrics.sampled_tokens == 6 + 7 + 8
    assert metrics.total_tokens == 3 * 12 + 6 + 7 + 8
    assert metrics.unique_tokens == 12 + 6 + 7 + 8
    assert 0 < metrics.entropy < 6


def test_groups_without_variance_are_skipped_and_counted(model: TinyModel) -> None:
    learner = make_learner(model)
    varied, flat = on_policy_group(model.plain, [1.0, 0.0]), on_policy_group(model.plain, [0.5, 0.5], seed=1)
    metrics = learner.update(learner.plan([flat, varied, flat]))
    assert (metrics.groups_trained, metrics.groups_zero_variance, metrics.sampled_tokens) == (1, 2, 13)
    alone = make_learner(tiny_model("llama"))
    alone.update(alone.plan([varied]))
    assert same(masters_of(learner), masters_of(alone)), "they are not in the normalisation either"


def test_without_any_variance_the_policy_stays_as_it_is(model: TinyModel) -> None:
    learner = make_learner(model)
    before = masters_of(learner)
    metrics = learner.update(
        learner.plan([on_policy_group(model.plain, [1.0, 1.0]), on_policy_group(model.plain, [0.0, 0.0])])
    )
    assert (metrics.groups_trained, metrics.groups_zero_variance) == (0, 2)
    assert learner.policy.version == 0
    assert same(before, masters_of(learner))


def test_both_rows_of_a_forked_rollout_are_trained_with_its_reward(model: TinyModel) -> None:
    group = on_policy_group(model.plain, [0.0, 1.0, 0.0])
    # The second and the third row belong to one rollout.
    rows = [TrainingRow(r.token_ids, r.sampled_positions, r.sampling_logprobs, min(r.rollout, 1)) for r in group.rows]
    forked = TrainingGroup(rows, [0.0, 1.0])
    learner = make_learner(model)
    plain = copy.deepcopy(model.plain)
    with torch.no_grad():
        before = padded_sampled_logprobs(plain, rows)
        for _ in range(3):
            with torch.enable_grad():
                learner.update(learner.plan([forked]))
        learner.policy.write_to(TransformersForward(plain))
        change = padded_sampled_logprobs(plain, rows) - before
    first, second, third = (float(part.sum()) for part in change.split([6, 7, 8]))
    assert first < 0 < min(second, third)


@pytest.mark.parametrize("lora_rank", [4, None])
def test_an_interrupted_learner_goes_on_to_the_bit(lora_rank: int | None) -> None:
    groups = [on_policy_group(tiny_model("llama").plain, [1.0, 0.0, 0.3], seed=seed) for seed in range(3)]
    through = make_learner(tiny_model("llama"), lora_rank=lora_rank, warm_up_steps=2)
    saved = io.BytesIO()
    through.update(through.plan(groups[:1]))
    state = through.state()
    torch.save(state, saved)
    metrics = [through.update(through.plan(groups[1:2])), through.update(through.plan(groups[2:]))]

    resumed = make_learner(tiny_model("llama"), lora_rank=lora_rank, warm_up_steps=2)
    resumed.load_state(torch.load(io.BytesIO(saved.getvalue()), weights_only=True))
    assert resumed.policy.version == 1
    again = [resumed.update(resumed.plan(groups[1:2])), resumed.update(resumed.plan(groups[2:]))]
    assert same(masters_of(through), masters_of(resumed))
    assert [(m.loss, m.grad_norm, m.entropy) for m in metrics] == [(m.loss, m.grad_norm, m.entropy) for m in again]

    # The state is a copy: updates after it was taken did not change it.
    late = make_learner(tiny_model("llama"), lora_rank=lora_rank, warm_up_steps=2)
    late.load_state(state)
    late.update(late.plan(groups[1:2]))
    late.update(late.plan(groups[2:]))
    assert same(masters_of(through), masters_of(late))


def test_a_state_of_other_weights_is_refused(model: TinyModel) -> None:
    state = make_learner(model).state()
    with pytest.raises(ValueError, match="not this policy's"):
        make_learner(tiny_model("llama"), lora_rank=None).load_state(state)


@pytest.mark.parametrize("algorithm", ["grpo", "rloo"])
@pytest.mark.parametrize("base", [1.7e9, -1e9, 16_777_216.0, 0.0])
def test_advantages_are_the_same_however_far_the_rewards_lie_from_zero(
    model: TinyModel, algorithm: str, base: float
) -> None:
    learner = make_learner(model, algorithm=algorithm)
    differences = [0.0, 1.0, 2.0, 60.0]
    group = on_policy_group(model.plain, [base + difference for difference in differences])
    found = learner.plan([group]).groups[0].advantages
    group_rollouts = torch.tensor([row.rollout for row in group.rows for _ in row.sampled_positions])
    centred = torch.tensor(differences) - sum(differences) / 4
    expected = centred / (torch.tensor(differences).std() + 1e-4) if algorithm == "grpo" else centred * 4 / 3
    assert found.dtype == torch.float32
    of_rollouts = [float(found[group_rollouts == rollout][0]) for rollout in range(4)]
    assert of_rollouts == pytest.approx(expected.tolist(), rel=1e-5)


def test_the_gradient_is_clipped_to_its_norm(model: TinyModel) -> None:
    group = on_policy_group(model.plain, [1.0, 0.0, 0.0])
    free = make_learner(model, lora_rank=None, max_grad_norm=1e9)
    clipped = make_learner(tiny_model("llama"), lora_rank=None, max_grad_norm=1e-3)
    norms, gradients = [], []
    for learner in (free, clipped):
        learner._forget_gradients = lambda: None  # type: ignore[method-assign]
        norms.append(learner.update(learner.plan([group])).grad_norm)
        gradients.append(torch.cat([master.grad.flatten() for master in learner.policy.masters]))
    assert norms[0] == pytest.approx(norms[1], rel=1e-5), "reported before clipping"
    assert norms[0] > 1e-2
    assert float(gradients[0].norm()) == pytest.approx(norms[0], rel=1e-4)
    assert float(gradients[1].norm()) == pytest.approx(1e-3, rel=1e-2)
    assert torch.nn.functional.cosine_similarity(*gradients, dim=0) > 0.9999


def test_a_gradient_that_is_not_finite_leaves_the_policy_and_stops_the_job(model: TinyModel) -> None:
    learner, group = make_learner(model), on_policy_group(model.plain, [1.0, 0.0])
    before = masters_of(learner)
    rows = [TrainingRow(r.token_ids, r.sampled_positions, [float("nan")] * 6, r.rollout) for r in group.rows[:1]]
    with pytest.raises(JobFailedError, match="not finite"):
        learner.update(learner.plan([TrainingGroup([*rows, group.rows[1]], group.rewards)]))
    assert same(before, masters_of(learner))
    assert learner.policy.version == 0
    assert learner.update(learner.plan([group])).grad_norm > 0


def test_the_learning_rate_warms_up(model: TinyModel) -> None:
    group, sizes = on_policy_group(model.plain, [1.0, 0.0, 0.0]), []
    for warm_up_steps in (0, 9):
        learner = make_learner(tiny_model("llama"), warm_up_steps=warm_up_steps)
        before = masters_of(learner)
        learner.update(learner.plan([group]))
        sizes.append(sum(float((a - b).abs().sum()) for a, b in zip(before, masters_of(learner), strict=True)))
    assert sizes[1] == pytest.approx(sizes[0] / 10, rel=0.05)


@pytest.mark.parametrize("lora_rank", [4, None])
def test_demonstrations_become_more_probable(model: TinyModel, lora_rank: int | None) -> None:
    learner = make_learner(model, lora_rank=lora_rank, learning_rate=5e-3)
    rows = group_of_depth_three(shared_results=True)
    expected = -float(padded_sampled_logprobs(model.plain, rows).mean().detach())
    losses = [learner.supervised_update(rows).loss for _ in range(8)]
    assert losses[0] == pytest.approx(expected, abs=1e-4), "the loss before the update"
    assert losses[-1] < losses[0] - 0.3
    assert learner.policy.version == 8
