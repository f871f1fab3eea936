"""Two hundred clients that poll a running job's status and events, beside its training.

    python -m benchmarks.api_load [--clients 200] [--interval-s 5] [--rounds 6]

One server, one job of the built-in model on the quickstart's data. Windows with and without clients take turns; what a
thousand sampled tokens of training take in the one and in the other is the price of being watched. The last line on
standard output is a JSON object.
"""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import aiohttp
from openai import OpenAI

from benchmarks.harness import OURS, ROOT, machine, report

EXAMPLE = ROOT / "examples" / "medical_coding"
WINDOW_STEPS = 4
TOOL = {
    "name": "search", "description": "Search ICD-10-CM codes.",
    "parameters": {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
}  # fmt: skip


def start(client: OpenAI, tool_url: str) -> str:
    ids = {}
    for name in ("train", "demonstrations"):
        with (EXAMPLE / "data" / f"{name}.jsonl").open("rb") as file:
            made = client.files.create(file=file, purpose="fine-tune")
        ids[name] = client.files.wait_for_processing(made.id, poll_interval=0.2).id
    source = (EXAMPLE / "grader.py").read_text()
    job = client.fine_tuning.jobs.create(
        model="smollm2-135m",
        training_file=ids["train"],
        seed=0,
        method={
            "type": "reinforcement",
            "reinforcement": {
                "tools": [{**TOOL, "server_url": tool_url}],
                "grader": {"type": "python", "source": source, "trusted": True},
                "max_episode_steps": 3,
                "hyperparameters": {
                    "n_epochs": 50, "batch_size": 4, "compute_multiplier": 1, "max_tokens_per_turn": 56,
                    "max_context_tokens": 640, "max_steps": 500,
                },
            },
        },  # type: ignore[arg-type,typeddict-unknown-key]
        extra_body={"warm_start": {"training_file": ids["demonstrations"], "batch_size": 4}},
    )  # fmt: skip
    return job.id


class Clients:
    """Each asks for the job, then for its events, then waits."""

    def __init__(self, url: str, job_id: str, count: int, interval_s: float) -> None:
        self._urls = [f"{url}/fine_tuning/jobs/{job_id}", f"{url}/fine_tuning/jobs/{job_id}/events?limit=20"]
        self._count = count
        self._interval_s = interval_s
        self.latencies: list[float] = []
        self.failed = 0

    async def run(self, stop: asyncio.Event) -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(self._poll(session, number, stop) for number in range(self._count)))

    async def _poll(self, session: aiohttp.ClientSession, number: int, stop: asyncio.Event) -> None:
        # As clients come: not all at once.
        await asyncio.sleep(self._interval_s * number / self._count)
        while not stop.is_set():
            for url in self._urls:
                started = time.perf_counter()
                async with session.get(url) as answer:
                    await answer.read()
                    self.failed += answer.status != 200
                self.latencies.append(time.perf_counter() - started)
            await asyncio.sleep(self._interval_s)


async def step_times(client: OpenAI, job_id: str, until: int) -> list[float]:
    """Seconds of the last training steps up to this one for each thousand tokens that they sampled: a step's own length
    varies with what the model writes.
    """
    while True:
        events = await asyncio.to_thread(lambda: client.fine_tuning.jobs.list_events(job_id, limit=100).data)
        data: list[Any] = [event.data for event in events if event.type == "metrics"]
        steps = {
            one["step"]: 1000 * one["timing"]["step"]["full_iteration"] / sampled(one["agentrft"]["train"])
            for one in data
            if one["step"] > 0
        }
        if max(steps, default=0) >= until:
            return [steps[step] for step in sorted(steps) if step <= until][-WINDOW_STEPS:]
        await asyncio.sleep(0.5)


def sampled(metrics: dict[str, Any]) -> float:
    """Tokens that a step's rollouts sampled."""
    return metrics["sampled_tokens_mean"] * (metrics["rollouts"] - metrics["outcomes"].get("infra_failed", 0))


async def measure(arguments: argparse.Namespace, url: str, client: OpenAI, job_id: str) -> dict[str, Any]:
    alone: list[float] = []
    watched: list[float] = []
    clients = Clients(url, job_id, arguments.clients, arguments.interval_s)
    step = 1
    await step_times(client, job_id, step)
    for number in range(arguments.rounds):
        # The first step after a change of sides belongs to neither.
        for side, times in ((False, alone), (True, watched)):
            stop = asyncio.Event()
            polling = asyncio.create_task(clients.run(stop)) if side else None
            step += WINDOW_STEPS + 1
            found = await step_times(client, job_id, step)
            stop.set()
            if polling is not None:
                await polling
            times += found
            print(f"round {number + 1} {'watched' if side else 'alone'}: {found}", file=sys.stderr, flush=True)
            step += 1
    latencies = sorted(clients.latencies)
    return {
        "clients": arguments.clients,
        "requests": len(latencies),
        "failed": clients.failed,
        "p50_ms": round(1000 * latencies[len(latencies) // 2], 1),
        "p99_ms": round(1000 * latencies[int(0.99 * len(latencies))], 1),
        "alone_s_per_1000_tokens": round(statistics.median(alone), 3),
        "watched_s_per_1000_tokens": round(statistics.median(watched), 3),
        "slowdown": round(statistics.median(watched) / statistics.median(alone) - 1, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--interval-s", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    subprocess.run([str(OURS), "make_data.py"], cwd=EXAMPLE, check=True, stdout=subprocess.DEVNULL)
    tools = subprocess.Popen([str(OURS), "server.py", "--port", "8766"], cwd=EXAMPLE, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        command = [str(OURS), "-m", "agentrft.cli", "serve", "--port", "0", "--data-dir", folder, "--allow-code"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            client = OpenAI(base_url=url, api_key="none")
            job_id = start(client, "http://127.0.0.1:8766/tools/search")
            summary = asyncio.run(measure(arguments, url, client, job_id))
            client.fine_tuning.jobs.cancel(job_id)
        finally:
            server.terminate()
            server.wait(30)
            tools.terminate()
            tools.wait()
    report("api_load", {"machine": machine(2), "summary": summary})


if __name__ == "__main__":
    main()
