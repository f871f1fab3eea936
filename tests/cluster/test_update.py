"""The update of two ranks is that of one."""

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.distributed.tensor import DTensor

from agentrft.job.checkpoint import save_weights
from agentrft.learner import Learner, TrainingGroup, TrainingRow, UpdateMetrics, UpdateOptions
from agentrft.models.forward import TransformersForward
from tests.cluster.pairs import TwoRanks, assert_close, assert_same_numbers, gradients, save, two_ranks
from tests.learner.rows import group_of_depth_three, on_policy_group, row
from tests.tiny_model import VOCABULARY, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model("llama_tied"), tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module", params=["adapters", "all weights", "adapters on a divided model"])
def both(request: pytest.FixtureRequest, folder: Path) -> Iterator[TwoRanks]:
    lora_rank = None if request.param == "all weights" else 4
    with two_ranks(folder, lora_rank, shards_base="divided" in request.param) as ranks:
        yield ranks


def some_groups(count: int = 5) -> list[TrainingGroup]:
    """Of two to five rollouts, near the policy that they are computed with, and a deep one."""
    model = tiny_model("llama_tied").plain
    rewards = [[1.0, 0.0], [0.0, 1.0, 0.5], [1.0, 0.0, 0.0, 0.2], [0.3, 0.9, 0.1, 0.0, 1.0]]
    groups = [on_policy_group(model, rewards[index % 4], seed=index) for index in range(count - 1)]
    deep = group_of_depth_three(shared_results=False)
    return [*groups, TrainingGroup(deep, [1.0, 0.0, 0.5, 0.5, 0.2, 1.0, 0.0, 0.9])]


def replayed(count: int = 3) -> list[TrainingRow]:
    draw = random.Random(5)
    return [row([(False, [1, 2, 3]), (True, draw.choices(range(VOCABULARY), k=4 + n))], 0) for n in range(count)]


def update(learner: Learner, groups: list[TrainingGroup], replay: list[TrainingRow] | None = None) -> UpdateMetrics:
    return learner.update(learner.plan(groups, replay or []))


