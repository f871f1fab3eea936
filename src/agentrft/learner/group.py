"""The learner's input."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from agentrft.spec.hyperparameters import CreditBy

T = TypeVar("T")
# Rewards that lie closer together are the same.
SAME_REWARD = 1e-9


@dataclass(frozen=True)
class TrainingRow:
    """One sequence of token ids as the model saw it.

    Attributes:
        token_ids: the whole sequence, prompt first.
        sampled_positions: indices into `token_ids` of the tokens that the policy sampled; never 0.
        sampling_logprobs: their log-probabilities under the policy that sampled them, at its temperature.
        rollout: index of the row's rollout in its group. A rollout whose context forked has several rows.
        turns: which turn of its rollout each sampled token belongs to, from 0; empty where all are of one.
    """

    token_ids: list[int]
    sampled_positions: list[int]
    sampling_logprobs: list[float]
    rollout: int
    turns: list[int] = field(default_factory=list[int])

    def __post_init__(self) -> None:
        if len(self.sampled_positions) != len(self.sampling_logprobs):
            raise ValueError("sampled_positions and sampling_logprobs differ in length")
        if self.turns and len(self.turns) != len(self.sampled_positions):
            raise ValueError("turns and sampled_positions differ in length")
        if self.sampled_positions and not 0 < self.sampled_positions[0] <= self.sampled_positions[-1] < len(
            self.token_ids
        ):
            raise ValueError("sampled positions must lie inside the row, after its first token")

    @property
    def turn_of_each(self) -> list[int]:
        """The turn of each sampled token."""
        return self.turns or [0] * len(self.sampled_positions)


@dataclass(frozen=True)
class TrainingGroup:
    """The finished rollouts of one sample in one step: their rows and a reward for each rollout.

    Attributes:
        sub_scores: of each rollout, what the graders inside its grader gave, by name; empty where there are none.
        outcomes: of each rollout, "graded" or "model_failed"; empty where all were graded.
        truncated: of each rollout, whether it ended for want of tokens; empty where none did.
        lessons: rows whose sampled tokens are made more likely, beside what the rewards teach. Those that go on from a
            context of the group's own cost no more than their tokens.
    """

    rows: list[TrainingRow]
    rewards: list[float]
    sub_scores: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    outcomes: list[str] = field(default_factory=list[str])
    truncated: list[bool] = field(default_factory=list[bool])
    lessons: list[TrainingRow] = field(default_factory=list[TrainingRow])

    @property
    def rollouts(self) -> int:
        return len(self.rewards)

    @property
    def sampled_tokens(self) -> int:
        return sum(len(row.sampled_positions) for row in self.rows)

    def only(self, kept: Sequence[int]) -> "TrainingGroup":
        """The group of these rollouts alone."""
        number = {rollout: new for new, rollout in enumerate(kept)}
        rows = [replace(row, rollout=number[row.rollout]) for row in self.rows if row.rollout in number]

        def of_kept(values: list[T]) -> list[T]:
            return [values[rollout] for rollout in kept] if values else []

        return TrainingGroup(
            rows,
            of_kept(self.rewards),
            of_kept(self.sub_scores),
            of_kept(self.outcomes),
            of_kept(self.truncated),
            self.lessons,
        )


@dataclass(frozen=True)
class GroupView:
    """What an algorithm sees of a group. Tensors of tokens are over its sampled ones, row after row.

    Attributes:
        rewards: in float64, since rewards far from zero differ in their last digits alone.
        sub_scores: by name; those that every rollout has.
        outcomes: "graded" or "model_failed".
        truncated: whether the rollout ended for want of tokens.
        rollout: of each token.
        turn: of each token, within its rollout.
        node: of each token, the place that its turn began at. With `by` "observation" turns begin at the same place
            where what the agent has just read is the same (tools' results; at a first turn the prompt); else where all
            before them is, which is a node of the group's token tree.
        by: what a rollout is compared with: see `centred`.
        std_floor: no standard deviation of rewards is taken for less.
    """

    rewards: Float[Tensor, "rollouts"]
    sub_scores: dict[str, Float[Tensor, "rollouts"]]
    outcomes: list[str]
    truncated: list[bool]
    rollout: Int[Tensor, "tokens"]
    turn: Int[Tensor, "tokens"]
    node: Int[Tensor, "tokens"]
    by: CreditBy = "rollout"
    std_floor: float = 0.0

    @classmethod
    def of(cls, group: TrainingGroup, *, by: CreditBy = "rollout", std_floor: float = 0.0) -> "GroupView":
        """What is to be seen of `group`."""
        rollout = [row.rollout for row in group.rows for _ in row.sampled_positions]
        turn = [turn for row in group.rows for turn in row.turn_of_each]
        first = group.sub_scores[0] if group.sub_scores else {}
        sub_scores = {
            name: torch.tensor([scores[name] for scores in group.sub_scores], dtype=torch.float64)
            for name in first
            if all(name in scores for scores in group.sub_scores)
        }
        return cls(
            torch.tensor(group.rewards, dtype=torch.float64),
            sub_scores,
            group.outcomes or ["graded"] * group.rollouts,
            group.truncated or [False] * group.rollouts,
            torch.tensor(rollout, dtype=torch.long),
            torch.tensor(turn, dtype=torch.long),
            torch.tensor(_nodes(group, by), dtype=torch.long),
            by,
            std_floor,
        )

    def rewarded_by(self, name: str) -> "GroupView":
        """The same group with one of its sub-scores as the reward."""
        return replace(self, rewards=self.sub_scores[name])

    def centred(self, *, leave_one_out: bool = False) -> Float[Tensor, "tokens"]:
        """Each token's reward, less what is to be expected: the group's mean, or its turn's own (`by`).

        A turn is compared with what the other rollouts got that went on from the same place, and a first turn with the
        whole group. Where nobody else was, it has no advantage: whether its rollout was good or bad may be all of what
        came before, such as a search that found nothing, and an answer that is punished for that learns to guess.
        Credit by the turns that begin alike: Feng et al. 2025, "GiGPO", arXiv:2505.10978.

        Args:
            leave_one_out: the rollout's own reward is not in what it is compared with.
        """
        place = torch.zeros_like(self.node) if self.by == "rollout" else self.node
        baselines: dict[tuple[int, int], float] = {}
        here: dict[int, set[int]] = {}
        pairs = [(int(node), int(rollout)) for node, rollout in zip(place, self.rollout, strict=True)]
        for node, rollout in pairs:
            here.setdefault(node, set()).add(rollout)
        if self.by == "rollout":
            # Also those of whose tokens none was sampled.
            here = {0: set(range(len(self.rewards)))}
        for node, rollouts in here.items():
            rewards = self.rewards[sorted(rollouts)]
            total, others = float(rewards.sum()), len(rollouts) - 1
            for rollout in rollouts:
                own = float(self.rewards[rollout])
                alone = leave_one_out and others > 0
                baselines[node, rollout] = (total - own) / others if alone else total / len(rollouts)
        return self.rewards[self.rollout] - torch.tensor([baselines[pair] for pair in pairs], dtype=torch.float64)


def _nodes(group: TrainingGroup, by: CreditBy) -> list[int]:
    """The node of each sampled token."""
    known: dict[tuple[int, ...], int] = {}
    nodes: list[int] = []
    for row in group.rows:
        turn_before, node, end = None, -1, 0
        for position, turn in zip(row.sampled_positions, row.turn_of_each, strict=True):
            if turn != turn_before:
                start = end if by == "observation" and turn > 0 else 0
                place = (min(turn, 1), *row.token_ids[start:position])
                node, turn_before = known.setdefault(place, len(known)), turn
            nodes.append(node)
            end = position + 1
    return nodes
