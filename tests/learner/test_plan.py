"""What an update makes of its groups: minibatches, epochs, the two ratios, and replay."""

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.learner import Learner, Policy, TrainingGroup, TrainingRow, UpdateOptions, UpdatePlan
from agentrft.learner.algorithms import ALGORITHMS, Algorithm, Clip, LossInputs, LossOutput
from agentrft.learner.group import GroupView
from agentrft.learner.plan import Minibatch, PlannedGroup
from agentrft.learner.token_tree import build_token_tree
from agentrft.learner.tree_forward import tree_logprobs
from tests.learner.rows import on_policy_group, padded_sampled_logprobs
from tests.tiny_model import tiny_model

GROUPS = 6


def groups_of(model: torch.nn.Module, count: int = GROUPS) -> list[TrainingGroup]:
    return [on_policy_group(model, [1.0, 0.0, 0.2], seed=seed) for seed in range(count)]


def make_learner(algorithm: str = "grpo", *, learning_rate: float = 1e-3, **options: Any) -> Learner:
    policy = Policy(tiny_model("llama").planned, lora_rank=4, seed=3)
    return Learner(
        policy,
        algorithm=algorithm,
        learning_rate=learning_rate,
        temperature=1.0,
        max_grad_norm=1.0,
        options=UpdateOptions(**options),
    )


def masters(learner: Learner) -> Tensor:
    return torch.cat([master.detach().flatten().clone() for master in learner.policy.masters])


def planned(count: int) -> list[PlannedGroup]:
    return [PlannedGroup(number, [], 2, torch.ones(3)) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "minibatches", "sizes"), [(8, 4, [2, 2, 2, 2]), (7, 4, [2, 2, 2, 1]), (2, 4, [1, 1])]
)
def test_every_epoch_sees_every_group_once(count: int, minibatches: int, sizes: list[int]) -> None:
    plan = UpdatePlan.of(planned(count), minibatches=minibatches, epochs=3, order=random.Random(0))
    assert len(plan.minibatches) == 3 * len(sizes)
    orders = []
    for epoch in range(3):
        own = plan.minibatches[epoch * len(sizes) : (epoch + 1) * len(sizes)]
        assert [len(minibatch.groups) for minibatch in own] == sizes
        orders.append([group.number for minibatch in own for group in minibatch.groups])
        assert sorted(orders[-1]) == list(range(count))
    assert count == 2 or len({tuple(order) for order in orders}) > 1, "shuffled anew"


def test_a_plan_is_the_same_for_the_same_seed_and_update() -> None:
    groups = groups_of(tiny_model("llama").plain)

    def order(**options: Any) -> list[list[int]]:
        plan = make_learner(minibatches=3, **options).plan(groups)
        return [[group.number for group in minibatch.groups] for minibatch in plan.minibatches]

    assert order(seed=1) == order(seed=1)
    assert order(seed=1) != order(seed=2)


def test_replay_is_shared_out_and_may_stand_alone() -> None:
    rows = [TrainingRow([1, 2], [1], [-1.0], 0) for _ in range(5)]
    plan = UpdatePlan.of(planned(4), minibatches=2, epochs=1, order=random.Random(0), replay=rows)
    assert [len(minibatch.replay) for minibatch in plan.minibatches] == [3, 2]
    alone = UpdatePlan.of([], minibatches=2, epochs=1, order=random.Random(0), replay=rows)
    assert alone.minibatches == [Minibatch([], rows)]


