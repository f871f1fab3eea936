"""Updates whose passes memory does not hold: groups computed in parts, and passes that fail and are halved."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.errors import JobFailedError
from agentrft.learner import Learner, Policy, TrainingGroup, TrainingRow, UpdateOptions
from agentrft.learner.algorithms import ALGORITHMS
from agentrft.learner.packing import parts_of
from agentrft.learner.plan import PlannedGroup
from agentrft.learner.preferences import Pair
from agentrft.learner.token_tree import build_token_tree
from agentrft.models.memory import is_out_of_memory
from tests.learner.rows import on_policy_group, row
from tests.tiny_model import tiny_model

ROLLOUTS = 8


def branching_group(seed: int = 0) -> TrainingGroup:
    """Eight rollouts behind one prompt: four make the first call, four the second, and each then goes its own way; the
    last forks into a row more, and one has a lesson."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(count: int) -> list[int]:
        return torch.randint(20, 300, (count,), generator=generator).tolist()

    prompt, calls, results = tokens(12), [tokens(5), tokens(5)], [tokens(9), tokens(9)]
    rows = [
        row([(False, prompt), (True, calls[index % 2]), (False, results[index % 2]), (True, tokens(4 + index))], index)
        for index in range(ROLLOUTS)
    ]
    rows.append(row([(False, tokens(10)), (True, tokens(6))], ROLLOUTS - 1))
    lesson = row([(False, [*prompt, *calls[1], *results[1]]), (True, tokens(3))], 0)
    return TrainingGroup(rows, [float(index % 3) for index in range(ROLLOUTS)], lessons=[lesson])


def learner(algorithm: str = "grpo", *, learning_rate: float = 1e-3, **options: Any) -> Learner:
    policy = Policy(tiny_model("llama").planned, lora_rank=4, seed=0)
    found = Learner(
        policy,
        algorithm=algorithm,
        learning_rate=learning_rate,
        temperature=1.0,
        max_grad_norm=1.0,
        options=UpdateOptions(replay_weight=0.5, **options),
    )
    found.keep_start(policy.master_state())
    return found


def gradients(found: Learner, groups: list[TrainingGroup]) -> list[Tensor]:
    """Of an update, as its optimizer gets them, before they are clipped."""
    seen: list[Tensor] = []
    step = found._step

    def noted(loss: float, where: str) -> float:
        seen.extend(master.grad.clone() for master in found.policy.masters if master.grad is not None)
        return step(loss, where)

    found._step = noted  # type: ignore[method-assign]
    found.update(found.plan(groups))
    return seen


def planned(group: TrainingGroup) -> PlannedGroup:
    tokens = group.sampled_tokens
    return PlannedGroup(0, group.rows, group.rollouts, torch.arange(tokens, dtype=torch.float32), group.lessons)


@pytest.mark.parametrize("most_tokens", [1, 60, 75, 90, 110, 10_000])
def test_parts_have_every_token_once_and_stay_within_their_size_or_are_one_rollout(most_tokens: int) -> None:
    group = planned(branching_group())
    parts = parts_of(group, most_tokens)
    tokens = torch.cat([part.tokens for part in parts])
    assert sorted(tokens.tolist()) == list(range(len(group.advantages)))
    for part in parts:
        at = [place for row in part.rows for place in _places(group, row)]
        assert part.tokens.tolist() == at and torch.equal(part.advantages, group.advantages[part.tokens])
        size = build_token_tree(part.rows).unique_tokens
        assert size <= most_tokens or len({row.rollout for row in part.rows}) == 1
    of_rollout = [{row.rollout for row in part.rows} for part in parts]
    assert sum(map(len, of_rollout)) == ROLLOUTS, "no rollout is in two parts"
    assert [lesson for part in parts for lesson in part.lessons] == group.lessons
    assert (len(parts) == 1) == (most_tokens == 10_000)


def _places(group: PlannedGroup, row: TrainingRow) -> range:
    start = 0
    for own in group.rows:
        if own is row:
            return range(start, start + len(own.sampled_positions))
        start += len(own.sampled_positions)
    raise AssertionError("of another group")


