"""Two hundred clients that poll a running job's status and events, beside its training.

    python -m benchmarks.api_load [--clients 200] [--interval-s 5] [--rounds 12] [--page]

With `--page` one client follows the job's page instead, as an open dashboard does; what looks through the rollouts for
it counts as the server's.

One server, one job of the built-in model, without tools. Windows of steps take turns: without clients, with clients of
the server, and with the same clients of a bare server, whose answers have the same sizes and take no work. How much
longer a step with the same tokens takes than without clients is the price of being watched; all are on one machine, so
what the bare server's clients cost no server can save. The last line on standard output is a JSON object.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import httpx
import numpy
import psutil
from openai import OpenAI

from benchmarks.harness import OURS, ROOT, machine, report
from benchmarks.pollers import Clients

WINDOW_STEPS = 3
# How often an open page asks for what is new.
PAGE_S = 1.5
SIDES = ALONE, BARE, WATCHED = "alone", "bare", "watched"
THINGS = ("rain", "bread", "a harbour", "chess", "a long night", "ants", "snow", "an old clock")
GRADER = "def grade(sample, item):\n    text = sample['output_text']\n    return text.count('e') / max(1, len(text))\n"


def start(client: OpenAI) -> str:
    """A job whose steps are short and much alike: one prompt, and eight answers that are cut off at the same length and
    all trained on, by so little that it is the same model in the last step."""
    rows = [{"messages": [{"role": "user", "content": f"Tell me a long story about {one}."}]} for one in THINGS]
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
                    "n_epochs": 50,
                    "batch_size": 1,
                    "compute_multiplier": 1,
                    "max_tokens_per_turn": 24,
                    "max_context_tokens": 128,
                    "learning_rate_multiplier": 1e-3,
                },
            },
        },  # type: ignore[arg-type,typeddict-unknown-key]
    )
    return job.id


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
    """Steps that followed each other in one of the rounds; `side` says who was polled meanwhile."""

    round: int
    side: str
    steps: list[Step]


def slowdown(windows: list[Window], side: str) -> dict[str, Any]:
    """By how much a step is longer than alone, as a share, with its 95 % interval.

    Steps differ in what the model wrote, and the machine's own speed drifts, both by more than is to be measured. A
    least-squares fit of the logarithm of their length to the round, the tokens sampled, the tokens trained on and
    whether clients polled tells these from each other.
    """
    rounds = max(window.round for window in windows) + 1
    rows = [
        [
            step.seconds,
            *(float(window.round == one) for one in range(rounds)),
            step.sampled_tokens,
            step.trained_tokens,
            float(window.side == side),
        ]
        for window in windows
        if window.side in (ALONE, side)
        for step in window.steps
    ]
    table = numpy.array(rows)
    lengths, design = numpy.log(table[:, 0]), table[:, 1:]
    found, *_ = numpy.linalg.lstsq(design, lengths, rcond=None)
    residuals = lengths - design @ found
    variance = residuals @ residuals / (len(design) - design.shape[1])
    error = 1.96 * numpy.sqrt(variance * numpy.linalg.pinv(design.T @ design)[-1, -1])
    low, middle, high = (round(float(one), 3) for one in numpy.expm1(found[-1] + numpy.array([-error, 0.0, error])))
    return {"slowdown": middle, "slowdown_95": [low, high]}


class Cores:
    """What processes take of a core, by the side that they were needed for."""

    def __init__(self, **pids: int) -> None:
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items()}
        self._beside: dict[str, dict[int, float]] = {name: {} for name in pids}
        self._seconds = dict.fromkeys(SIDES, 0.0)
        self._used = {side: dict.fromkeys(pids, 0.0) for side in SIDES}

    @contextmanager
    def measured(self, side: str) -> Iterator[None]:
        before, started = self._now(), time.perf_counter()
        yield
        self._seconds[side] += time.perf_counter() - started
        for name, seconds in self._now().items():
            self._used[side][name] += seconds - before[name]

    def summary(self, side: str) -> dict[str, float]:
        return {name: round(seconds / self._seconds[side], 3) for name, seconds in self._used[side].items()}

    def _now(self) -> dict[str, float]:
        return {name: self._cpu_seconds(name, process) for name, process in self._processes.items()}

    def _cpu_seconds(self, name: str, process: psutil.Process) -> float:
        """With what it started beside itself to look through rollouts, which ends by itself when it is idle; workers
        train, and do not count."""
        for child in process.children():
            with suppress(psutil.NoSuchProcess):
                if any("multiprocessing" in word for word in child.cmdline()):
                    self._beside[name][child.pid] = _seconds_of(child)
        return _seconds_of(process) + sum(self._beside[name].values())


def _seconds_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(
    arguments: argparse.Namespace, url: str, client: OpenAI, job_id: str, server: int, bare: subprocess.Popen[str]
) -> dict[str, Any]:
    path = f"/v1/fine_tuning/jobs/{job_id}"
    paths, port = (path, f"{path}/events?limit=20"), urlsplit(url).port
    if arguments.page:
        paths = (f"/dashboard/jobs/{job_id}",)
    assert port is not None and bare.stdout is not None
    bare_port = int(bare.stdout.readline())
    clients = Clients(arguments.clients, arguments.interval_s)
    assert clients.process.pid is not None
    cores = Cores(server=server, bare_server=bare.pid, clients=clients.process.pid)
    windows: list[Window] = []
    steps: dict[int, Step] = {}
    step = 1
    await steps_until(client, job_id, step, steps)
    for number in range(arguments.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            if side == BARE:
                sizes = [len(httpx.get(f"http://127.0.0.1:{port}{one}", timeout=120).content) for one in paths]
                clients.poll(side, bare_port, tuple(f"/{size}" for size in sizes))
            else:
                clients.poll(*((side, port, paths) if side == WATCHED else ()))
            # The step in which they begin or end belongs to neither side.
            step += 1
            await steps_until(client, job_id, step, steps)
            with cores.measured(side):
                await steps_until(client, job_id, step + WINDOW_STEPS, steps)
            own = [steps[one] for one in range(step + 1, step + WINDOW_STEPS + 1)]
            step += WINDOW_STEPS
            windows.append(Window(number, side, own))
            print(f"round {number + 1} {side}: {[round(one.seconds, 2) for one in own]}", file=sys.stderr, flush=True)
    told = clients.end()
    return {
        "clients": arguments.clients,
        "steps_a_side": arguments.rounds * WINDOW_STEPS,
        ALONE: {"cores": cores.summary(ALONE)},
        **{
            side: {
                "requests": len(told[side]["latencies"]),
                "failed": told[side]["failed"],
                "p50_ms": percentile_ms(told[side]["latencies"], 50),
                "p99_ms": percentile_ms(told[side]["latencies"], 99),
                **slowdown(windows, side),
                "cores": cores.summary(side),
            }
            for side in (BARE, WATCHED)
        },
    }


def percentile_ms(latencies: list[float], share: float) -> float:
    return round(1000 * float(numpy.percentile(latencies, share)), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="one page that follows the job, in place of clients")
    parser.add_argument("--clients", type=int)
    parser.add_argument("--interval-s", type=float)
    parser.add_argument("--rounds", type=int, default=24)
    arguments = parser.parse_args()
    arguments.clients = arguments.clients or (1 if arguments.page else 200)
    arguments.interval_s = arguments.interval_s or (PAGE_S if arguments.page else 5.0)
    # Ended, it ends the server, which would go on training beside the next run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        command = [str(OURS), "-m", "agentrft.cli", "serve", "--port", "0", "--data-dir", folder, "--allow-code"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        bare = subprocess.Popen(
            [str(OURS), "-m", "benchmarks.bare_server"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            client = OpenAI(base_url=url, api_key="none")
            job_id = start(client)
            summary = asyncio.run(measure(arguments, url, client, job_id, server.pid, bare))
            print(json.dumps(summary), file=sys.stderr, flush=True)
            client.fine_tuning.jobs.cancel(job_id)
        finally:
            bare.terminate()
            bare.wait()
            server.terminate()
            server.wait(30)
    report("api_load_page" if arguments.page else "api_load", {"machine": machine(2), "summary": summary})


if __name__ == "__main__":
    main()
