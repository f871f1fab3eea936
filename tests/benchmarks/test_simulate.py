"""Simulated time, simulated GPUs, and what a job on them comes to."""

import asyncio
import math
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrft.rollout import loop as rollout_loop
from benchmarks.simulate.__main__ import saturates_at, shown
from benchmarks.simulate.clock import Clock, NothingLeft, run
from benchmarks.simulate.costs import Costs, measure
from benchmarks.simulate.engine import SimulatedGpu
from benchmarks.simulate.job import MOST_EACH, MOST_SAMPLES, Setting, simulate
from benchmarks.simulate.picture import draw
from benchmarks.simulate.work import Gpu, Work

SMALL = Setting(1, in_flight=48, first=1, steps=2, counts_processor=False)
SAFE = replace(Gpu(), lost_an_hour=0.0)


def free_clock() -> Clock:
    return Clock(counts_processor=False)


def test_waiting_takes_no_time_and_computing_takes_its_own() -> None:
    clock = free_clock()

    async def work() -> list[float]:
        moments = []
        await asyncio.sleep(3600)
        moments.append(rollout_loop.time.monotonic())
        clock.charge(5.0)
        async with asyncio.timeout(10):
            await asyncio.sleep(1.0)
        moments.append(rollout_loop.time.perf_counter())
        return moments

    began = time.perf_counter()
    assert run(clock, work()) == pytest.approx([3600.0, 3606.0])
    assert clock.busy_s == 5.0 and time.perf_counter() - began < 60
    assert rollout_loop.time is time, "the code has its own clock back"


def test_what_is_late_because_the_process_computes_is_late() -> None:
    clock, rang = free_clock(), []

    async def work() -> None:
        asyncio.get_running_loop().call_later(1.0, lambda: rang.append(clock.now_s))
        await asyncio.sleep(0.5)
        clock.charge(4.0)
        await asyncio.sleep(0.1)

    run(clock, work())
    assert rang == pytest.approx([4.5])


def test_real_processor_time_passes_but_for_what_is_set_apart() -> None:
    clock = Clock()

    def compute() -> None:
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    async def work() -> None:
        compute()
        with clock.set_apart():
            compute()
            compute()

    run(clock, work())
    assert 0.05 <= clock.busy_s < 0.1 <= clock.apart_s


def test_a_deadlock_is_told_and_threads_are_refused() -> None:
    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(NothingLeft):
        run(free_clock(), forever())
    with pytest.raises(RuntimeError, match="wants a thread"):
        run(free_clock(), asyncio.to_thread(time.monotonic))


def test_a_gpu_is_as_fast_as_its_batch_lets_it_and_others_wait() -> None:
    gpu, clock = replace(SAFE, places=4, pass_s=0.01, sequence_s=0.001, prefill_s=0.0), free_clock()

    async def work() -> tuple[list[float], SimulatedGpu]:
        server = SimulatedGpu(gpu, clock, random.Random(0))

        async def turn(number: int) -> float:
            assert await server.generate(number, 0, 10, 10, tokens=100)
            return clock.now_s

        moments = await asyncio.gather(*(turn(number) for number in range(1, 6)))
        server.look()
        return moments, server

    moments, server = run(clock, work())
    assert moments == pytest.approx([1.4] * 4 + [1.4 + 1.1]), "four at 14 ms a pass, then one alone at 11"
    assert server.busy_s == pytest.approx(2.5) and server.filled_s == pytest.approx(4 * 1.4 + 1.1)
    assert server.done_s == pytest.approx(500 * gpu.token_s)


def test_a_machine_that_is_lost_takes_its_turns_and_its_cache_with_it() -> None:
    gpu = replace(Gpu(), lost_an_hour=1 - math.exp(-30), away_s=50.0, pass_s=0.01, sequence_s=0.0, prefill_s=0.01)
    clock = free_clock()

    async def work() -> tuple[bool, bool, float, float]:
        server = SimulatedGpu(gpu, clock, random.Random(1))
        life = asyncio.create_task(server.live())
        was_done = await server.generate(1, 0, context=1, new=1, tokens=10**9)
        lost_at = clock.now_s
        await asyncio.sleep(gpu.away_s)
        life.cancel()
        began = clock.now_s
        # Its context of 100 tokens is computed again, for a second.
        is_done = await server.generate(3, 2, context=100, new=1, tokens=1)
        server.look()
        return was_done, is_done, clock.now_s - began, server.up_s - (lost_at + 1.01)

    was_done, is_done, took_s, up_s = run(clock, work())
    assert not was_done and is_done
    assert took_s == pytest.approx(1.01) and up_s == pytest.approx(0.0, abs=0.01)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    return simulate(replace(SMALL, gpu=SAFE))