def one_ratio_loss(name: str, inputs: LossInputs, rollouts: int) -> Tensor:
    """The loss with a single ratio, against the sampling policy, as it was before updates had minibatches."""
    ratio = torch.exp(inputs.logprobs - inputs.sampling_logprobs)
    if name == "rloo":
        return -(ratio.detach().clamp(max=2.0) * inputs.advantages * inputs.logprobs).sum() / rollouts
    clipped = ratio.clamp(0.8, 1.2)
    surrogate = torch.minimum(ratio * inputs.advantages, clipped * inputs.advantages)
    bounded = torch.where(inputs.advantages < 0, surrogate.maximum(3 * inputs.advantages), surrogate)
    return -bounded.sum() / len(ratio)


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_one_minibatch_and_one_epoch_are_the_update_with_one_ratio(name: str) -> None:
    groups = groups_of(tiny_model("llama").plain)
    new, old = make_learner(name), make_learner(name)

    def loss(inputs: LossInputs) -> LossOutput:
        return LossOutput(one_ratio_loss(name, inputs, 3 * GROUPS), 0, 0)

    old._algorithm = Algorithm(old._algorithm.advantages, loss)
    for _ in range(3):
        before = masters(new)
        metrics = [learner.update(learner.plan(groups[:GROUPS])) for learner in (new, old)]
        assert metrics[0].grad_norm == pytest.approx(metrics[1].grad_norm, rel=1e-4)
        assert not torch.equal(before, masters(new))
        # Each of the next updates has groups that the policy as it then is has sampled.
        groups = [_resampled(new, group) for group in groups]
        # Element by element Adam makes a whole step of the last digit of a gradient that is almost nothing.
        assert float((masters(new) - masters(old)).norm() / masters(old).norm()) < 1e-6


def _resampled(learner: Learner, group: TrainingGroup) -> TrainingGroup:
    with torch.no_grad():
        sampled = tree_logprobs(learner.policy.forward, build_token_tree(group.rows), group.rows, 1.0)
    values = iter(sampled.logprobs.tolist())
    rows = [replace(row, sampling_logprobs=[next(values) for _ in row.sampled_positions]) for row in group.rows]
    return replace(group, rows=rows)


def recorded(learner: Learner) -> list[LossInputs]:
    """What the algorithm's loss is given from now on."""
    seen: list[LossInputs] = []
    algorithm = learner._algorithm

    def loss(inputs: LossInputs) -> LossOutput:
        seen.append(inputs)
        return algorithm.loss(inputs)

    learner._algorithm = Algorithm(algorithm.advantages, loss)
    return seen


