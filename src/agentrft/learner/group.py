"""The learner's input."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

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
    """

    rows: list[TrainingRow]
    rewards: list[float]
    sub_scores: list[dict[str, float]] = field(default_factory=list[dict[str, float]])
    outcomes: list[str] = field(default_factory=list[str])
    truncated: list[bool] = field(default_factory=list[bool])

    @property
    def rollouts(self) -> int:
        return len(self.rewards)

    @property
    def sampled_tokens(self) -> int:
        return sum(len(row.sampled_positions) for row in self.rows)

    @property
    def has_variance(self) -> bool:
        """Whether the rewards differ."""
        return max(self.rewards) - min(self.rewards) > SAME_REWARD


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
        node: of each token, the context that its turn began with: a node of the group's token tree. Turns of two
            rollouts have the same where all before them is the same.
        parent: of each node, the one that its rollout's turn before began with; -1 at a first turn.
        by_turn: whether what other rollouts got from the same node on is what a turn is compared with.
        std_floor: no standard deviation of rewards is taken for less.
    """

    rewards: Float[Tensor, "rollouts"]
    sub_scores: dict[str, Float[Tensor, "rollouts"]]
    outcomes: list[str]
    truncated: list[bool]
    rollout: Int[Tensor, "tokens"]
    turn: Int[Tensor, "tokens"]
    node: Int[Tensor, "tokens"]
    parent: list[int]
    by_turn: bool = False
    std_floor: float = 0.0

    @classmethod
    def of(cls, group: TrainingGroup, *, by_turn: bool = False, std_floor: float = 0.0) -> "GroupView":
        """What is to be seen of `group`."""
        rollout = [row.rollout for row in group.rows for _ in row.sampled_positions]
        turn = [turn for row in group.rows for turn in row.turn_of_each]
        node, parent = _nodes(group)
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
            torch.tensor(node, dtype=torch.long),
            parent,
            by_turn,
            std_floor,
        )

    def rewarded_by(self, name: str) -> "GroupView":
        """The same group with one of its sub-scores as the reward."""
        return replace(self, rewards=self.sub_scores[name])

    def centred(self) -> Float[Tensor, "tokens"]:
        """Each token's reward, less what is to be expected: the group's mean, or its turn's own (`by_turn`).

        The latter is what the other rollouts got that went on from the same context, and where these are few, to the
        same degree what those of the context before it got. A rollout's own reward is in neither, so that the
        expectation does not depend on what the turn samples (a baseline, as in Kool et al. 2019, "Buy 4 REINFORCE
        samples, get a baseline for free!"); at the prompt both ways are the same.
        """
        if not self.by_turn or len(self.rewards) < 2:
            return (self.rewards - self.rewards.mean())[self.rollout]
        count = len(self.rewards)
        nodes, rollouts = [int(node) for node in self.node], [int(rollout) for rollout in self.rollout]
        through: dict[int, set[int]] = {}
        for node, rollout in set(zip(nodes, rollouts, strict=True)):
            while node >= 0:
                through.setdefault(node, set()).add(rollout)
                node = self.parent[node]
        others = (self.rewards.sum() - self.rewards) / (count - 1)
        expected: dict[tuple[int, int], float] = {}

        def expectation(node: int, rollout: int) -> float:
            known = expected.get((node, rollout))
            if known is None:
                if self.parent[node] < 0:
                    known = float(others[rollout])
                else:
                    own = [float(self.rewards[other]) for other in through[node] if other != rollout]
                    before = expectation(self.parent[node], rollout)
                    known = (sum(own) + before) / (len(own) + 1)
                expected[node, rollout] = known
            return known

        pairs = zip(nodes, rollouts, strict=True)
        baseline = torch.tensor([expectation(node, rollout) for node, rollout in pairs], dtype=torch.float64)
        # As the mean with a rollout's own reward in it would make them.
        return (self.rewards[self.rollout] - baseline) * (count - 1) / count


def _nodes(group: TrainingGroup) -> tuple[list[int], list[int]]:
    """The node of each sampled token, and the parent of each node."""
    known: dict[tuple[int, ...], int] = {}
    parent: list[int] = []
    nodes: list[int] = []
    last: dict[int, int] = {}
    for row in group.rows:
        turn_before, node = None, -1
        for position, turn in zip(row.sampled_positions, row.turn_of_each, strict=True):
            if turn != turn_before:
                context = tuple(row.token_ids[:position])
                if context not in known:
                    known[context] = len(parent)
                    parent.append(last.get(row.rollout, -1))
                node, turn_before = known[context], turn
                last[row.rollout] = node
            nodes.append(node)
    return nodes, parent
