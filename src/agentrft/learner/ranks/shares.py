"""The plan of an update, as one plan for each rank.

A group is whole on one rank, and on the same one in every epoch: that rank knows its tokens' log-probabilities before
the update, and counts it in the metrics. So groups are balanced in the minibatch that each is first seen in, which in
an update of one epoch is every minibatch; those of later epochs, shuffled anew, are as even as chance makes them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from agentrft.learner.flops import update_flops
from agentrft.learner.group import TrainingRow
from agentrft.learner.plan import Minibatch, UpdatePlan
from agentrft.learner.ranks.balance import shared_out
from agentrft.learner.token_tree import build_token_tree
from agentrft.models.costs import PassCosts

Flops = Callable[[Sequence[TrainingRow]], float]


def tree_flops(costs: PassCosts, *, all_weights: bool) -> Flops:
    """What gives the FLOPs of an update over the token tree of some rows."""

    def flops(rows: Sequence[TrainingRow]) -> float:
        tree = build_token_tree(rows)
        predicting = {
            layout[position - 1]
            for row, layout in zip(rows, tree.row_layout, strict=True)
            for position in row.sampled_positions
        }
        return update_flops(costs, tree, len(predicting), all_weights=all_weights)

    return flops


def shares_of(plan: UpdatePlan, ranks: int, flops: Flops) -> list[UpdatePlan]:
    """A plan for each rank: minibatches as many as the plan's, each with some of its groups and of its replayed
    rollouts, or none, and with the sizes of the whole one, so that losses of all ranks add up to its loss."""
    cost_of = {group.number: flops([*group.rows, *group.lessons]) for group in plan.groups}
    owner: dict[int, int] = {}
    parts: list[list[Minibatch]] = [[] for _ in range(ranks)]
    for minibatch in plan.minibatches:
        new = [group for group in minibatch.groups if group.number not in owner]
        loads = [0.0] * ranks
        for group in minibatch.groups:
            if group.number in owner:
                loads[owner[group.number]] += cost_of[group.number]
        for rank, places in enumerate(shared_out([cost_of[group.number] for group in new], loads)):
            owner |= {new[place].number: rank for place in places}
            loads[rank] += sum(cost_of[new[place].number] for place in places)
        replayed = shared_out([flops([row]) for row in minibatch.replay], loads)
        for rank, places in enumerate(replayed):
            groups = [group for group in minibatch.groups if owner[group.number] == rank]
            own = Minibatch(groups, [minibatch.replay[place] for place in places], whole=minibatch.size)
            parts[rank].append(own)
    return [
        replace(plan, groups=[group for group in plan.groups if owner.get(group.number) == rank], minibatches=own)
        for rank, own in enumerate(parts)
    ]


def rows_by_rank(rows: Sequence[TrainingRow], ranks: int, flops: Flops) -> list[list[TrainingRow]]:
    """Rows of their own, such as demonstrations, by rank."""
    shares = shared_out([flops([row]) for row in rows], [0.0] * ranks)
    return [[rows[place] for place in places] for places in shares]
