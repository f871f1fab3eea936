"""A thousand tool calls at once: through our HTTP tool against a server that answers 429 above 64 in flight, and by the
bare client library against the same server without a limit.

    python -m benchmarks.tools [--rounds 20] [--calls 1000]

The bare client is aiohttp as it comes (100 connections) and with as many as there are calls; the faster of the two
counts. It is measured with 64 connections, too, which is all that the limited server takes: what is lost so, nobody can
win. The last line on standard output is a JSON object.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

import aiohttp

from agentrft.spec import HttpToolSpec
from agentrft.tools import HttpTool, ToolCall
from benchmarks.harness import OURS, ROOT, machine, report

LIMIT = 64
ARGUMENTS = json.dumps({"query": "celiac disease with steatorrhea"})
ITEM = {"answer": "K90.0", "note": "Painter, 41. Today: bitten by a rat. We found celiac disease with steatorrhea."}


class LimitedServer(AbstractContextManager["LimitedServer"]):
    """The server in a process of its own."""

    def __init__(self, limit: int) -> None:
        command = [str(OURS), "-m", "benchmarks.limited_server", str(limit)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert self._process.stdout is not None
        self._base = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.url = f"{self._base}/tool"

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    async def counts(self) -> dict[str, int]:
        async with aiohttp.ClientSession() as session, session.get(f"{self._base}/counts") as response:
            return await response.json()


async def ours(url: str, calls: int) -> dict[str, Any]:
    spec = {"name": "search", "url": url, "max_concurrency": 256}
    tool = HttpTool(HttpToolSpec.model_validate(spec))
    latencies: list[float] = []

    async def one(number: int) -> bool:
        started = time.perf_counter()
        call = ToolCall(f"call_{number}", "search", ARGUMENTS)
        result = await tool.call(call, trace_id=f"trace_{number:032x}", attempt=1, item=ITEM)
        latencies.append(time.perf_counter() - started)
        return result.status == "ok"

    started = time.perf_counter()
    results = await asyncio.gather(*(one(number) for number in range(calls)), return_exceptions=True)
    seconds = time.perf_counter() - started
    await tool.close()
    answered = sum(result is True for result in results)
    return {"seconds": seconds, "lost": calls - answered, "requests": tool.counters["requests"], "latencies": latencies}


async def bare(url: str, calls: int, connections: int) -> dict[str, Any]:
    """What the client library does with the same requests: post, read, parse."""

    async def one(session: aiohttp.ClientSession, number: int) -> bool:
        trace_id, call_id = f"trace_{number:032x}", f"call_{number}"
        body = {
            "type": "function_call",
            "id": f"fc_{number}",
            "call_id": call_id,
            "name": "search",
            "arguments": ARGUMENTS,
            "trace_id": trace_id,
            "item": ITEM,
        }
        headers = {"X-Trace-Id": trace_id, "X-Attempt": "1", "Idempotency-Key": trace_id + call_id}
        async with session.post(url, json=body, headers=headers) as response:
            return response.status == 200 and "output" in await response.json()

    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        started = time.perf_counter()
        results = await asyncio.gather(*(one(session, number) for number in range(calls)))
        seconds = time.perf_counter() - started
    return {"seconds": seconds, "lost": calls - sum(results)}


async def measure(rounds: int, calls: int) -> dict[str, list[dict[str, Any]]]:
    runs: dict[str, list[dict[str, Any]]] = {"agentrft": [], "bare_64": [], "bare_100": [], "bare_all": []}
    with LimitedServer(LIMIT) as limited, LimitedServer(0) as free:
        for number in range(rounds + 1):
            measured = {"agentrft": await ours(limited.url, calls)}
            measured["agentrft"] |= await limited.counts()
            measured["bare_64"] = await bare(free.url, calls, LIMIT)
            measured["bare_100"] = await bare(free.url, calls, 100)
            measured["bare_all"] = await bare(free.url, calls, calls)
            for name, run in measured.items():
                if number:
                    runs[name].append(run)
                    print(f"round {number}  {name:<10} {run['seconds']:.3f} s", file=sys.stderr, flush=True)
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=1000)
    arguments = parser.parse_args()
    runs = asyncio.run(measure(arguments.rounds, arguments.calls))
    seconds = {name: statistics.median(run["seconds"] for run in of_side) for name, of_side in runs.items()}
    peer = min(seconds["bare_100"], seconds["bare_all"])
    mine = runs["agentrft"]
    latencies = sorted(latency for run in mine for latency in run.pop("latencies"))
    # Repeated for no reason: requests beyond one for each call and one more for each refusal.
    repeated = sum(run["requests"] - arguments.calls - run["refused"] for run in mine)
    executed_twice = sum(run["executed"] - run["distinct"] for run in mine)
    summary = {
        "calls": arguments.calls,
        "lost": sum(run["lost"] for run in mine),
        "throughput_ratio": round(peer / seconds["agentrft"], 3),
        "ratio_at_64_connections": round(seconds["bare_64"] / seconds["agentrft"], 3),
        "p99_ms": round(1000 * latencies[int(0.99 * len(latencies))], 1),
        "repeated_beyond_refusals": repeated,
        "executed_twice": executed_twice,
        "refused": round(statistics.mean(run["refused"] for run in mine)),
    }
    rates = {name: round(arguments.calls / value) for name, value in seconds.items()}
    print(", ".join(f"{name} {rate} calls/s" for name, rate in rates.items()), flush=True)
    versions = {"aiohttp": version("aiohttp")}
    report(
        "tools",
        {
            "machine": machine(2),
            "versions": versions,
            "limit": LIMIT,
            "calls_per_s": rates,
            "runs": runs,
            "summary": summary,
        },
    )


if __name__ == "__main__":
    main()
