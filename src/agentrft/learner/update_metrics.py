"""What an update says of itself."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agentrft.learner.algorithms import LossOutput
from agentrft.learner.packing import Part
from agentrft.learner.token_tree import TokenTree
from agentrft.learner.token_values import TokenValues
from agentrft.learner.tree_forward import SampledLogprobs
from agentrft.models.routing import RouterStatistics

# Of the turns of a rollout the entropies of so many are told apart; those after them count as the last of these.
TURNS_TOLD = 8


@dataclass(frozen=True)
class SeenTokens:
    """The sampled tokens of a group as an update first saw them, row after row.

    Attributes:
        entropy: of the policy where each was sampled, in nats.
        moved: by how much its log-probability had grown since training began, in nats; None where the update did not
            compute what it was then.
    """

    entropy: Float[Tensor, "tokens"]
    moved: Float[Tensor, "tokens"] | None


@dataclass(frozen=True)
class UpdateMetrics:
    """One update.

    Attributes:
        groups_trained, groups_zero_variance: the latter were skipped.
        optimizer_steps: of all minibatches and epochs.
        loss: mean over the optimizer steps.
        grad_norm: before clipping; mean over the optimizer steps.
        sampled_tokens: trained on; in each epoch again.
        unique_tokens, total_tokens: computed, and what a padded computation would have had without padding.
        passes: that the groups were packed into.
        unique_tokens_per_s, flops_per_s: of the whole update; FLOPs are those of `update_flops`.
        peak_share: `flops_per_s` as a share of what a large matrix product reaches here in the same data type.
        logprob_gap_mean, logprob_gap_max: |learner - engine| log-probability before the update; of the first minibatch
            alone where that has shown that both agree.
        entropy: mean over sampled tokens as the update first saw them, in nats.
        entropy_by_turn: the same of each turn; the last of `TURNS_TOLD` has those after it, too.
        truncated_ratio_share: of the sampled tokens, by the importance ratio against the policy that sampled them.
        clipped_share: of the tokens of all optimizer steps, by the ratio against the policy before the update.
        policy_change: how far the update moved the policy, as far as its last visit to each token saw it: the KL
            divergence from the policy before it per token, in nats, by the estimator r - 1 - log r (Schulman 2020,
            http://joschu.net/blog/kl-approx.html); None of a single optimizer step, which never sees what it did.
        kl_to_start: KL divergence from the policy that training began with, per token, in nats, as the update first saw
            it; of the first pass's groups where the loss has no need of more.
        passes_halved: how often a pass ran out of memory, so that it and all after it became smaller.
        replayed: rollouts of earlier steps that were made more likely.
        replay_loss: their mean negative log-likelihood per token, before weighting.
        router_load_max, router_unused_share: see `RouterStatistics`; 0 without experts.
        seconds: wall time.
        seen: its tokens, by the number of their planned group; not among the numbers.
    """

    groups_trained: int = 0
    groups_zero_variance: int = 0
    optimizer_steps: int = 0
    loss: float = 0.0
    grad_norm: float = 0.0
    sampled_tokens: int = 0
    unique_tokens: int = 0
    total_tokens: int = 0
    passes: int = 0
    logprob_gap_mean: float = 0.0
    logprob_gap_max: float = 0.0
    entropy: float = 0.0
    entropy_by_turn: list[float] = field(default_factory=list[float])
    truncated_ratio_share: float = 0.0
    clipped_share: float = 0.0
    policy_change: float | None = None
    kl_to_start: float = 0.0
    passes_halved: int = 0
    replayed: int = 0
    replay_loss: float = 0.0
    router_load_max: float = 0.0
    router_unused_share: float = 0.0
    unique_tokens_per_s: float = 0.0
    flops_per_s: float = 0.0
    peak_share: float = 0.0
    seconds: float = 0.0
    seen: Mapping[int, SeenTokens] = field(default_factory=dict[int, SeenTokens], repr=False)

    def as_dict(self) -> dict[str, Any]:
        """The numbers."""
        numbers = asdict(replace(self, seen={}))
        del numbers["seen"]
        return numbers


# Of `Totals`: what ranks add up, and what each knows of tokens of its own.
_SUMS = (
    *("loss", "gap_tokens", "tokens", "unique_tokens", "total_tokens", "passes", "flops", "gap", "truncated"),
    *("clipped", "replayed", "replay_loss", "replay_tokens"),
)
_OF_TOKENS = ("change", "entropies", "moved", "divergence")


@dataclass
class Totals:
    """Sums over the passes of an update.

    Attributes:
        change: of each token, its divergence from the policy before the update as it was last seen.
        entropies, moved: of each token as it was first seen; see `SeenTokens`.
        divergence: of each token from the start, as it was first seen.
    """

    loss: float = 0.0
    grad_norm: float = 0.0
    optimizer_steps: int = 0
    gap_tokens: int = 0
    tokens: int = 0
    unique_tokens: int = 0
    total_tokens: int = 0
    passes: int = 0
    flops: float = 0.0
    gap: float = 0.0
    gap_max: float = 0.0
    entropy: dict[int, float] = field(default_factory=lambda: defaultdict(float))
    tokens_of_turn: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    truncated: int = 0
    clipped: int = 0
    change: TokenValues = field(default_factory=TokenValues)
    entropies: TokenValues = field(default_factory=TokenValues)
    moved: TokenValues = field(default_factory=TokenValues)
    divergence: TokenValues = field(default_factory=TokenValues)
    replayed: int = 0
    replay_loss: float = 0.0
    replay_tokens: int = 0

    def add_gap(self, sampled: SampledLogprobs) -> None:
        """Of tokens as they were under the policy before the update."""
        gap = (sampled.logprobs.detach() - sampled.sampling_logprobs).abs()
        self.gap_tokens += len(gap)
        self.gap += float(gap.sum())
        self.gap_max = max(self.gap_max, float(gap.max()))

    def add_entropy(self, pack: Sequence[Part], sampled: SampledLogprobs) -> None:
        """Of the tokens of a pass as the update first saw them."""
        self.entropies.put(pack, sampled.entropy)
        turns = sampled.turn.clamp(max=TURNS_TOLD - 1)
        sums = torch.zeros(TURNS_TOLD, device=turns.device).index_add_(0, turns, sampled.entropy)
        for turn, (total, count) in enumerate(zip(sums.tolist(), turns.bincount().tolist(), strict=False)):
            self.entropy[turn] += total
            self.tokens_of_turn[turn] += count

    def add_loss(self, loss: float, output: LossOutput, tokens: int) -> None:
        self.loss += loss
        self.tokens += tokens
        self.truncated += output.truncated_tokens
        self.clipped += output.clipped_tokens

    def add_divergence(self, pack: Sequence[Part], divergence: Tensor) -> None:
        """Of the tokens of a pass from the start; what is seen of them first counts."""
        if not self.divergence.knows(pack):
            self.divergence.put(pack, divergence)

    def add_replay(self, rollouts: int, loss: float, tokens: int) -> None:
        self.replayed += rollouts
        self.replay_loss += loss
        self.replay_tokens += tokens

    def add_tree(self, tree: TokenTree, flops: float) -> None:
        self.unique_tokens += tree.unique_tokens
        self.total_tokens += tree.total_tokens
        self.flops += flops
        self.passes += 1

    def with_others(self, others: Sequence["Totals"]) -> "Totals":
        """Of all ranks, which have taken the same optimizer steps; tensors on the CPU."""
        everyone = (self, *others)

        def total(name: str) -> Any:
            return sum(getattr(one, name) for one in everyone)

        def by_turn(name: str) -> Any:
            sums: dict[int, Any] = defaultdict(int)
            for one in everyone:
                for turn, value in getattr(one, name).items():
                    sums[turn] += value
            return sums

        return Totals(
            grad_norm=self.grad_norm,
            optimizer_steps=self.optimizer_steps,
            gap_max=max(one.gap_max for one in everyone),
            **{name: total(name) for name in _SUMS},
            **{name: by_turn(name) for name in ("entropy", "tokens_of_turn")},
            **{name: getattr(self, name).with_others(getattr(one, name) for one in others) for name in _OF_TOKENS},
        )

    def metrics(self, trained: int, skipped: int, seconds: float) -> UpdateMetrics:
        trained_on, steps = max(1, self.tokens), max(1, self.optimizer_steps)
        seen = max(1, sum(self.tokens_of_turn.values()))
        return UpdateMetrics(
            groups_trained=trained,
            groups_zero_variance=skipped,
            optimizer_steps=self.optimizer_steps,
            loss=self.loss / steps,
            grad_norm=self.grad_norm / steps,
            sampled_tokens=self.tokens,
            unique_tokens=self.unique_tokens,
            total_tokens=self.total_tokens,
            passes=self.passes,
            unique_tokens_per_s=self.unique_tokens / seconds,
            flops_per_s=self.flops / seconds,
            logprob_gap_mean=self.gap / max(1, self.gap_tokens),
            logprob_gap_max=self.gap_max,
            entropy=sum(self.entropy.values()) / seen,
            entropy_by_turn=[self.entropy[turn] / max(1, count) for turn, count in sorted(self.tokens_of_turn.items())],
            truncated_ratio_share=self.truncated / trained_on,
            clipped_share=self.clipped / trained_on,
            # One optimizer step is over before any token is seen again.
            policy_change=self.change.mean() if self.optimizer_steps > 1 else None,
            kl_to_start=self.divergence.mean(),
            replayed=self.replayed,
            replay_loss=self.replay_loss / max(1, self.replay_tokens),
            seconds=seconds,
            seen={number: self._seen(number, entropy) for number, entropy in self.entropies.groups()},
        )

    def _seen(self, number: int, entropy: Tensor) -> SeenTokens:
        moved = self.moved.get(number)
        return SeenTokens(entropy.cpu(), None if moved is None else moved.cpu())


@dataclass(frozen=True)
class UpdateFindings:
    """What one rank has found in an update, or all of them together.

    Attributes:
        routing: see `RouterStatistics`.
        passes_halved: see `UpdateMetrics`.
    """

    totals: Totals
    routing: RouterStatistics
    passes_halved: int

    def with_others(self, others: Sequence["UpdateFindings"]) -> "UpdateFindings":
        """What all ranks have found; tensors on the CPU."""
        return UpdateFindings(
            self.totals.with_others([other.totals for other in others]),
            sum((other.routing for other in others), start=self.routing),
            sum((other.passes_halved for other in others), start=self.passes_halved),
        )
