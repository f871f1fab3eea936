"""What is learned of tokens that older policies sampled, each token of a version of its own."""

import pytest
import torch

from agentrft.learner import Clip
from agentrft.learner.algorithms import ALGORITHMS
from agentrft.learner.algorithms.base import LossInputs

ANSWERS = 8
CLIPS = {"gspo": Clip(0.1, 0.1), "cispo": Clip(1.0, 4.0)}


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_where_no_ratio_is_cut_older_samples_give_the_gradient_of_the_policys_own(name: str) -> None:
    """Expectations over all answers: half the tokens are of one older version, half of another."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(ANSWERS, generator=generator).requires_grad_()
    advantages = torch.randn(ANSWERS, generator=generator)
    older = [(logits.detach() + 0.2 * torch.randn(ANSWERS, generator=generator)).log_softmax(-1) for _ in range(2)]

    def gradient(samplers: list[torch.Tensor]) -> torch.Tensor:
        now = logits.log_softmax(-1)
        sampling = torch.cat(samplers)
        logprobs = torch.cat([now] * len(samplers))
        inputs = LossInputs(
            logprobs,
            logprobs.detach(),
            sampling,
            # What is linear in the advantages is an expectation where these are weighted by their probability.
            torch.cat([advantages] * len(samplers)) * sampling.exp(),
            torch.arange(len(sampling)),
            tokens=len(sampling),
            rollouts=len(sampling),
            most_tokens=1,
            clip=Clip(),
        )
        loss = ALGORITHMS[name].loss(inputs)
        assert loss.truncated_tokens == 0
        (found,) = torch.autograd.grad(loss.loss, logits)
        return found

    own = logits.detach().log_softmax(-1)
    assert torch.allclose(gradient(older), gradient([own, own]), atol=1e-6)


@pytest.mark.parametrize("staleness", [2, 4, 8])
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_rollouts_that_went_on_over_updates_teach_what_is_right(name: str, staleness: int) -> None:
    """Four questions, two answers each, one after another; the first is sampled `staleness` updates before the second,
    which is itself half as old. Advantages are given, as of a baseline that is known."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.zeros(2, 4, ANSWERS, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    policies = [logits.detach().clone()]
    questions = torch.arange(4).repeat_interleave(8)
    right = torch.stack([questions, (questions + 3) % ANSWERS])
    for _ in range(150):
        ages = (staleness, staleness // 2)
        sampled_by = [policies[max(0, len(policies) - 1 - age)][turn] for turn, age in enumerate(ages)]
        tables = [one.log_softmax(-1)[questions] for one in sampled_by]
        answers = torch.stack([one.exp().multinomial(1, generator=generator).squeeze(1) for one in tables])
        sampling = torch.stack([one.gather(1, a[:, None]).squeeze(1) for one, a in zip(tables, answers, strict=True)])
        rewards = (answers == right).float().mean(0)
        advantages = rewards - rewards.view(4, 8).mean(1).repeat_interleave(8)
        before = logits.detach().log_softmax(-1)
        for _ in range(2):
            optimizer.zero_grad()
            now = logits.log_softmax(-1)
            inputs = LossInputs(
                *(torch.cat([table[turn, questions, answers[turn]] for turn in (0, 1)]) for table in (now, before)),
                sampling.flatten(),
                advantages.repeat(2),
                torch.arange(32).repeat(2),
                tokens=64,
                rollouts=32,
                most_tokens=2,
                clip=CLIPS.get(name, Clip()),
            )
            ALGORITHMS[name].loss(inputs).loss.backward()
            optimizer.step()
        policies.append(logits.detach().clone())
    chances = logits.detach().softmax(-1)
    found = torch.stack([chances[turn, range(4), right[turn].view(4, 8)[:, 0]] for turn in (0, 1)])
    assert float(found.mean()) > 0.75, found
