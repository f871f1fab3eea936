"""Fifty clients that poll `/healthz`, and fifty that poll a job's status, while others ask for what is heavy.

    python -m benchmarks.stalls [--clients 50] [--interval-s 0.5] [--seconds 15]

One server and one job of the built-in model, which trains for a step first, so that there are weights to merge. Then
each kind of heavy request in turn is made again and again, by several clients at once, many of which hang up; what the
pollers see meanwhile is told by kind, beside what as many pollers see of a server that does nothing else. Last, the
server is asked to end while all of it goes on. The last line on standard output is a JSON object.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any

import httpx
import numpy
import psutil
from openai import OpenAI

from benchmarks.harness import OURS, ROOT, machine, report
from benchmarks.pollers import Clients

MB = 1 << 20
BUSY = "def grade(sample, item):\n    while True:\n        pass\n"
# The third is a server that does nothing else: what its clients see is the machine's, and no work of ours.
WATCHED = HEALTH, STATUS, BARE = "health", "status", "bare server"
NONE: dict[str, Any] = {"latencies": [], "failed": 0}
Attack = Callable[[httpx.AsyncClient], Awaitable[object]]


def train(client: OpenAI) -> Any:
    """A job that has succeeded after one short step."""
    rows = [{"messages": [{"role": "user", "content": f"Say {word}."}]} for word in ("rain", "bread", "chess", "ants")]
    content = "\n".join(map(json.dumps, rows)).encode()
    made = client.files.create(file=("train.jsonl", content), purpose="fine-tune")
    training_file = client.files.wait_for_processing(made.id, poll_interval=0.2).id
    job = client.fine_tuning.jobs.create(
        model="smollm2-135m",
        training_file=training_file,
        method={
            "type": "reinforcement",
            "reinforcement": {
                "grader": {
                    "type": "string_check",
                    "input": "{{ sample.output_text }}",
                    "reference": "a",
                    "operation": "like",
                },
                "hyperparameters": {
                    "batch_size": 1,
                    "compute_multiplier": 0.25,
                    "max_steps": 1,
                    "max_tokens_per_turn": 8,
                    "max_context_tokens": 128,
                },
            },
        },  # type: ignore[arg-type,typeddict-unknown-key]
    )
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.5)
        job = client.fine_tuning.jobs.retrieve(job.id)
    if job.status != "succeeded":
        raise RuntimeError(f"the job {job.status}: {job.error}")
    return job


def similarity(metric: str, text: str) -> dict[str, Any]:
    grader = {"type": "text_similarity", "name": "s", "evaluation_metric": metric}
    grader |= {"input": "{{ sample.output_text }}", "reference": "{{ item.text }}"}
    return {"grader": grader, "model_sample": text, "item": {"text": text[::-1]}}


async def megabytes(count: int, head: bytes = b"") -> AsyncIterator[bytes]:
    yield head
    for _ in range(count):
        yield b" " * MB


FORM = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
FORM_TYPE = {"Content-Type": "multipart/form-data; boundary=b"}
JSON_TYPE = {"Content-Type": "application/json"}


def attacks(url: str, model: str) -> dict[str, tuple[int, float, Attack]]:
    """By name: how many clients, after how many seconds they hang up, and what each asks for."""
    run = f"{url}/fine_tuning/alpha/graders/run"
    words = " ".join(f"word{number % 997}" for number in range(5000))
    rows = b'{"messages": [{"role": "user", "content": "hello there"}], "a": [1, 2, 3]}\n' * 200_000
    parts: dict[str, Any] = {}

    async def parts_300(client: httpx.AsyncClient) -> httpx.Response:
        if not parts:
            upload = {"filename": "a", "purpose": "fine-tune", "bytes": 300 * MB, "mime_type": "text/plain"}
            parts["id"] = (await client.post(f"{url}/uploads", json=upload)).json()["id"]
            files = {"data": ("part", b" " * MB)}
            parts["part"] = (await client.post(f"{url}/uploads/{parts['id']}/parts", files=files)).json()["id"]
        return await client.post(f"{url}/uploads/{parts['id']}/complete", json={"part_ids": [parts["part"]] * 300})

    grader = {"type": "python", "name": "busy", "source": BUSY, "trusted": True}
    busy = {"grader": grader, "model_sample": "", "item": {}}
    deep = {"type": "python", "name": "deep", "source": "def grade(s, i): return 1" + "+1" * 60_000, "trusted": True}
    new_file = {"files": {"file": ("rows.jsonl", rows)}, "data": {"purpose": "fine-tune"}}
    return {
        "rouge_l of 5,000 words": (8, 60, lambda client: client.post(run, json=similarity("rouge_l", words))),
        "rouge_l, hung up": (8, 0.2, lambda client: client.post(run, json=similarity("rouge_l", words))),
        "fuzzy_match of 400 kB": (
            8,
            60,
            lambda client: client.post(run, json=similarity("fuzzy_match", "ab" * 200_000)),
        ),
        "a grader that never ends": (8, 2, lambda client: client.post(run, json=busy)),
        "a grader of 120 kB": (2, 60, lambda client: client.post(f"{run[:-3]}validate", json={"grader": deep})),
        "42 merged downloads": (42, 1, lambda client: client.get(f"{url}/models/{model}/merged")),
        "42 adapters": (42, 1, lambda client: client.get(f"{url}/models/{model}/adapter")),
        "multipart of 700 MB": (
            1,
            60,
            lambda client: client.post(f"{url}/files", content=megabytes(700, FORM), headers=FORM_TYPE),
        ),
        "JSON of 200 MB": (
            2,
            60,
            lambda client: client.post(f"{url}/fine_tuning/jobs", content=megabytes(200), headers=JSON_TYPE),
        ),
        "one part 300 times": (2, 60, parts_300),
        "files of 15 MB": (2, 60, lambda client: client.post(f"{url}/files", **new_file)),  # type: ignore[arg-type]
    }


async def repeat(count: int, hang_up_s: float, attack: Attack, until: float) -> list[int]:
    """Statuses of the answers, from clients that ask again and again; 0 for none."""
    statuses: list[int] = []

    async def one(client: httpx.AsyncClient) -> None:
        while time.monotonic() < until:
            status = 0
            with suppress(httpx.HTTPError, TimeoutError):
                answer: Any = await asyncio.wait_for(attack(client), hang_up_s)
                status = answer.status_code if answer is not None else 0
            statuses.append(status)

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    async with httpx.AsyncClient(timeout=120, limits=limits, verify=False) as client:
        await asyncio.gather(*(one(client) for _ in range(count)))
    return statuses


async def measure(
    arguments: argparse.Namespace, url: str, job: Any, server: subprocess.Popen[str], bare_port: int
) -> dict[str, Any]:
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    polled = {
        HEALTH: (port, ("/healthz",)),
        STATUS: (port, (f"/v1/fine_tuning/jobs/{job.id}",)),
        BARE: (bare_port, ("/2",)),
    }
    pollers = {name: Clients(arguments.clients, arguments.interval_s) for name in WATCHED}
    process = psutil.Process(server.pid)
    told: dict[str, dict[str, Any]] = {}

    async def quiet(_: httpx.AsyncClient) -> None:
        await asyncio.sleep(1)

    kinds = {"nobody else": (1, 60.0, quiet), **attacks(url, job.fine_tuned_model)}
    kinds = {name: kind for name, kind in kinds.items() if arguments.only in name}
    for name, (count, hang_up_s, attack) in kinds.items():
        for watched in WATCHED:
            pollers[watched].poll(name, *polled[watched])
        await asyncio.sleep(1)
        statuses = await repeat(count, hang_up_s, attack, time.monotonic() + arguments.seconds)
        for watched in WATCHED:
            pollers[watched].poll()
        answers = {str(one): statuses.count(one) for one in sorted(set(statuses))}
        rss = round(process.memory_info().rss / MB)
        told[name] = {"answers": answers, "server_mb": rss, "load": round(os.getloadavg()[0], 1)}
        print(f"{name}: {told[name]}", file=sys.stderr, flush=True)
        await asyncio.sleep(1)
    found = {watched: await asyncio.to_thread(pollers[watched].end) for watched in WATCHED}
    for name in told:
        for watched in WATCHED:
            seen = found[watched].get(name, NONE)
            told[name][watched] = {
                "requests": len(seen["latencies"]),
                "failed": seen["failed"],
                **({f"p{share}_ms": percentile_ms(seen["latencies"], share) for share in (50, 99, 100)}),
            }
    stalled = [name for name in told if name != "nobody else"]
    overall = {
        watched: percentile_ms([one for name in stalled for one in found[watched].get(name, NONE)["latencies"]], 99)
        for watched in WATCHED
    }
    return {"clients_of_each": arguments.clients, "p99_ms_of_all_stalls": overall, "kinds": told}


async def end_in_the_middle(url: str, job: Any, server: subprocess.Popen[str]) -> float:
    """Seconds from SIGTERM to the server's end, with everything going on."""
    until = time.monotonic() + 60
    kinds = attacks(url, job.fine_tuned_model)
    going = [asyncio.create_task(repeat(count, 60, attack, until)) for count, _, attack in kinds.values()]
    await asyncio.sleep(5)
    started = time.monotonic()
    server.terminate()
    await asyncio.to_thread(server.wait, 60)
    seconds = time.monotonic() - started
    for task in going:
        task.cancel()
    await asyncio.gather(*going, return_exceptions=True)
    return round(seconds, 1)


def percentile_ms(latencies: list[float], share: float) -> float:
    return round(1000 * float(numpy.percentile(latencies, share)), 1) if latencies else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--interval-s", type=float, default=0.5)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each kind of heavy request")
    parser.add_argument("--only", default="", help="kinds whose name has this")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory() as folder:
        command = [str(OURS), "-m", "agentrft.cli", "serve", "--port", "0", "--data-dir", folder, "--allow-code"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        bare = subprocess.Popen(
            [str(OURS), "-m", "benchmarks.bare_server"], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        try:
            assert server.stdout is not None and bare.stdout is not None
            url = server.stdout.readline().split()[-1]
            job = train(OpenAI(base_url=url, api_key="none"))
            summary = asyncio.run(measure(arguments, url, job, server, int(bare.stdout.readline())))
            print(json.dumps(summary), file=sys.stderr, flush=True)
            summary["seconds_to_end"] = asyncio.run(end_in_the_middle(url, job, server))
        finally:
            bare.kill()
            bare.wait()
            server.kill()
            server.wait()
    report("stalls", {"machine": machine(2), "summary": summary})


if __name__ == "__main__":
    main()
