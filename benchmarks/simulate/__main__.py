"""A job on up to a thousand GPUs in simulated time: how close to ideal, and what keeps it from there.

    python -m benchmarks.simulate [--engines 1 4 16 64] [--steps 2] [--seed 0] [--driver measured]

The ideal is what the engines whose machines are there would give, if none were ever idle and nothing were computed
twice or in vain. First it is measured what a rollout costs the job's own process on this machine; then each number of
engines is simulated in a process of its own, as many at a time as there are cores. The last line on standard output is
one JSON object. benchmarks/results/simulate.json has all that was counted; docs/images/scale.png is drawn of it, and
the table of docs/scale.md made.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from benchmarks.harness import machine, report
from benchmarks.simulate.costs import FREE, Costs, measure
from benchmarks.simulate.job import Setting, simulate
from benchmarks.simulate.page import table, write
from benchmarks.simulate.picture import draw
from benchmarks.simulate.work import Gpu, Work

# Of the first a step is so small that chance shows; of the others so large that few of them are enough.
FEW, MANY, VERY_MANY = 10, 100, 500
# Rollouts in flight for each GPU: half as many again as it has places, and with a thousand GPUs a hundred thousand.
IN_FLIGHT, MOST_IN_FLIGHT = 64, 100
# Steps in which a rollout may lack more updates than this are given up; the largest jobs take many steps a flight.
ETA, MOST_ETA = 8, 16
POOR = {"batch_share": 0.125, "eta": 4}
TOLD = 3


def point(engines: int, steps: int, seed: int, costs: Costs) -> Setting:
    """The setting of a number of engines."""
    is_large = engines > VERY_MANY
    return Setting(
        engines,
        in_flight=MOST_IN_FLIGHT if is_large else IN_FLIGHT,
        first=3 if engines < FEW else 1,
        steps=5 * steps if engines < FEW else steps if engines < MANY else max(1, steps // 2),
        eta=MOST_ETA if is_large else ETA,
        seed=seed,
        driver=costs,
    )


def poor_point(engines: int, steps: int, seed: int, costs: Costs) -> Setting:
    """Small steps, and little patience: what a job should not say."""
    return replace(point(engines, steps, seed, costs), first=12, steps=8 * steps, **POOR)


def driver_costs(kind: str, work: Work) -> tuple[Costs, Costs]:
    """What a rollout costs the driver, and of that what the simulation does not count by itself."""
    if kind == "free":
        return FREE, FREE
    costs = measure(work)
    own_s = simulate(Setting(1, first=1, steps=3))["driver_s_per_rollout"]
    return costs, costs.without(own_s, work)


def run_all(settings: Sequence[Setting], processes: int) -> list[dict[str, Any]]:
    """What came out, in the order of the settings; the largest begin first."""
    order = sorted(range(len(settings)), key=lambda number: -settings[number].rooms)
    told: dict[int, dict[str, Any]] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        running = {number: pool.submit(simulate, settings[number]) for number in order}
        for number in reversed(order):
            told[number] = running[number].result()
            print(json.dumps(shown(told[number])), flush=True)
    return [told[number] for number in range(len(settings))]


def shown(point: dict[str, Any]) -> dict[str, Any]:
    """A point with as many digits as say something."""
    return {name: float(f"{value:.{TOLD}g}") if isinstance(value, float) else value for name, value in point.items()}


def saturates_at(points: Sequence[dict[str, Any]]) -> int | None:
    """Engines with which the driver has nothing left: of the largest point where it is not busy all the time."""
    below = [one for one in points if 0 < one["driver_busy"] < 0.9]
    return round(below[-1]["engines"] / below[-1]["driver_busy"]) if below else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="+", default=[1, 4, 16, 64], help="GPUs that generate")
    parser.add_argument("--steps", type=int, default=2, help="measured; more of few GPUs, fewer of many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--poor", type=int, default=16, help="GPUs of the job with poor settings")
    parser.add_argument(
        "--driver", choices=("measured", "free"), default="measured", help="free: as if its work took no time"
    )
    arguments = parser.parse_args()
    began = time.perf_counter()
    work = Work()
    costs, charged = driver_costs(arguments.driver, work)
    print(json.dumps({"driver_s": costs.as_dict(), "rollout_s": costs.rollout_s(work)}), flush=True)
    engines = sorted(set(arguments.engines))
    settings = [point(number, arguments.steps, arguments.seed, charged) for number in engines]
    if arguments.driver == "free":
        settings = [replace(setting, counts_processor=False) for setting in settings]
    poor = poor_point(arguments.poor, arguments.steps, arguments.seed, charged)
    *points, last = run_all([*settings, poor], os.cpu_count() or 1)
    last["name"] = f"steps of an eighth, at most {poor.eta} updates old"
    summary: dict[str, Any] = {f"ideal_share_{one['engines']}": round(one["ideal_share"], 3) for one in points} | {
        "poor_ideal_share": round(last["ideal_share"], 3),
        "driver_s_per_rollout": round(costs.rollout_s(work), 4),
        "driver_saturates_at": saturates_at(points),
        "seconds": round(time.perf_counter() - began),
    }
    gpu = Gpu()
    result: dict[str, Any] = {
        "machine": machine(1),
        "driver": arguments.driver,
        "costs": costs.as_dict(),
        "gpu_s_per_rollout": gpu.gpu_s(work.mean_tokens, work.prompt_tokens + work.mean_calls * work.result_tokens),
        "points": points,
        "others": [last],
        "summary": summary,
    }
    if arguments.driver == "measured":
        draw(points, [last])
        write(table(points, costs.as_dict(), costs.rollout_s(work)))
        report("simulate", result)
    else:
        print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    main()