def test_a_group_is_divided_at_its_branches() -> None:
    group = planned(branching_group())
    half = max(
        build_token_tree([row for row in group.rows if row.rollout % 2 == side]).unique_tokens for side in range(2)
    )
    parts = parts_of(group, half)
    assert sorted(sorted({row.rollout % 2 for row in part.rows}) for part in parts) == [[0], [1]]
    (taught,) = (part for part in parts if part.lessons)
    assert {row.rollout % 2 for row in taught.rows} == {1}, "a lesson is where its context is"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_group_in_parts_gives_the_gradients_of_the_whole(algorithm: str) -> None:
    groups = [branching_group(seed) for seed in range(2)]
    whole = gradients(learner(algorithm, kl_weight=0.1), groups)
    for most_tokens in (1, 75, 110):
        divided = learner(algorithm, kl_weight=0.1)
        divided.limit_passes(most_tokens)
        assert_alike(gradients(divided, groups), whole)


def assert_alike(one: list[Tensor], other: list[Tensor]) -> None:
    """To 1e-6, where the largest are a million times that."""
    assert max(float(part.abs().max()) for part in other) > 0.1 and len(one) == len(other)
    for left, right in zip(one, other, strict=True):
        assert float((left - right).abs().max()) <= 1e-6


def short_of_memory(found: Learner, tokens: int, kind: Callable[[str], Exception] = torch.OutOfMemoryError) -> None:
    """Passes of more tokens fail; every second time only in their backward pass, when gradients have been added to."""
    trunk, count = found.policy.forward.trunk, iter(range(1000))

    def limited(ids: Tensor, *args: Any, **options: Any) -> Tensor:
        kept = trunk(ids, *args, **options)
        if len(ids) <= tokens:
            return kept
        if next(count) % 2 == 0:
            raise kind("DefaultCPUAllocator: can't allocate memory")

        def fail(_: Tensor) -> Tensor:
            for master in found.policy.masters:
                master.grad.add_(1.0)  # type: ignore[union-attr]
            raise kind("DefaultCPUAllocator: can't allocate memory")

        if kept.requires_grad:
            kept.register_hook(fail)
        return kept

    found.policy.forward.trunk = limited  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_pass_that_runs_out_of_memory_is_halved_and_ends_with_the_same_gradients(
    kind: Callable[[str], Exception], minibatches: int
) -> None:
    groups = [branching_group(seed) for seed in range(3)]
    # A learning rate that leaves the policy as it is: Adam's steps hang on the signs of gradients that are nearly 0.
    options: dict[str, Any] = {"minibatches": minibatches, "epochs": minibatches, "learning_rate": 1e-9}
    whole, limited = gradients(learner(**options), groups), learner(**options)
    short_of_memory(limited, 80, kind)
    assert_alike(gradients(limited, groups), whole)
    assert limited.passes_halved > 0 and limited.most_tokens <= 80


def test_what_an_update_tells_does_not_depend_on_passes_that_failed() -> None:
    groups = [branching_group(seed) for seed in range(3)]
    whole, limited = learner(kl_weight=0.1), learner(kl_weight=0.1)
    short_of_memory(limited, 80)
    told, expected = (one.update(one.plan(groups)) for one in (limited, whole))
    for name in ("sampled_tokens", "groups_trained", "optimizer_steps", "replayed", "truncated_ratio_share"):
        assert getattr(told, name) == getattr(expected, name)
    for name in ("loss", "grad_norm", "entropy", "logprob_gap_mean", "logprob_gap_max", "kl_to_start", "replay_loss"):
        assert getattr(told, name) == pytest.approx(getattr(expected, name), rel=1e-4, abs=1e-6)
    assert told.entropy_by_turn == pytest.approx(expected.entropy_by_turn, rel=1e-4)
    for number, tokens in expected.seen.items():
        assert torch.allclose(told.seen[number].entropy, tokens.entropy, atol=1e-5)
    assert expected.passes_halved == 0


def test_later_updates_begin_with_the_smaller_passes() -> None:
    limited = learner()
    short_of_memory(limited, 80)
    first, second = (limited.update(limited.plan([branching_group(seed)])) for seed in range(2))
    assert first.passes_halved > 0 and second.passes_halved == 0