@pytest.mark.parametrize(("gap", "passes"), [(0.0, 3), (0.5, 4)])
def test_the_ratio_of_an_update_is_against_the_policy_before_it(gap: float, passes: int) -> None:
    learner = make_learner(minibatches=3, epochs=2, learning_rate=1e-2)
    groups = groups_of(tiny_model("llama").plain)
    groups = [
        replace(
            group,
            rows=[
                replace(row, sampling_logprobs=[value + gap for value in row.sampling_logprobs]) for row in group.rows
            ],
        )
        for group in groups
    ]
    expected = {}
    with torch.no_grad():
        for group in groups:
            values = padded_sampled_logprobs(tiny_model("llama").plain, group.rows)
            expected[round(float(values[0]), 3)] = values
    plan, seen = learner.plan(groups), recorded(learner)
    metrics = learner.update(plan)
    # Where the engine's numbers are not the learner's, the first minibatch's aside they are computed once more.
    assert metrics.passes == passes + 3
    assert metrics.optimizer_steps == 6
    assert len(seen) == 6
    for inputs in seen:
        start = 0
        for count in torch.unique_consecutive(inputs.rollout // 3, return_counts=True)[1].tolist():
            old = inputs.old_logprobs[start : start + count]
            key = min(expected, key=lambda known: abs(known - float(old[0])))
            assert torch.allclose(old, expected[key], atol=1e-4)
            assert torch.allclose(inputs.sampling_logprobs[start : start + count], expected[key] + gap, atol=1e-4)
            start += count
    assert not torch.allclose(seen[-1].logprobs, seen[-1].old_logprobs, atol=1e-3), "the policy has moved"
    assert metrics.policy_change > 0
    assert metrics.logprob_gap_mean == pytest.approx(gap, abs=1e-4)


def test_more_epochs_move_the_policy_further_until_the_clip_holds_it() -> None:
    groups = groups_of(tiny_model("llama").plain)
    changes, clipped = [], []
    for epochs, clip in ((1, Clip()), (6, Clip()), (6, Clip(0.001, 0.001))):
        learner = make_learner(minibatches=3, epochs=epochs, clip=clip, learning_rate=5e-3)
        metrics = learner.update(learner.plan(groups))
        changes.append(metrics.policy_change)
        clipped.append(metrics.clipped_share)
        assert learner.policy.version == 1
    assert changes[0] < changes[2] < changes[1]
    assert clipped[2] > clipped[1]


def test_replayed_rollouts_become_more_likely() -> None:
    groups = groups_of(tiny_model("llama").plain, 2)
    replayed = on_policy_group(tiny_model("llama").plain, [1.0, 0.0], seed=9).rows[:1]
    plain = make_learner(learning_rate=5e-3)
    learner = make_learner(learning_rate=5e-3, replay_weight=1.0)
    with torch.no_grad():
        before = float(padded_sampled_logprobs(tiny_model("llama").plain, replayed).mean())
    for one in (plain, learner):
        for _ in range(3):
            metrics = one.update(one.plan(groups, replayed if one is learner else ()))
    assert (metrics.replayed, metrics.groups_trained) == (1, 2)
    after = {}
    for name, one in (("plain", plain), ("replay", learner)):
        with torch.no_grad():
            tree = build_token_tree(replayed)
            after[name] = float(tree_logprobs(one.policy.forward, tree, replayed, 1.0).logprobs.mean())
    assert after["replay"] > after["plain"] + 0.05
    assert after["replay"] > before
    assert metrics.replay_loss < -before


def test_replay_alone_is_an_update() -> None:
    learner = make_learner(replay_weight=0.5)
    flat = on_policy_group(tiny_model("llama").plain, [1.0, 1.0])
    metrics = learner.update(learner.plan([flat], flat.rows[:1]))
    assert (metrics.groups_trained, metrics.groups_zero_variance, metrics.replayed) == (0, 1, 1)
    assert learner.policy.version == 1


def plain_loss(name: str, inputs: LossInputs) -> Tensor:
    """Each algorithm's loss again, rollout by rollout and token by token."""
    total = torch.zeros(())
    rollouts = sorted(set(inputs.rollout.tolist()))
    for rollout in rollouts:
        own = [token for token, owner in enumerate(inputs.rollout.tolist()) if owner == rollout]
        change = [inputs.logprobs[token] - inputs.old_logprobs[token] for token in own]
        for token, delta in zip(own, change, strict=True):
            advantage = inputs.advantages[token]
            weight = min(2.0, float((inputs.old_logprobs[token] - inputs.sampling_logprobs[token]).exp()))
            ratio, low, high = delta.exp(), 1 - inputs.clip.low, 1 + inputs.clip.high
            if name in ("rloo", "cispo"):
                bound = 2.0 if name == "rloo" else high
                term = weight * min(bound, float(ratio.detach())) * advantage * inputs.logprobs[token]
            else:
                if name == "gspo":
                    mean = sum(float(each.detach()) for each in change) / len(own)
                    ratio = torch.exp(torch.tensor(mean)) * (delta - delta.detach()).exp()
                value = float(ratio.detach())
                held = min(value, high) if advantage > 0 else max(value, low)
                if name != "gspo" and advantage < 0:
                    held = min(held, 3.0)
                term = weight * advantage * (ratio if held == value else held)
            if name == "gspo":
                term = term / len(own) / inputs.rollouts
            elif name == "rloo":
                term = term / inputs.rollouts
            elif name == "dr_grpo":
                term = term / (inputs.rollouts * inputs.most_tokens)
            else:
                term = term / inputs.tokens
            total = total - term
    return total


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_gradient_is_that_of_a_plain_loss_on_padded_rows(name: str) -> None:
    model = tiny_model("llama")
    group = on_policy_group(model.plain, [1.0, 0.0, 0.4, 0.0])
    policy = Policy(model.planned, lora_rank=None, seed=0)
    generator = torch.Generator().manual_seed(0)
    tokens = group.sampled_tokens
    # As if the policy had moved, and as if something else had sampled.
    shift, mismatch = (0.6 * torch.randn(tokens, generator=generator) for _ in range(2))
    advantages = torch.randn(tokens, generator=generator)

    def inputs(logprobs: Tensor, rollout: Tensor) -> LossInputs:
        old = logprobs.detach() - shift
        clip = Clip(0.05, 0.06) if name == "gspo" else Clip(0.2, 0.3)
        settings: dict[str, Any] = {"tokens": tokens, "rollouts": 4, "most_tokens": 20, "clip": clip}
        return LossInputs(logprobs, old, old - 2 * mismatch, advantages, rollout, **settings)

    sampled = tree_logprobs(policy.forward, build_token_tree(group.rows), group.rows, 1.0)
    output = ALGORITHMS[name].loss(inputs(sampled.logprobs, sampled.rollout))
    output.loss.backward()
    found = torch.cat([master.grad.flatten() for master in policy.masters if master.grad is not None])

    plain = tiny_model("llama").plain.requires_grad_(True)
    expected_loss = plain_loss(name, inputs(padded_sampled_logprobs(plain, group.rows), sampled.rollout))
    expected_loss.backward()
    trained = dict(plain.named_parameters())
    gradients = [trained[key].grad for key in policy.master_state()]
    expected = torch.cat([gradient.flatten() for gradient in gradients if gradient is not None])
    assert float(output.loss.detach()) == pytest.approx(float(expected_loss.detach()), abs=1e-4)
    assert float((found - expected).norm() / expected.norm()) < 1e-4
    assert output.clipped_tokens > 0
    assert output.truncated_tokens > 0


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_it_survives_rollouts_of_a_policy_three_updates_ago(name: str) -> None:
    """A bandit: four questions with their own best of eight answers, a token each; groups of eight."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(4, 8, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    clip = {"gspo": Clip(0.1, 0.1), "cispo": Clip(1.0, 4.0)}.get(name, Clip())
    policies = [logits.detach().clone()]
    for _ in range(120):
        sampling = policies[max(0, len(policies) - 4)].log_softmax(-1)
        parts = []
        for question in range(4):
            answers = sampling[question].exp().multinomial(8, replacement=True, generator=generator)
            rewards = [1.0 if answer == question else 0.3 if answer == question + 1 else 0.0 for answer in answers]
            rows = [TrainingRow([question, 4 + int(answer)], [1], [0.0], index) for index, answer in enumerate(answers)]
            plan = bandit_advantages(name, TrainingGroup(rows, rewards))
            if plan is not None:
                parts.append((question, answers, plan))
        before = logits.detach().log_softmax(-1)
        for _ in range(2):
            optimizer.zero_grad()
            now, losses = logits.log_softmax(-1), []
            for question, answers, advantages in parts:
                values = [table[question, answers] for table in (now, before, sampling)]
                inputs = LossInputs(
                    *values,
                    advantages,
                    torch.arange(8),
                    tokens=8 * len(parts),
                    rollouts=8 * len(parts),
                    most_tokens=1,
                    clip=clip,
                )
                losses.append(ALGORITHMS[name].loss(inputs).loss)
            if losses:
                torch.stack(losses).sum().backward()
                optimizer.step()
        policies.append(logits.detach().clone())
    right = policies[-1].softmax(-1)[range(4), range(4)]
    assert float(right.min()) > 0.8, right
    # Nothing ran away: what is right was found, and stayed.
    late = torch.stack([policy.softmax(-1)[range(4), range(4)].mean() for policy in policies[80:]])
    assert float(late.min()) > 0.7


def bandit_advantages(name: str, group: TrainingGroup) -> Tensor | None:
    """The advantages of a group's tokens; None where it teaches nothing."""
    if len(set(group.rewards)) == 1:
        return None
    return ALGORITHMS[name].advantages(GroupView.of(group)).float()


def scored(reward: list[float], right: list[float], calls: list[float], seed: int = 0) -> TrainingGroup:
    group = on_policy_group(tiny_model("llama").plain, reward, seed=seed)
    return replace(group, sub_scores=[{"right": a, "calls": b} for a, b in zip(right, calls, strict=True)])


def rollout_advantages(plan: UpdatePlan, number: int = 0) -> list[float]:
    group = plan.groups[number]
    owner = torch.tensor([row.rollout for row in group.rows for _ in row.sampled_positions])
    return [float(group.advantages[owner == rollout][0]) for rollout in range(group.rollouts)]


def test_rewards_that_are_compared_apart_count_by_their_weights_and_not_by_their_spread() -> None:
    # What it costs differs by thousandths, and what it brings by ones.
    right, calls = [1.0, 0.0, 1.0, 0.0], [0.001, 0.001, 0.002, 0.002]
    reward = [a - b for a, b in zip(right, calls, strict=True)]
    summed = rollout_advantages(make_learner().plan([scored(reward, right, calls)]))
    assert summed[0] == pytest.approx(summed[2], abs=0.01), "the cost is drowned"
    weights = {"right": 1.0, "calls": -0.5}
    apart = rollout_advantages(make_learner(reward_weights=weights).plan([scored(reward, right, calls)]))
    assert apart[0] > apart[2] + 0.3 > apart[1] + 0.3 > apart[3] + 0.6
    assert apart[0] - apart[1] == pytest.approx(2 * (apart[0] - apart[2]), rel=0.3)


def test_a_group_whose_rewards_are_alike_teaches_where_its_parts_differ() -> None:
    group = scored([0.5, 0.5], [1.0, 0.0], [1.0, 0.0])
    assert make_learner().plan([group]).zero_variance == 1
    apart = make_learner(reward_weights={"right": 0.9, "calls": -0.1}).plan([group])
    assert (apart.zero_variance, len(apart.groups)) == (0, 1)
    assert rollout_advantages(apart)[0] > 0 > rollout_advantages(apart)[1]


def test_advantages_of_many_rewards_are_no_larger_than_of_one() -> None:
    groups = [scored([1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 2.0], seed=seed) for seed in range(4)]
    plan = make_learner(reward_weights={"right": 10.0, "calls": -3.0}).plan(groups)
    everything = torch.cat([group.advantages for group in plan.groups])
    assert float(everything.std()) == pytest.approx(1.0, rel=1e-3)


def test_without_the_parts_the_reward_itself_is_compared() -> None:
    group = on_policy_group(tiny_model("llama").plain, [1.0, 0.0])
    plan = make_learner(reward_weights={"right": 1.0}).plan([group])
    assert rollout_advantages(plan)[0] > 0


def test_the_divergence_from_the_start_is_measured_and_may_hold_the_policy() -> None:
    groups = groups_of(tiny_model("llama").plain, 4)
    gone = {}
    for weight in (0.0, 5.0):
        learner = make_learner(learning_rate=5e-3, kl_weight=weight, minibatches=2)
        learner.keep_start(learner.policy.master_state())
        metrics = [learner.update(learner.plan(groups)) for _ in range(5)]
        # Of the first minibatch alone where the loss has no need of it, which no optimizer step has moved yet.
        assert metrics[0].kl_to_start == pytest.approx(0.0, abs=1e-6 if weight == 0 else 1e-2)
        assert all(later.kl_to_start > metrics[0].kl_to_start for later in metrics[1:])
        gone[weight] = metrics[-1].kl_to_start
    assert gone[5.0] < gone[0.0] / 2
    assert gone[0.0] > 1e-4


def test_measuring_it_changes_nothing() -> None:
    groups = groups_of(tiny_model("llama").plain, 3)
    plain, watched = make_learner(minibatches=2), make_learner(minibatches=2)
    watched.keep_start(watched.policy.master_state())
    for _ in range(2):
        for learner in (plain, watched):
            learner.update(learner.plan(groups))
    assert torch.equal(masters(plain), masters(watched))


def test_tokens_that_take_the_entropy_lose_their_gradient() -> None:
    groups = groups_of(tiny_model("llama").plain, 4)
    learner = make_learner(clip_cov=0.05)
    seen = recorded(learner)
    plan = learner.plan(groups)
    learner.update(plan)
    everything = torch.cat([group.advantages for group in plan.groups])
    given = torch.cat([inputs.advantages for inputs in seen])
    removed = (everything.sort().values != 0).sum() - (given != 0).sum()
    assert 1 <= int(removed) <= 1 + round(0.05 * len(everything))


def test_rollouts_that_were_cut_off_may_be_left_out() -> None:
    group = on_policy_group(tiny_model("llama").plain, [1.0, 0.0, 0.4])
    group = replace(group, truncated=[False, True, False], outcomes=["graded", "model_failed", "graded"])
    counted, masked = make_learner().plan([group]), make_learner(masks_overlong=True).plan([group])
    assert [counted.groups[0].rollouts, masked.groups[0].rollouts] == [3, 2]
    assert rollout_advantages(masked) == pytest.approx([0.707, -0.707], abs=1e-2)
    assert {row.rollout for row in masked.groups[0].rows} == {0, 1}
    alone = replace(group, truncated=[False, True, True])
    assert make_learner(masks_overlong=True).plan([alone]).zero_variance == 1


def test_long_rollouts_may_lose_some_of_their_reward() -> None:
    # Of 6, 7 and 8 sampled tokens, where a rollout may sample 8, and 6 are free.
    group = on_policy_group(tiny_model("llama").plain, [1.0, 1.0, 1.0])
    assert make_learner(most_tokens=8).plan([group]).zero_variance == 1
    found = rollout_advantages(make_learner("dr_grpo", most_tokens=8, length_penalty=0.6).plan([group]))
    assert found == pytest.approx([0.3, 0.0, -0.3])


def test_lessons_become_more_likely_and_cost_their_own_tokens_alone() -> None:
    (group,) = groups_of(tiny_model("llama").plain, 1)
    # The third rollout's answer in the context of the first one, which is the prompt that all share.
    prompt = group.rows[0].token_ids[:12]
    answer = group.rows[2].token_ids[12:]
    lesson = TrainingRow([*prompt, 5, *answer], list(range(13, 13 + len(answer))), [0.0] * len(answer), 0)
    plain, taught = make_learner(learning_rate=5e-3), make_learner(learning_rate=5e-3, replay_weight=1.0)
    with_lesson = replace(group, lessons=[lesson])
    for learner, one in ((plain, group), (taught, with_lesson)):
        for _ in range(3):
            metrics = learner.update(learner.plan([one]))
    assert metrics.replayed == 1
    assert metrics.sampled_tokens == group.sampled_tokens, "it is no rollout"
    alone = make_learner()
    without = alone.update(alone.plan([group])).unique_tokens
    assert metrics.unique_tokens == without + 1 + len(answer)
    after = []
    for learner in (plain, taught):
        with torch.no_grad():
            after.append(
                float(tree_logprobs(learner.policy.forward, build_token_tree([lesson]), [lesson], 1.0).logprobs.sum())
            )
    assert after[1] > after[0] + 0.5


def test_a_lesson_is_the_same_as_its_replay() -> None:
    (group,) = groups_of(tiny_model("llama").plain, 1)
    lesson = on_policy_group(tiny_model("llama").plain, [1.0, 0.0], seed=9).rows[0]
    taught, replayed = make_learner(replay_weight=0.7), make_learner(replay_weight=0.7)
    taught.update(taught.plan([replace(group, lessons=[lesson])]))
    replayed.update(replayed.plan([group], [lesson]))
    assert float((masters(taught) - masters(replayed)).norm() / masters(taught).norm()) < 1e-5


@pytest.mark.parametrize(("weight", "compared"), [(0.0, 2), (1e-9, 4)])
def test_an_update_tells_how_it_found_each_token(weight: float, compared: int) -> None:
    groups = groups_of(tiny_model("llama").plain, 4)
    learner = make_learner(learning_rate=5e-3, kl_weight=weight, minibatches=2)
    learner.keep_start(learner.policy.master_state())
    learner.update(learner.plan(groups))
    plan = learner.plan(groups)
    metrics = learner.update(plan)

    assert sorted(metrics.seen) == [group.number for group in plan.groups]
    assert all(len(metrics.seen[group.number].entropy) == len(group.advantages) for group in plan.groups)
    entropies = torch.cat([one.entropy for one in metrics.seen.values()])
    assert float(entropies.mean()) == pytest.approx(metrics.entropy, rel=1e-5)
    moved = [one.moved for one in metrics.seen.values() if one.moved is not None]
    assert len(moved) == compared
    everything = torch.cat(moved)
    divergence = torch.exp(-everything) - 1 + everything
    assert float(divergence.mean()) == pytest.approx(metrics.kl_to_start, rel=1e-4)
    assert "seen" not in metrics.as_dict()
