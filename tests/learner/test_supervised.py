"""Updates towards demonstrations and preferences, held against plain losses on padded rows."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid

from agentrft.learner import Pair, Policy, SupervisedLearner, TrainingRow
from agentrft.learner.packing import rows_by_pass
from agentrft.learner.preferences import preference_losses
from agentrft.learner.token_tree import build_token_tree
from tests.learner.rows import group_of_depth_three, groups_of_rows, padded_sampled_logprobs, row
from tests.tiny_model import tiny_model

BETA = 0.3


def learner_of(*, lora_rank: int | None = None, max_tokens: int | None = None, rate: float = 5e-3) -> SupervisedLearner:
    policy = Policy(tiny_model("llama").planned, lora_rank=lora_rank, seed=3, generates=False)
    return SupervisedLearner(policy, learning_rate=rate, max_grad_norm=1e9, max_tokens_per_pass=max_tokens)


def pairs() -> list[Pair]:
    """Four prompts; the answers of one are several turns, and a third of another has a fork."""
    rows = group_of_depth_three(shared_results=True)
    found = [Pair([rows[index]], [rows[index + 1]]) for index in range(0, 6, 2)]
    forked = [row([(False, [7, 8]), (True, [9, 4])], 0), row([(False, [7, 1, 2]), (True, [5])], 0)]
    return [*found, Pair(forked, [row([(False, [7, 8]), (True, [3])], 0)])]


def gradient(learner: SupervisedLearner) -> Tensor:
    """What the optimizer would see; the update itself is left out."""
    seen: list[Tensor] = []
    learner._step = lambda *_: seen.append(  # type: ignore[method-assign, assignment, return-value]
        torch.cat([torch.flatten(master.grad.clone()) for master in learner.policy.masters if master.grad is not None])
    )
    return seen  # type: ignore[return-value]


@given(groups_of_rows(), st.integers(1, 40))
def test_every_row_is_in_one_pass_that_has_room_for_it(rows: list[TrainingRow], most: int) -> None:
    passes = rows_by_pass(rows, most)
    assert sorted(id(one) for some in passes for one in some) == sorted(map(id, rows))
    for some in passes:
        assert len(some) == 1 or build_token_tree(some).unique_tokens <= most


def test_likelihood_is_that_of_padded_rows_whatever_the_passes() -> None:
    rows = group_of_depth_three(shared_results=False)
    plain = tiny_model("llama").plain
    expected = padded_sampled_logprobs(plain, rows)
    for most in (30, 10_000):
        found = learner_of(max_tokens=most).likelihood(rows)
        assert found.loss == pytest.approx(-float(expected.mean().detach()), abs=1e-4)
        assert found.tokens == len(expected)
    gradients = []
    for most in (30, 10_000):
        learner = learner_of(max_tokens=most)
        seen = gradient(learner)
        learner.supervised_update(rows)
        gradients.append(seen[0])
    assert torch.allclose(gradients[0], gradients[1], atol=1e-5)


def test_accuracy_counts_the_likeliest_tokens() -> None:
    plain = tiny_model("llama").plain
    start = [5, 3, 9]
    with torch.no_grad():
        best = int(plain(torch.tensor([start])).logits[0, -1].argmax())
    worst = (best + 1) % 20
    learner = learner_of()
    found = learner.likelihood([row([(False, start), (True, [best])], 0), row([(False, start), (True, [worst])], 1)])
    assert found.accuracy == 0.5


def plain_preference_loss(model: torch.nn.Module, start: torch.nn.Module, some: list[Pair]) -> Tensor:
    """The definition, pair by pair and answer by answer, on padded rows."""

    def answer(of: torch.nn.Module, rows: list[TrainingRow]) -> Tensor:
        return padded_sampled_logprobs(of, rows).sum()

    losses = []
    for pair in some:
        gained = [answer(model, rows) - answer(start, rows).detach() for rows in (pair.preferred, pair.other)]
        losses.append(-logsigmoid(BETA * (gained[0] - gained[1])))
    return torch.stack(losses).mean()


def test_the_loss_of_preferences_and_its_gradient_are_those_of_padded_rows() -> None:
    learner = learner_of(max_tokens=60)
    start = copy.deepcopy(tiny_model("llama").plain)
    learner.keep_start(learner.policy.master_state())
    some = pairs()
    # Away from where it began: there the loss of every pair is the logarithm of two.
    learner.supervised_update([row([(False, [1, 2]), (True, [3, 4, 5])], 0)])
    reference = learner.answer_logprobs(some)
    for pair, (preferred, other) in zip(some, reference, strict=True):
        assert preferred == pytest.approx(
            float(padded_sampled_logprobs(start, pair.preferred).sum().detach()), abs=1e-4
        )
        assert other == pytest.approx(float(padded_sampled_logprobs(start, pair.other).sum().detach()), abs=1e-4)
    moved = copy.deepcopy(start)
    names = dict(moved.named_parameters())
    with torch.no_grad():
        for name, master in learner.policy.master_state().items():
            names[name].copy_(master)
    loss = plain_preference_loss(moved, start, some)
    loss.backward()
    by_name = {name: parameter.grad for name, parameter in names.items()}
    seen = gradient(learner)
    found = learner.preference_update(some, reference, BETA)
    assert found.loss == pytest.approx(float(loss.detach()), abs=1e-4)
    assert not math.isclose(found.loss, math.log(2), abs_tol=1e-3)
    flat = torch.cat([torch.flatten(by_name[name]) for name in learner.policy.master_state()])  # type: ignore[arg-type]
    assert float((seen[0] - flat).norm() / flat.norm()) < 1e-4
    assert found.margin == pytest.approx(found.preferred_reward - found.other_reward)
    assert found.tokens == sum(pair.tokens for pair in some)


@pytest.mark.parametrize("lora_rank", [4, None])
def test_the_better_answer_is_raised_above_the_other(lora_rank: int | None) -> None:
    learner = learner_of(lora_rank=lora_rank)
    learner.keep_start(learner.policy.master_state())
    some = pairs()
    reference = learner.answer_logprobs(some)
    first, *_ = seen = [learner.preference_update(some, reference, BETA) for _ in range(12)]
    assert first.loss == pytest.approx(math.log(2), abs=1e-5) and first.margin == pytest.approx(0, abs=1e-4)
    assert seen[-1].loss < 0.5 and seen[-1].accuracy == 1 and seen[-1].margin > 0.3
    measured = learner.preference(some, reference, BETA)
    assert measured.loss < seen[-1].loss
    again = torch.tensor(learner.answer_logprobs(some))
    assert torch.allclose(again, torch.tensor(reference)), "what it began with is what it began with"
    assert learner.preference(some, reference, BETA) == measured, "and to look at it leaves the policy as it is"


def test_the_loss_of_a_pair_grows_where_the_worse_answer_gained() -> None:
    losses = preference_losses(torch.tensor([0.0, 2.0, -2.0]), torch.zeros(3), 0.5)
    assert torch.allclose(losses, torch.tensor([math.log(2), math.log1p(math.exp(-1)), math.log1p(math.e)]))
