"""Updates towards what is known to be good: demonstrations, and the better of two answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agentrft.learner.group import TrainingRow
from agentrft.learner.optimizer import PolicyOptimizer
from agentrft.learner.packing import packs_of, rows_by_pass, rows_together
from agentrft.learner.preferences import Pair, PreferenceMetrics, preference_losses


@dataclass(frozen=True)
class Likelihood:
    """How likely the tokens of demonstrations are.

    Attributes:
        loss: their mean negative log-likelihood, in nats.
        accuracy: share of them that no other token was likelier than.
        tokens: how many.
    """

    loss: float
    accuracy: float
    tokens: int


class SupervisedLearner(PolicyOptimizer):
    """Learns from demonstrations and from preferences; both as they are sampled at temperature 1."""

    def supervised_update(self, rows: Sequence[TrainingRow]) -> Likelihood:
        """One update towards demonstrations; returns how likely they were before it, those of all ranks.

        Raises:
            JobFailedError: as for `update`.
        """
        tokens = self._tokens(rows)
        loss, hits = self._within_memory(lambda: self._likelihood(rows, tokens, learn=True))
        self._step(loss, f"update {self._updates + 1}")
        self._count()
        loss, hits = self._collective.total(loss, hits)
        return Likelihood(loss, hits / tokens, tokens)

    @torch.no_grad()
    def likelihood(self, rows: Sequence[TrainingRow]) -> Likelihood:
        """How likely the policy makes these."""
        tokens = self._tokens(rows)
        loss, hits = self._within_memory(lambda: self._likelihood(rows, tokens, learn=False))
        loss, hits = self._collective.total(loss, hits)
        return Likelihood(loss, hits / tokens, tokens)

    def _tokens(self, rows: Sequence[TrainingRow]) -> int:
        """Sampled ones of the rows of all ranks."""
        return int(self._collective.total(sum(len(row.sampled_positions) for row in rows))[0])

    def _likelihood(self, rows: Sequence[TrainingRow], tokens: int, *, learn: bool) -> tuple[float, int]:
        """This rank's share of the loss, and how many of its tokens no other token was likelier than."""
        loss, hits = 0.0, 0
        for some in self._passes(rows_by_pass(rows, self.max_tokens)):
            _, sampled = self._computed(some, temperature=1.0, parts=len(some))
            of_pass = -sampled.logprobs.sum() / tokens
            if learn:
                of_pass.backward()
            loss += float(of_pass.detach())
            hits += int(sampled.is_likeliest.sum())
        return loss, hits

    def preference_update(
        self, pairs: Sequence[Pair], reference: Sequence[tuple[float, float]], beta: float
    ) -> PreferenceMetrics:
        """One update towards preferences; returns what was seen before it.

        Args:
            reference: of each pair, what `answer_logprobs` gave under the policy that training began with.
            beta: see `preference_losses`.

        Raises:
            JobFailedError: as for `update`.
        """
        found = self._within_memory(lambda: self._preference(pairs, reference, beta, learn=True))
        self._step(found.loss, f"update {self._updates + 1}")
        self._count()
        return found

    @torch.no_grad()
    def preference(
        self, pairs: Sequence[Pair], reference: Sequence[tuple[float, float]], beta: float
    ) -> PreferenceMetrics:
        """What `preference_update` returns, without an update."""
        return self._within_memory(lambda: self._preference(pairs, reference, beta, learn=False))

    @torch.no_grad()
    def answer_logprobs(self, pairs: Sequence[Pair]) -> list[tuple[float, float]]:
        """Log-probability of each pair's preferred answer and of the other under the policy that training began with:
        `keep_start` has told it."""
        if self._start is None:
            raise RuntimeError("the policy that training began with was not kept")
        with self.policy.holding(self._start):
            known = self._within_memory(lambda: list(self._answers(pairs)))
        found: dict[int, tuple[float, float]] = {}
        for numbers, sums in known:
            found |= {number: (float(a), float(b)) for number, (a, b) in zip(numbers, sums, strict=True)}
        return [found[number] for number in range(len(pairs))]

    def _answers(self, pairs: Sequence[Pair]) -> Iterator[tuple[list[int], Tensor]]:
        """Pass by pass: the pairs' numbers, and the log-probabilities of their answers of shape [pairs, 2]."""
        number = {id(pair): index for index, pair in enumerate(pairs)}
        for pack in packs_of(pairs, self.max_tokens):
            rows = rows_together(pack)
            _, sampled = self._computed(rows, temperature=1.0, parts=len(pack))
            sums = torch.zeros(2 * len(pack), device=sampled.logprobs.device)
            yield [number[id(pair)] for pair in pack], sums.index_add(0, sampled.rollout, sampled.logprobs).view(-1, 2)

    def _preference(
        self, pairs: Sequence[Pair], reference: Sequence[tuple[float, float]], beta: float, *, learn: bool
    ) -> PreferenceMetrics:
        loss, raised, rewards = 0.0, 0, torch.zeros(2)
        for numbers, sums in self._answers(pairs):
            gained = sums - torch.tensor([reference[number] for number in numbers], device=sums.device)
            of_pass = preference_losses(gained[:, 0], gained[:, 1], beta).sum() / len(pairs)
            if learn:
                of_pass.backward()
            loss += float(of_pass.detach())
            raised += int((gained[:, 0] > gained[:, 1]).sum())
            rewards += beta * gained.detach().sum(0).cpu() / len(pairs)
        better, worse = float(rewards[0]), float(rewards[1])
        tokens = sum(pair.tokens for pair in pairs)
        return PreferenceMetrics(loss, raised / len(pairs), better - worse, better, worse, tokens)
