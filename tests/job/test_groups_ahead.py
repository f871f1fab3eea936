"""Rollouts that run ahead of the steps: who is taken, how old it may be, and that nothing is lost or taken twice."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrft.data import Sample
from agentrft.errors import Interrupted
from agentrft.job.draw import SampleDraw
from agentrft.job.groups_ahead import GroupsAhead
from agentrft.rollout import Rollout, RolloutTask
from agentrft.spec import Hyperparameters
from tests.job.ahead import EACH, Disk, Killed, Outcome, Process


def of_samples(disk: Disk) -> Counter[str]:
    return Counter(rollout.sample_id for step in disk.steps for rollout in step)


def as_drawn(process: Process) -> Counter[str]:
    """Rollouts of each sample, were every step to wait."""
    resolved = Hyperparameters(batch_size=process.batch, max_steps=process.steps, n_epochs=50).resolve(
        n_train=process.samples, max_tokens_per_turn=1, max_context_tokens=1
    )
    draw = SampleDraw([Sample(f"s{n}", [], item={}) for n in range(process.samples)], resolved, seed=7)
    samples = [sample.sample_id for step in range(1, process.steps + 1) for sample in draw.of_step(step)]
    assert len(samples) == draw.through(process.steps)
    assert [draw.at(place).sample_id for place in range(len(samples))] == samples
    return Counter({name: EACH * count for name, count in Counter(samples).items()})


def with_tail(seed: int, slow_share: float, slow_ticks: int) -> dict[str, int]:
    """Ticks by key, settled when it is first asked for."""
    source, known = random.Random(seed), dict[str, int]()

    class Ticks(dict[str, int]):
        def __missing__(self, key: str) -> int:
            known[key] = slow_ticks if source.random() < slow_share else source.randint(1, 6)
            self[key] = known[key]
            return known[key]

    return Ticks()


async def test_a_slow_rollout_holds_no_step_and_is_trained_on_later() -> None:
    slow = 25

    def outcome(task: RolloutTask) -> Outcome:
        return Outcome(slow if (task.step, task.index) == (1, 1) else 2)

    process = Process(Disk(), outcome, samples=8, batch=2, steps=12, eta=8, concurrency=24)
    ages = await process.train()
    assert of_samples(process.disk) == as_drawn(process)
    assert max(age.most for age in ages) <= 8
    late = {
        step: rollout.turns[0].versions
        for step, rollouts in enumerate(process.disk.steps, start=1)
        for rollout in rollouts
        if rollout.sampled_tokens == slow
    }
    assert late and min(late) > 2, "others went before it"
    assert all(len(versions) > 1 for versions in late.values()), "it went on over several updates"
    assert sum(row["too_old"] for row in process.disk.metrics) == 0


async def test_what_is_too_old_is_given_up_counted_and_begun_again() -> None:
    def outcome(task: RolloutTask) -> Outcome:
        # The first time, one of its rollouts is quick, and one is far slower than eta updates.
        return Outcome(60 if task.step == 1 and task.index == 1 and not task.again else 2)

    process = Process(Disk(), outcome, samples=8, batch=2, steps=10, eta=1, concurrency=30)
    ages = await process.train()
    assert max(age.most for age in ages) <= 1
    assert sum(row["too_old"] for row in process.disk.metrics) >= 1
    assert of_samples(process.disk) == as_drawn(process)
    assert process.disk.pending == {}
    again = [key for _, key in process.begun if "again-1" in key]
    assert len(again) == EACH * sum(row["too_old"] for row in process.disk.metrics)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 10**6),
    samples=st.integers(1, 7),
    batch=st.integers(1, 4),
    eta=st.integers(1, 4),
    concurrency=st.integers(1, 20),
    slow_share=st.sampled_from([0.0, 0.1, 0.5]),
    kills=st.lists(st.integers(1, 120), max_size=4),
    breaks=st.sampled_from([0.0, 0.1]),
    dynamic=st.integers(0, 2),
)
def test_over_kills_nothing_is_lost_taken_twice_too_old_or_over_a_bound(
    seed: int,
    samples: int,
    batch: int,
    eta: int,
    concurrency: int,
    slow_share: float,
    kills: list[int],
    breaks: float,
    dynamic: int,
) -> None:
    ticks, luck, disk = with_tail(seed, slow_share, 50), random.Random(seed), Disk()
    ended: list[Rollout] = []
    ages = []

    def outcome(task: RolloutTask) -> Outcome:
        flat = dynamic > 0 and luck.random() < 0.2
        return Outcome(ticks[f"{task.step}/{task.key}"], 0.0 if flat else None, luck.random() < breaks)

    def process() -> Process:
        return Process(
            disk, outcome, samples=samples, batch=batch, steps=6, eta=eta, concurrency=concurrency,
            dynamic_sampling=dynamic,
        )  # fmt: skip

    async def live() -> Process:
        for tick in kills:
            one = process()
            kept = set(disk.pending)
            try:
                ages.extend(await one.train(tick))
            except Killed:
                pass
            ended.extend(one.ended)
            assert one.most_running <= concurrency and one.engine.most_open <= concurrency
            assert not kept & set(one.begun), "what an earlier life had graded is not asked for again"
        last = process()
        ages.extend(await last.train())
        ended.extend(last.ended)
        return last

    last = asyncio.run(live())
    assert all(age.most <= eta for age in ages)
    assert len(disk.steps) == 6
    traces = Counter(rollout.trace_id for step in disk.steps for rollout in step)
    assert set(traces.values()) <= {1}
    replaced = sum(row["replaced"] for row in disk.metrics)
    taken = sum(len(step) for step in disk.steps) + sum(row["skipped"] for row in disk.metrics)
    assert taken == EACH * (sum(as_drawn(last).values()) // EACH + replaced)
    if not replaced:
        assert of_samples(disk) == as_drawn(last)
    assert disk.pending == {}
    # What ended and was graded was trained on, unless its group was given up for its age.
    lost = [one for one in ended if one.outcome == "graded" and one.trace_id not in traces]
    given_up = sum(row["too_old"] for row in disk.metrics)
    if not kills:
        assert len(lost) <= EACH * given_up


async def test_a_killed_process_goes_on_with_what_was_graded() -> None:
    disk, slow = Disk(), {"s1/2"}

    def outcome(task: RolloutTask) -> Outcome:
        return Outcome(500 if task.key in slow else 2)

    first = Process(disk, outcome, samples=4, batch=4, steps=3, eta=3, concurrency=30)
    with pytest.raises(Killed):
        await first.train(60)
    assert 1 <= len(disk.steps) < 3 and disk.pending
    kept = dict(disk.pending)
    slow.clear()
    second = Process(disk, outcome, samples=4, batch=4, steps=3, eta=3, concurrency=30)
    await second.train()
    graded = {payload["trace_id"] for payload in kept.values()}
    assert graded <= {rollout.trace_id for step in disk.steps for rollout in step}
    assert of_samples(disk) == as_drawn(second) and disk.pending == {}
    assert not set(kept) & set(second.begun)


async def test_two_groups_of_a_sample_in_a_step_become_one() -> None:
    process = Process(Disk(), lambda task: Outcome(1), samples=2, batch=2, steps=4, eta=3, concurrency=30)
    await process.train()
    for step, rollouts in enumerate(process.disk.steps, start=1):
        assert all(rollout.step == step for rollout in rollouts)
        assert len({(rollout.sample_id, rollout.index) for rollout in rollouts}) == len(rollouts)
    assert of_samples(process.disk) == as_drawn(process)


async def test_groups_without_variance_are_replaced_as_far_as_the_budget_goes() -> None:
    def outcome(task: RolloutTask) -> Outcome:
        return Outcome(1, 0.0 if task.sample.sample_id in ("s0", "s1", "s2") else None)

    process = Process(
        Disk(), outcome, samples=8, batch=2, steps=4, eta=1, concurrency=30, dynamic_sampling=1, decide_after=EACH
    )
    await process.train()
    replaced = [row["replaced"] for row in process.disk.metrics]
    assert sum(replaced) > 0 and max(replaced) <= 1
    sizes = [len(step) // EACH for step in process.disk.steps]
    assert sizes == [2 + extra for extra in replaced]


async def test_a_decided_group_begins_no_more_rollouts() -> None:
    process = Process(
        Disk(), lambda task: Outcome(2, 1.0), samples=4, batch=2, steps=2, eta=1, concurrency=1, decide_after=2
    )
    await process.train()
    assert [row["skipped"] for row in process.disk.metrics] == [2 * (EACH - 2)] * 2


async def test_a_stop_ends_the_wait_and_what_was_graded_is_kept() -> None:
    disk = Disk()
    process = Process(disk, lambda task: Outcome(2 if task.index == 0 else 10**6), batch=2, concurrency=20)
    waiting = asyncio.create_task(anext(process.source.groups(1)))
    while len(disk.pending) < 2:
        await asyncio.sleep(0)
    process.stop.request()
    with pytest.raises(Interrupted):
        await waiting
    await process.source.close()
    assert process.engine.open_now == 0 and process.source.in_flight == 0
    assert len(disk.pending) >= 2


async def test_what_breaks_in_a_group_reaches_whoever_waits() -> None:
    def outcome(task: RolloutTask) -> Outcome:
        raise RuntimeError("a fault of ours")

    process = Process(Disk(), outcome)
    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        await process.train()


async def test_groups_that_infrastructure_broke_take_their_place() -> None:
    process = Process(
        Disk(), lambda task: Outcome(1, breaks=task.sample.sample_id == "s0"), samples=4, batch=4, steps=2, eta=1
    )
    await process.train()
    assert of_samples(process.disk) == as_drawn(process)


async def test_what_ends_costs_as_much_among_many_groups_as_among_few(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    is_old = GroupsAhead._is_old

    def counted(self: GroupsAhead, group: Any) -> bool:
        nonlocal looks
        looks += 1
        return is_old(self, group)

    monkeypatch.setattr(GroupsAhead, "_is_old", counted)
    each_time = []
    for batch in (10, 80):
        looks = 0
        ticks = random.Random(batch)
        process = Process(
            Disk(),
            lambda task, ticks=ticks: Outcome(ticks.randint(1, 40)),
            samples=4 * batch,
            batch=batch,
            steps=4,
            eta=4,
            concurrency=2 * EACH * batch,
        )
        await process.train()
        assert of_samples(process.disk) == as_drawn(process)
        each_time.append(looks / len(process.ended))
    assert each_time[1] < 1.5 * each_time[0] and each_time[1] < 10


async def test_no_more_groups_begin_than_have_rooms_and_one_that_waits() -> None:
    process = Process(Disk(), lambda task: Outcome(4), samples=40, batch=20, steps=4, eta=4, concurrency=9)
    await process.train()
    assert process.most_running <= 9 // EACH + 2
    assert process.engine.most_open == 9, "all rooms are taken"