def test_a_rollout_that_memory_cannot_hold_is_told_and_leaves_the_policy_as_it_was() -> None:
    limited = learner()
    before = [master.detach().clone() for master in limited.policy.masters]
    short_of_memory(limited, 10)
    with pytest.raises(JobFailedError, match="no room for one rollout, of 53 tokens") as caught:
        limited.update(limited.plan([branching_group()]))
    assert "max_context_tokens" in caught.value.remedy
    assert all(torch.equal(one, other) for one, other in zip(before, limited.policy.masters, strict=True))
    assert all(not master.grad.any() for master in limited.policy.masters if master.grad is not None)


def test_other_errors_stay_what_they_are() -> None:
    broken = learner()

    def trunk(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("shapes differ")

    broken.policy.forward.trunk = trunk  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="shapes differ"):
        broken.update(broken.plan([branching_group()]))


def test_demonstrations_and_preferences_are_divided_too() -> None:
    rows = branching_group().rows
    whole, limited = learner(), learner()
    short_of_memory(limited, 60)
    expected, found = (one.supervised_update(rows) for one in (whole, limited))
    assert found.loss == pytest.approx(expected.loss, rel=1e-5) and limited.passes_halved > 0
    for left, right in zip(limited.policy.masters, whole.policy.masters, strict=True):
        assert torch.allclose(left, right, atol=1e-6)
    pairs = [Pair([rows[place]], [rows[place + 2]]) for place in (0, 1, 4, 5)]
    whole, limited = learner(), learner()
    short_of_memory(limited, 60)
    reference = whole.answer_logprobs(pairs)
    assert limited.answer_logprobs(pairs) == [pytest.approx(pair, abs=1e-4) for pair in reference]
    told, wanted = limited.preference_update(pairs, reference, 0.1), whole.preference_update(pairs, reference, 0.1)
    assert told.loss == pytest.approx(wanted.loss, rel=1e-5)
    for left, right in zip(limited.policy.masters, whole.policy.masters, strict=True):
        assert torch.allclose(left, right, atol=1e-6)


def test_a_pair_that_memory_cannot_hold_is_told() -> None:
    rows = branching_group().rows
    limited = learner()
    short_of_memory(limited, 20)
    with pytest.raises(JobFailedError, match="no room"):
        limited.preference_update([Pair([rows[0]], [rows[2]])], [(0.0, 0.0)], 0.1)


LIMITED = """
import resource
import torch
torch.set_num_threads(1)
from agentrft.errors import JobFailedError
from agentrft.learner import TrainingGroup
from tests.learner.rows import row
from tests.learner.test_memory import branching_group, learner
tokens = torch.randint(20, 300, (4, 1500)).tolist()
rows = [row([(False, [1]), (True, own)], index) for index, own in enumerate(tokens)]
group = TrainingGroup(rows, [0.0, 1.0, 0.0, 2.0])
found = learner()
found.update(found.plan([branching_group()]))  # whatever is set up once
with open("/proc/self/statm") as file:
    limit = int(file.read().split()[0]) * resource.getpagesize()
halved = None
while halved is None:
    limit += 20 * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    found = learner()
    try:
        halved = found.update(found.plan([group])).passes_halved
    except JobFailedError as error:
        assert "no room for one rollout" in str(error)
resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
found = learner()
print(halved, found.update(found.plan([group])).passes_halved)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not hold a process to its address space")
def test_where_memory_holds_one_rollout_and_no_group_it_is_computed_in_parts() -> None:
    ended = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr[-3000:]
    in_the_least, without_limit = map(int, ended.stdout.split())
    assert in_the_least > 0 == without_limit


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, is_one: bool) -> None:
    assert is_out_of_memory(error) is is_one


def test_an_on_policy_group_in_parts_has_the_gap_of_the_whole() -> None:
    group = on_policy_group(tiny_model("llama").plain, [1.0, 0.0, 0.2], seed=1)
    whole, divided = learner(), learner()
    divided.limit_passes(1)
    expected, found = (one.update(one.plan([group])) for one in (whole, divided))
    assert found.passes > expected.passes
    assert found.logprob_gap_mean == pytest.approx(expected.logprob_gap_mean, abs=1e-6)
    assert found.logprob_gap_mean < 1e-4
