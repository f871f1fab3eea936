"""Advantages and losses against numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor

from agentrft.learner import TrainingGroup, TrainingRow
from agentrft.learner.algorithms import ALGORITHMS, Clip, LossInputs, LossOutput
from agentrft.learner.group import GroupView


def run(
    name: str,
    *,
    ratios: list[float],
    advantages: list[float],
    sampling_ratios: list[float] | None = None,
    rollout: list[int] | None = None,
    tokens: int | None = None,
    rollouts: int = 1,
    clip: Clip = Clip(0.2, 0.2),
) -> tuple[LossOutput, list[float]]:
    """The loss of tokens with these importance ratios, and its gradient by their log-probabilities."""
    old = torch.linspace(-1.0, -2.0, len(ratios))
    sampling = old - torch.tensor(sampling_ratios or [1.0] * len(ratios)).log()
    logprobs = (old + torch.tensor(ratios).log()).requires_grad_(True)
    inputs = LossInputs(
        logprobs,
        old,
        sampling,
        torch.tensor(advantages),
        torch.tensor(rollout or [0] * len(ratios)),
        tokens=tokens or len(ratios),
        rollouts=rollouts,
        most_tokens=10,
        clip=clip,
    )
    output = ALGORITHMS[name].loss(inputs)
    output.loss.backward()
    assert logprobs.grad is not None
    return output, logprobs.grad.tolist()


def view_of(rewards: list[float], **options: object) -> GroupView:
    """Rollouts of one turn, with one sampled token each."""
    rows = [TrainingRow([1, 2 + index], [1], [-1.0], index) for index in range(len(rewards))]
    return GroupView.of(TrainingGroup(rows, rewards), **options)  # type: ignore[arg-type]


def advantages_of(name: str, rewards: list[float], **options: object) -> list[float]:
    return ALGORITHMS[name].advantages(view_of(rewards, **options)).tolist()


@pytest.mark.parametrize("name", ["grpo", "dapo", "gspo", "cispo"])
def test_rewards_are_normalised_within_the_group(name: str) -> None:
    assert advantages_of(name, [1.0, 2.0, 3.0]) == pytest.approx([-1.0, 0.0, 1.0], abs=1e-3)
    assert advantages_of(name, [0.0, 0.0, 0.0, 1.0]) == pytest.approx([-0.5, -0.5, -0.5, 1.5], abs=1e-3)


def test_a_floor_keeps_a_small_spread_small() -> None:
    rewards = [0.500, 0.501, 0.502]
    assert advantages_of("grpo", rewards) == pytest.approx([-0.909, 0.0, 0.909], abs=1e-3)
    assert advantages_of("grpo", rewards, std_floor=0.1) == pytest.approx([-0.01, 0.0, 0.01], abs=1e-4)
    assert advantages_of("grpo", [0.0, 1.0], std_floor=0.1) == advantages_of("grpo", [0.0, 1.0])
    assert max(advantages_of("maxrl", rewards, std_floor=0.1)) == pytest.approx(0.01, abs=1e-4)


def test_dr_grpo_divides_by_no_deviation() -> None:
    assert advantages_of("dr_grpo", [0.0, 0.0, 0.0, 1.0]) == pytest.approx([-0.25, -0.25, -0.25, 0.75])


def test_rloo_advantages_leave_the_rollout_itself_out_of_its_baseline() -> None:
    expected = [1 - 0.5 / 3, -0.5, 0.5 - 1 / 3, -0.5]
    assert advantages_of("rloo", [1.0, 0.0, 0.5, 0.0]) == pytest.approx(expected)


@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_maxrl_weighs_the_successes_of_a_hard_sample_as_much_as_all_of_an_easy_one(offset: float) -> None:
    hard = advantages_of("maxrl", [offset + reward for reward in (1.0, 0.0, 0.0, 0.0)])
    easy = advantages_of("maxrl", [offset + reward for reward in (1.0, 1.0, 0.0, 1.0)])
    # Of each the gradient is that of log(share of successes): each success 1 / share, less 1 for each rollout.
    assert hard == pytest.approx([3.0, -1.0, -1.0, -1.0], rel=1e-3)
    assert easy == pytest.approx([1 / 3, 1 / 3, -1.0, 1 / 3], rel=1e-3)


@pytest.mark.parametrize("name", ["grpo", "dapo", "maxrl"])
def test_on_policy_the_loss_is_the_mean_advantage_with_the_policy_gradient(name: str) -> None:
    output, gradient = run(name, ratios=[1.0, 1.0, 1.0], advantages=[0.5, -1.0, 2.0])
    assert float(output.loss.detach()) == pytest.approx(-1.5 / 3)
    assert gradient == pytest.approx([-0.5 / 3, 1.0 / 3, -2.0 / 3])
    assert (output.clipped_tokens, output.truncated_tokens) == (0, 0)


@pytest.mark.parametrize(
    ("ratio", "advantage", "surrogate", "slope"),
    [
        pytest.param(1.1, 2.0, 2.2, 2.2, id="inside, better"),
        pytest.param(1.5, 2.0, 2.4, 0.0, id="above, better: clipped at 1.2"),
        pytest.param(0.5, 2.0, 1.0, 1.0, id="below, better: pulled back up"),
        pytest.param(0.9, -2.0, -1.8, -1.8, id="inside, worse"),
        pytest.param(0.5, -2.0, -1.6, 0.0, id="below, worse: clipped at 0.8"),
        pytest.param(1.5, -2.0, -3.0, -3.0, id="above, worse: pushed back down"),
        pytest.param(9.0, -2.0, -6.0, 0.0, id="far above, worse: bounded at 3"),
    ],
)
def test_grpo_clips_the_ratio_only_where_it_would_go_further(
    ratio: float, advantage: float, surrogate: float, slope: float
) -> None:
    output, gradient = run("grpo", ratios=[ratio], advantages=[advantage], tokens=10)
    assert float(output.loss.detach()) == pytest.approx(-surrogate / 10, rel=1e-5)
    assert gradient == pytest.approx([-slope / 10], rel=1e-5, abs=1e-9)
    assert output.clipped_tokens == (1 if slope == 0.0 else 0)


def test_the_clip_may_reach_further_up_than_down() -> None:
    ratios, clip = [1.25, 1.35, 0.85, 0.75], Clip(0.2, 0.3)
    output, gradient = run("dapo", ratios=ratios, advantages=[1.0, 1.0, -1.0, -1.0], clip=clip)
    assert [slope != 0 for slope in gradient] == [True, False, True, False]
    assert output.clipped_tokens == 2


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_ratio_against_the_sampling_policy_weighs_and_is_never_clipped(name: str) -> None:
    # The update has not moved anything yet: what differs is what sampled.
    def gradient(sampling: list[float]) -> list[float]:
        output, found = run(name, ratios=[1.0] * 3, advantages=[1.0, -1.0, 1.0], sampling_ratios=sampling, tokens=3)
        assert output.clipped_tokens == 0
        assert output.truncated_tokens == sum(ratio > 2 for ratio in sampling)
        return found

    plain = gradient([1.0, 1.0, 1.0])
    weighted = gradient([0.25, 1.75, 8.0])
    assert [a / b for a, b in zip(weighted, plain, strict=True)] == pytest.approx([0.25, 1.75, 2.0], rel=1e-5)


def test_dr_grpo_divides_by_what_might_have_been_sampled() -> None:
    _, gradient = run("dr_grpo", ratios=[1.0, 1.0, 1.0], advantages=[0.5, -1.0, 2.0], rollouts=2)
    assert gradient == pytest.approx([-0.5 / 20, 1.0 / 20, -2.0 / 20])


def test_rloo_sums_over_a_rollouts_tokens_and_averages_over_rollouts() -> None:
    output, gradient = run("rloo", ratios=[1.0, 1.0, 1.0], advantages=[0.5, 0.5, -1.0], rollout=[0, 0, 1], rollouts=2)
    assert gradient == pytest.approx([-0.25, -0.25, 0.5])
    assert float(output.loss.detach()) == pytest.approx(-(0.5 * -1.0 + 0.5 * -1.5 + -1.0 * -2.0) / 2)


def test_rloo_weighs_by_the_ratio_up_to_its_bound() -> None:
    output, gradient = run("rloo", ratios=[0.5, 1.5, 5.0], advantages=[1.0, 1.0, -1.0])
    assert gradient == pytest.approx([-0.5, -1.5, 2.0], rel=1e-5)
    assert output.clipped_tokens == 1


def test_gspo_gives_all_tokens_of_a_rollout_its_geometric_mean() -> None:
    output, gradient = run(
        "gspo",
        ratios=[1.2, 1 / 1.2, 1.1, 1.1, 1.0],
        advantages=[1.0, 1.0, 1.0, 1.0, 1.0],
        rollout=[0, 0, 1, 1, 2],
        rollouts=3,
        clip=Clip(0.05, 0.05),
    )
    # The first rollout is as likely as before; the second one was made more likely than its bound.
    assert gradient == pytest.approx([-1 / 6, -1 / 6, 0.0, 0.0, -1 / 3], abs=1e-6)
    assert output.clipped_tokens == 2


def test_cispo_leaves_every_token_a_gradient() -> None:
    output, gradient = run("cispo", ratios=[0.5, 1.5, 9.0], advantages=[1.0, -1.0, 1.0], clip=Clip(1.0, 4.0))
    assert gradient == pytest.approx([-0.5 / 3, 1.5 / 3, -5.0 / 3], rel=1e-5)
    assert output.clipped_tokens == 1


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_passes_shares_add_up_to_the_loss_of_the_minibatch(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    count, first = 30, 10
    old = -torch.rand(count, generator=generator)
    logprobs = old + 0.1 * torch.randn(count, generator=generator)
    sampling = old + torch.randn(count, generator=generator)
    advantages, rollout = torch.randn(count, generator=generator), torch.arange(count) // 5

    def loss_of(part: slice) -> float:
        own = rollout[part] - rollout[part].min()
        inputs = LossInputs(
            logprobs[part],
            old[part],
            sampling[part],
            advantages[part],
            own,
            tokens=count,
            rollouts=6,
            most_tokens=7,
            clip=Clip(),
        )
        return float(ALGORITHMS[name].loss(inputs).loss.detach())

    whole = loss_of(slice(None))
    assert math.isfinite(whole)
    assert loss_of(slice(None, first)) + loss_of(slice(first, None)) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.parametrize("which", ["old", "sampling"])
def test_a_ratio_beyond_any_float_leaves_the_gradient_finite(name: str, which: str) -> None:
    logprobs = torch.tensor([-0.1, -0.1], requires_grad=True)
    unlikely, same = torch.tensor([-200.0, -200.0]), torch.tensor([-0.1, -0.1])
    old, sampling = (unlikely, unlikely) if which == "old" else (same, unlikely)
    inputs = LossInputs(
        logprobs,
        old,
        sampling,
        torch.tensor([1.0, -1.0]),
        torch.tensor([0, 1]),
        tokens=2,
        rollouts=2,
        most_tokens=1,
        clip=Clip(),
    )
    ALGORITHMS[name].loss(inputs).loss.backward()
    assert logprobs.grad is not None
    assert torch.isfinite(logprobs.grad).all()


def two_turns() -> TrainingGroup:
    """Four rollouts of two turns; the first two make the same call and read the same result."""
    prompt, calls, results = [1, 2], [[3, 4], [3, 4], [5], [6]], [[7], [7], [7], [8]]
    rows = []
    for index, (call, result) in enumerate(zip(calls, results, strict=True)):
        ids = [*prompt, *call, *result, 20 + index, 30]
        start = 2 + len(call) + 1
        rows.append(
            TrainingRow(
                ids,
                [*range(2, 2 + len(call)), start, start + 1],
                [-1.0] * (len(call) + 2),
                index,
                [0] * len(call) + [1, 1],
            )
        )
    return TrainingGroup(rows, [1.0, 0.0, 1.0, 0.0])


def by_turn(tensor: Tensor, view: GroupView) -> list[list[float]]:
    """A value of each rollout's turns; all tokens of one have the same."""
    found = []
    for rollout in range(len(view.rewards)):
        turns = []
        for turn in range(2):
            own = tensor[(view.rollout == rollout) & (view.turn == turn)]
            assert own.max() == own.min()
            turns.append(float(own[0]))
        found.append(turns)
    return found


