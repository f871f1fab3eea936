"""The pages over a finished job of 100,000 rollouts: how fast each answers, and what memory they take.

    python -m benchmarks.dashboard [--rollouts 100000] [--steps 20] [--asks 30]

The rollouts are those of the tests' toy agent, which learns to write bold text because its grader pays for it. The
pages are asked over loopback by one client, one request after another; the memory is that of `agentrft dashboard` when
it has answered all of them, less what it had when it began to listen. The process that looks through the rollouts is
another one, and is told apart. The last line on standard output is a JSON object.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy
import psutil

from agentrft.store import JobStore
from benchmarks.harness import OURS, ROOT, machine, report
from tests.dashboard.stored_runs import stored_job
from tests.report.why.planted import Run

ROLLOUTS = 8
MB = 1 << 20
FACTS_S = 3600
# Kinds of pages, and what the issue of each was: a filter within 0.3 s, the others within 1 s.
PAGES = {
    "overview": "",
    "why": "/why",
    "why, one behaviour": "/why?behaviour=uses+bold+text",
    "groups of a step": "/groups?step=7",
    "rollouts": "/rollouts",
    "filter: behaviour": "/rollouts?behaviour=uses+bold+text&sort=reward&order=desc",
    "filter: text": "/rollouts?text=certified",
    "filter: reward and tool": "/rollouts?low=0.4&high=0.6&tool=search&sort=tokens",
    "filter: sample": "/rollouts?sample=s3-7",
    "compare": "/compare?phase=validation",
    "samples": "/data",
    "tools": "/tools",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollouts", type=int, default=100_000)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--asks", type=int, default=30, help="of each page; one that nobody counts comes first")
    parser.add_argument("--runs", type=Path, help="where the rollouts are kept, and taken from if they are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentrft-pages-") as folder:
        runs = arguments.runs or Path(folder)
        with JobStore(runs) as store:
            there = [job.job_id for job in store.list_jobs()]
        job_id = there[0] if there else _write(runs, arguments.rollouts, arguments.steps)
        result = _measure(runs, job_id, arguments.asks)
    report("dashboard", {"machine": machine(2), "rollouts": arguments.rollouts, "steps": arguments.steps, **result})


def _write(folder: Path, rollouts: int, steps: int) -> str:
    samples = max(1, rollouts // steps // ROLLOUTS)
    run = Run(lambda case: 0.5 * case.is_right + 0.5 * case.took["uses bold"], steps=steps, samples=samples, rate=0.15)
    print(f"writing {samples * ROLLOUTS * steps} rollouts ...", file=sys.stderr, flush=True)
    with JobStore(folder) as store:
        return stored_job(store, run.rolled_out())


def _measure(folder: Path, job_id: str, asks: int) -> dict[str, Any]:
    command = [str(OURS), "-m", "agentrft.cli", "dashboard", str(folder), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert server.stdout is not None
        found = re.search(r"http://[0-9.:]+", server.stdout.readline())
        assert found is not None
        process = psutil.Process(server.pid)
        before = process.memory_info().rss
        base = f"{found[0]}/jobs/{job_id}"
        with httpx.Client(timeout=60) as client:
            facts_s = _wait_for_facts(client, base)
            latencies = {name: _latencies(client, f"{base}{path}", asks) for name, path in PAGES.items()}
        memory = process.memory_info().rss - before
    finally:
        server.terminate()
        server.wait()
    p95 = {name: round(float(numpy.percentile(values, 95)), 4) for name, values in latencies.items()}
    summary = {
        "p95_s": p95,
        "filter_p95_s": max(value for name, value in p95.items() if name.startswith("filter")),
        "memory_mb": round(memory / MB),
        "facts_s": round(facts_s, 1),
    }
    return {"summary": summary, "latencies_s": latencies}


def _wait_for_facts(client: httpx.Client, base: str) -> float:
    """Seconds until all rollouts are looked through."""
    started = time.monotonic()
    while time.monotonic() - started < FACTS_S:
        if client.get(f"{base}/why.json").json()["steps_missing"] == 0:
            return time.monotonic() - started
        time.sleep(2)
    raise SystemExit("the facts were not made in time")


def _latencies(client: httpx.Client, url: str, asks: int) -> list[float]:
    found: list[float] = []
    for _ in range(asks + 1):
        started = time.perf_counter()
        answer = client.get(url)
        found.append(time.perf_counter() - started)
        assert answer.status_code == 200, f"{url}: {answer.status_code} {answer.text[:200]}"
    print(
        f"{url.rpartition('/')[2]:<50} {json.dumps([round(one, 3) for one in found[:3]])}", file=sys.stderr, flush=True
    )
    return found[1:]


if __name__ == "__main__":
    main()
