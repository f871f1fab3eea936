"""Two hundred clients that poll a running job's status and events, beside its training.

    python -m benchmarks.api_load [--clients 200] [--interval-s 5] [--rounds 16]

One server, one job of the built-in model, without tools. Windows of steps with and without clients take
turns; how much longer a step with the same tokens takes in the one than in the other is the price of being watched. The
clients are on the same machine, so theirs is in it: what the server and the clients take of a core is told apart. The
last line on standard output is a JSON object.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from typing import Any, NamedTuple

import aiohttp
import numpy
import psutil
from openai import OpenAI

from benchmarks.harness import OURS, ROOT, machine, report

WINDOW_STEPS = 3
THINGS = ("rain", "bread", "a harbour", "chess", "a long night", "ants", "snow", "an old clock")
GRADER = "def grade(sample, item):\n    text = sample['output_text']\n    return text.count('e') / max(1, len(text))\n"


def start(client: OpenAI) -> str:
    """A job whose steps are short and much alike: one prompt, eight answers, all of them trained on."""
    rows = [{"messages": [{"role": "user", "content": f"Write a line about {one}."}]} for one in THINGS]
    content = "\n".join(map(json.dumps, rows)).encode()
    made = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    training_file = client.files.wait_for_processing(made.id, poll_interval=0.2).id
    job = client.fine_tuning.jobs.create(
        model="smollm2-135m",
        training_file=training_file,
        seed=0,
        method={
            "type": "reinforcement",
            "reinforcement": {
                "grader": {"type": "python", "source": GRADER, "trusted": True},
                "hyperparameters": {
                    "n_epochs": 50, "batch_size": 1, "compute_multiplier": 1, "max_tokens_per_turn": 24,
                    "max_context_tokens": 128,
                },
            },
        },  # type: ignore[arg-type,typeddict-unknown-key]
    )  # fmt: skip
    return job.id


class Clients:
    """A process of clients that poll while they are let: each asks for the job, then for its events, then waits."""

    def __init__(self, urls: list[str], count: int, interval_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._polls, self._ends = context.Event(), context.Event()
        self._told: Any = context.Queue()
        arguments = (urls, count, interval_s, self._polls, self._ends, self._told)
        self.process = context.Process(target=_run_clients, args=arguments, daemon=True)
        self.process.start()

    def let(self, poll: bool) -> None:
        if poll:
            self._polls.set()
        else:
            self._polls.clear()

    def end(self) -> dict[str, Any]:
        """`latencies` in seconds, and how many requests `failed`."""
        self._ends.set()
        told = self._told.get(timeout=60)
        self.process.join()
        return told


def _run_clients(urls: list[str], count: int, interval_s: float, polls: Any, ends: Any, told: Any) -> None:
    latencies: list[float] = []
    failed, parent = 0, os.getppid()

    async def poll(session: aiohttp.ClientSession, number: int) -> None:
        nonlocal failed
        # As clients come: not all at once.
        await asyncio.sleep(interval_s * number / count)
        while not ends.is_set() and os.getppid() == parent:
            for url in urls if polls.is_set() else ():
                started = time.perf_counter()
                async with session.get(url) as answer:
                    await answer.read()
                    failed += answer.status != 200
                latencies.append(time.perf_counter() - started)
            await asyncio.sleep(interval_s)

    async def run() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(poll(session, number) for number in range(count)))

    asyncio.run(run())
    told.put({"latencies": latencies, "failed": failed})


class Step(NamedTuple):
    """One training step: how long it took, and what it had to do."""

    seconds: float
    sampled_tokens: float
    trained_tokens: float


async def steps_until(client: OpenAI, job_id: str, last: int, steps: dict[int, Step]) -> None:
    """Wait until there are this many steps, and fill in those so far.

    Raises:
        RuntimeError: the job ended before.
    """
    while True:
        events = await asyncio.to_thread(lambda: client.fine_tuning.jobs.list_events(job_id, limit=40).data)
        for event in events:
            data: Any = event.data
            if event.level == "error":
                raise RuntimeError(event.message)
            if event.type == "metrics" and data["step"] > 0:
                train = data["agentrft"]["train"]
                rollouts = train["rollouts"] - train["outcomes"].get("infra_failed", 0)
                sampled = train["sampled_tokens_mean"] * rollouts
                steps[data["step"]] = Step(data["timing"]["step"]["full_iteration"], sampled, train["unique_tokens"])
        if max(steps, default=0) >= last:
            return
        await asyncio.sleep(0.5)


class Window(NamedTuple):
    """Steps that followed each other, of one of the rounds."""

    round: int
    watched: bool
    steps: list[Step]


def slowdown(windows: list[Window]) -> tuple[float, float, float]:
    """By how much being watched lengthens a step, as a share, and its 95 % interval.

    Steps differ in what the model wrote, and the machine's own speed drifts, both by more than is to be measured. A
    least-squares fit of the logarithm of their length to the round, the tokens sampled, the tokens trained on and
    whether clients polled tells these from each other.
    """
    rounds = max(window.round for window in windows) + 1
    rows = [
        [step.seconds, *(float(window.round == one) for one in range(rounds)), step.sampled_tokens, step.trained_tokens,
         float(window.watched)]
        for window in windows for step in window.steps
    ]  # fmt: skip
    table = numpy.array(rows)
    lengths, design = numpy.log(table[:, 0]), table[:, 1:]
    found, *_ = numpy.linalg.lstsq(design, lengths, rcond=None)
    residuals = lengths - design @ found
    variance = residuals @ residuals / (len(design) - design.shape[1])
    error = 1.96 * numpy.sqrt(variance * numpy.linalg.pinv(design.T @ design)[-1, -1])
    low, middle, high = numpy.expm1([found[-1] - error, found[-1], found[-1] + error])
    return float(middle), float(low), float(high)


async def measure(arguments: argparse.Namespace, url: str, client: OpenAI, job_id: str, server: int) -> dict[str, Any]:
    urls = [f"{url}/fine_tuning/jobs/{job_id}", f"{url}/fine_tuning/jobs/{job_id}/events?limit=20"]
    clients = Clients(urls, arguments.clients, arguments.interval_s)
    windows: list[Window] = []
    used = {side: {"server": 0.0, "clients": 0.0, "seconds": 0.0} for side in (False, True)}
    processes = {"server": psutil.Process(server), "clients": psutil.Process(clients.process.pid)}
    steps: dict[int, Step] = {}
    step = 1
    await steps_until(client, job_id, step, steps)
    for number in range(arguments.rounds):
        for side in (False, True) if number % 2 == 0 else (True, False):
            clients.let(side)
            # The step in which they begin or end belongs to neither side.
            step += 1
            await steps_until(client, job_id, step, steps)
            before = {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}
            started = time.perf_counter()
            await steps_until(client, job_id, step + WINDOW_STEPS, steps)
            own = [steps[one] for one in range(step + 1, step + WINDOW_STEPS + 1)]
            step += WINDOW_STEPS
            windows.append(Window(number, side, own))
            used[side]["seconds"] += time.perf_counter() - started
            for name, process in processes.items():
                used[side][name] += sum(process.cpu_times()[:2]) - before[name]
            seconds = [round(one.seconds, 2) for one in own]
            print(f"round {number + 1} {'watched' if side else 'alone'}: {seconds}", file=sys.stderr, flush=True)
    told = clients.end()
    latencies = sorted(told["latencies"])
    share, low, high = slowdown(windows)
    return {
        "clients": arguments.clients,
        "requests": len(latencies),
        "failed": told["failed"],
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
        "p99_ms": round(1000 * latencies[int(0.99 * len(latencies))], 1),
        "steps_a_side": arguments.rounds * WINDOW_STEPS,
        "slowdown": round(share, 3),
        "slowdown_95": [round(low, 3), round(high, 3)],
        "cores_used": {
            "watched" if side else "alone": {
                name: round(one[name] / one["seconds"], 3) for name in ("server", "clients")
            }
            for side, one in used.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--interval-s", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=16)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [str(OURS), "-m", "agentrft.cli", "serve", "--port", "0", "--data-dir", folder, "--allow-code"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            client = OpenAI(base_url=url, api_key="none")
            job_id = start(client)
            summary = asyncio.run(measure(arguments, url, client, job_id, server.pid))
            client.fine_tuning.jobs.cancel(job_id)
        finally:
            server.terminate()
            server.wait(30)
    report("api_load", {"machine": machine(2), "summary": summary})


if __name__ == "__main__":
    main()