def test_a_turn_is_compared_with_what_others_made_of_the_same_context() -> None:
    group = two_turns()
    plain, view = GroupView.of(group), GroupView.of(group, by="turn")
    assert by_turn(plain.centred(), plain) == [[0.5, 0.5], [-0.5, -0.5], [0.5, 0.5], [-0.5, -0.5]]
    # The first two made the same call; what the others' second turns were worth, nobody else's can tell.
    assert by_turn(view.centred(), view) == [[0.5, 0.5], [-0.5, -0.5], [0.5, 0.0], [-0.5, 0.0]]


def test_or_with_what_others_made_of_the_same_result() -> None:
    view = GroupView.of(two_turns(), by="observation")
    found = by_turn(view.centred(), view)
    # Three read the same after two different calls, and two of these succeeded.
    assert found[0] == pytest.approx([0.5, 1 / 3])
    assert found[1] == pytest.approx([-0.5, -2 / 3])
    assert found[2] == pytest.approx([0.5, 1 / 3])
    assert found[3] == pytest.approx([-0.5, 0.0])
    others = by_turn(view.centred(leave_one_out=True), view)
    assert others[0] == pytest.approx([1 - 1 / 3, 1 - 1 / 2])
    assert others[1] == pytest.approx([0 - 2 / 3, 0 - 1.0])


def test_what_the_context_decided_teaches_the_turn_after_it_nothing() -> None:
    group = two_turns()
    same = TrainingGroup(group.rows, [1.0, 1.0, 0.0, 0.0])
    view = GroupView.of(same, by="turn")
    assert by_turn(view.centred(), view) == [[0.5, 0.0], [0.5, 0.0], [-0.5, 0.0], [-0.5, 0.0]]


def test_the_view_shows_what_is_known_of_rollouts() -> None:
    group = two_turns()
    scores = [{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 1.0}, {"a": 0.0}, {"a": 0.0, "b": 1.0}]
    told = TrainingGroup(group.rows, group.rewards, scores, ["graded"] * 3 + ["model_failed"], [False] * 3 + [True])
    view = GroupView.of(told)
    assert {name: values.tolist() for name, values in view.sub_scores.items()} == {"a": [1.0, 0.5, 0.0, 0.0]}
    assert view.outcomes[3] == "model_failed"
    assert view.truncated == [False, False, False, True]
    assert view.node.tolist() == [0, 0, 1, 1, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3]