@pytest.mark.slow
def test_the_same_seed_gives_the_same_run(small: dict[str, Any]) -> None:
    again = simulate(replace(SMALL, gpu=SAFE))
    other = simulate(replace(SMALL, gpu=SAFE, seed=1))
    measured = {"real_s", "processor_s"}
    assert {name: small[name] for name in small.keys() - measured} == {
        name: again[name] for name in again.keys() - measured
    }
    assert other["simulated_s"] != small["simulated_s"]


def test_a_job_with_sensible_settings_keeps_its_engines_busy(small: dict[str, Any]) -> None:
    assert small["idle_share"] < 0.01 and small["groups_too_old"] == 0
    # Turns that began before what is measured are counted whole.
    assert 0.9 < small["generated_share"] < 1.03 and small["ideal_share"] <= small["generated_share"]
    assert small["outcomes"]["graded"] + small["outcomes"].get("max_turns", 0) == 3 * 48
    assert small["driver_busy"] == 0.0


def test_small_steps_and_little_patience_cost_throughput(small: dict[str, Any]) -> None:
    poor = simulate(replace(SMALL, gpu=SAFE, batch_share=0.17, eta=1, first=6, steps=12))
    assert poor["groups_too_old"] > 0
    assert poor["ideal_share"] < 0.8 * small["ideal_share"]


def test_a_driver_that_has_too_much_to_do_starves_its_engines() -> None:
    costs = Costs(0.2, 0.02, 0.0, 0.2, 0.1, 0.2, 1e5, 1e4)
    told = simulate(replace(SMALL, engines=8, in_flight=20, driver=costs, gpu=SAFE))
    assert told["driver_busy"] > 0.95 and told["places_filled"] < 0.4 and told["ideal_share"] < 0.5
    most = 1 / costs.rollout_s(Work())
    # Rollouts end in bursts, since all began at once.
    assert 0.25 * most < told["rollouts_per_s"] < 1.3 * most
    assert told["database_bytes_per_s"] == pytest.approx(1e5 * told["commits_per_s"], rel=0.05)


def test_lost_machines_cost_time_and_no_rollout() -> None:
    told = simulate(replace(SMALL, engines=2, in_flight=16, gpu=replace(Gpu(), lost_an_hour=0.99)))
    assert told["machines_lost"] > 0
    assert set(told["outcomes"]) <= {"graded", "max_turns", "event:warning", "event:info"}
    assert told["publish_s"] < 60, "a new version waits for no machine"


def test_settings_are_what_a_job_may_say() -> None:
    for engines in (1, 64, 1000):
        setting = replace(SMALL, engines=engines, in_flight=100)
        limits = setting.hyperparameters()
        assert limits.batch_size <= MOST_SAMPLES and limits.rollouts_per_sample == setting.each <= MOST_EACH
        assert limits.decide_after == setting.each
    assert Setting(64).each * Setting(64).samples_of_step == 4096


def test_costs_are_measured_with_real_rollouts() -> None:
    short = replace(Work(), turn_tokens=40.0, prompt_tokens=64, result_tokens=32)
    costs = measure(short, rollouts=2)
    assert all(value > 0 for name, value in costs.as_dict().items() if name != "disk_s")
    assert costs.without(costs.turn_s, short).turn_s < costs.turn_s
    assert costs.record_bytes > 500 and costs.file_bytes > 500


def test_the_curve_is_drawn_and_says_where_the_driver_ends(small: dict[str, Any], tmp_path: Path) -> None:
    points = [small | {"engines": engines, "driver_busy": engines / 100} for engines in (1, 50, 200)]
    draw(points, [small | {"name": "poor"}], tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 10_000
    assert saturates_at(points) == 100
    assert saturates_at([small]) is None
    assert shown({"a": 0.123456, "b": 7}) == {"a": 0.123, "b": 7}