CASES: dict[str, tuple[dict[str, Any], list[TrainingGroup], list[TrainingRow]]] = {
    "uneven groups": ({}, some_groups(), []),
    "small passes": ({"max_tokens_per_pass": 40}, some_groups(), []),
    "a rank without groups": ({}, some_groups(1), []),
    "replay": ({"options": UpdateOptions(replay_weight=0.5)}, some_groups(3), replayed()),
    "replay alone": ({"options": UpdateOptions(replay_weight=0.5)}, [], replayed(1)),
    "lessons": (
        {"options": UpdateOptions(replay_weight=0.5)},
        [replace(group, lessons=replayed(1)) for group in some_groups(3)],
        [],
    ),
    "KL to the start": ({"options": UpdateOptions(kl_weight=0.1)}, some_groups(), []),
    "by rollout": ({"algorithm": "gspo"}, some_groups(), []),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_and_metrics_of_two_ranks_are_those_of_one(both: TwoRanks, case: str) -> None:
    settings, groups, replay = CASES[case]
    ranked, alone = both.learner(**settings), both.alone(**settings)
    for learner in (ranked, alone):
        if "KL" in case:
            learner.keep_start({name: master * 0.9 for name, master in both.begin.items()})
    found, expected = (update(learner, groups, replay) for learner in (ranked, alone))
    assert_close(gradients(ranked), gradients(alone))
    assert_same_numbers(found, expected)
    assert expected.grad_norm > 0 and ranked.policy.version >= 1
    for number, seen in expected.seen.items():
        torch.testing.assert_close(found.seen[number].entropy, seen.entropy, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sampled_by", ["the policy", "another policy"])
def test_minibatches_and_epochs_of_two_ranks_are_those_of_one(both: TwoRanks, sampled_by: str) -> None:
    """Every optimizer step depends on those before it, and on what the first one has shown of the engine."""
    groups = some_groups()[: 4 if sampled_by == "the policy" else 5]
    settings = {"options": UpdateOptions(minibatches=3, epochs=2, replay_weight=0.1), "learning_rate": 3e-3}
    ranked, alone = both.learner(**settings), both.alone(**settings)
    for _ in range(2):
        found, expected = (update(learner, groups, replayed()) for learner in (ranked, alone))
        assert expected.optimizer_steps == 6 and expected.policy_change is not None
        assert_same_numbers(found, expected, relative=2e-3, absolute=1e-5)
    found_masters, masters = (list(one.policy.master_state().values()) for one in (ranked, alone))
    moved = [master - begun for master, begun in zip(masters, both.begin.values(), strict=True)]
    for one, other, change in zip(found_masters, masters, moved, strict=True):
        assert float((one - other).norm()) <= 1e-2 * float(change.norm()) + 1e-7


def test_demonstrations_are_learned_together(both: TwoRanks) -> None:
    rows = [replace(one, rollout=index) for index, one in enumerate(replayed(5))]
    ranked, alone = both.learner(), both.alone()
    found, expected = ranked.supervised_update(rows), alone.supervised_update(rows)
    assert (found.loss, found.accuracy) == pytest.approx((expected.loss, expected.accuracy), rel=1e-5)
    assert found.tokens == expected.tokens
    assert_close(gradients(ranked), gradients(alone))


def test_log_probabilities_are_asked_of_the_first_rank(both: TwoRanks) -> None:
    rows = replayed(4)
    found, expected = both.learner().logprobs(rows), both.alone().logprobs(rows)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_what_moves_to_two_ranks_and_back_goes_on_as_on_one(both: TwoRanks) -> None:
    groups = some_groups()
    # One rank all the way, and one that becomes two after its first update, and one again after the second.
    through, moving = both.alone(), both.alone()
    for learner in (through, moving):
        update(learner, groups)
    ranked = both.learner()
    ranked.load_state(moving.state())
    for learner in (through, ranked):
        update(learner, groups)
    back = both.alone()
    back.load_state(ranked.state())
    assert back.policy.version == through.policy.version == 2
    found, expected = update(back, groups), update(through, groups)
    assert_same_numbers(found, expected, absolute=1e-6)
    moments, known = (learner.state()["optimizer"]["state"] for learner in (back, through))
    assert_close([moments[n]["exp_avg"] for n in moments], [known[n]["exp_avg"] for n in known])
    assert_close(list(back.policy.master_state().values()), list(through.policy.master_state().values()))


def test_what_an_engine_gets_and_what_is_saved_is_what_one_rank_gives(both: TwoRanks, tmp_path: Path) -> None:
    ranked, alone = both.learner(), both.alone()
    for learner in (ranked, alone):
        update(learner, some_groups())
    models = [tiny_model("llama_tied", seed=9).plain for _ in range(2)]
    saved = []
    for learner, model, name in zip((ranked, alone), models, ("ranked", "alone"), strict=True):
        learner.policy.write_to(TransformersForward(model))
        save_weights(tmp_path / name, learner.policy)
        saved.append(load_file(next((tmp_path / name).rglob("*model.safetensors"))))
    changed = adapted_or_all(both, models[1])
    for (name, one), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        if name in changed:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert changed and saved[0].keys() == saved[1].keys() and saved[0]
    for name, other in saved[1].items():
        torch.testing.assert_close(saved[0][name], other, rtol=1e-3, atol=1e-4)


def adapted_or_all(both: TwoRanks, model: nn.Module) -> set[str]:
    """The weights that an engine is given anew with each version."""
    names = {name for name, _ in model.named_parameters()}
    return names if both.lora_rank is None else {name for name in names if name.endswith("proj.weight")}


def test_a_rank_has_half_of_what_is_divided(both: TwoRanks) -> None:
    both.learner()
    divided = [weight for weight in both.policy.model.parameters() if isinstance(weight, DTensor)]
    whole = sum(weight.numel() for weight in both.policy.model.parameters() if not isinstance(weight, DTensor))
    if not both.policy.is_sharded:
        assert not divided
        return
    own, numbers = (sum(numel(weight) for weight in divided) for numel in (own_numel, DTensor.numel))
    assert 0.45 < own / numbers < 0.55
    assert whole == (0 if both.lora_rank is None else sum(master.numel() for master in both.policy.masters))


def own_numel(weight: DTensor) -> int:
    return weight.to_local().numel()
