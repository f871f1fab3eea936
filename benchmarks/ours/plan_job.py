"""A short job of the quickstart's task, with the machine's rates as they are before and after each of its steps.

    python -m benchmarks.ours.plan_job FOLDER STEPS THREADS [GROUPS [START]]

START is a checkpoint of an earlier run, which saves the warm start. Where other work has the cores, wall time says more
of that work than of the job: rates and steps are told in the process's own processor time, too. It runs in a process of
its own, whose memory is then the job's. The last line on standard output is a JSON object.
"""

import asyncio
import json
import os
import re
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch

from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.models.load import dtype_on
from agentrft.spec import JobSpec, parse_job
from benchmarks.agent import EXAMPLE, TOOL_PATH, job

SUSTAINED_S = 4.0
PRODUCT = 2048
COPIED = 1 << 28


class _Rates(NoProgress):
    """Measures the machine whenever a step is committed."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._began = 0.0
        self.seen: list[dict[str, float]] = []
        self.processor_s: list[float] = []

    def phase(self, name: str, step: int, total: int) -> None:
        if name == "train" and not self.seen:
            self._look()
            self._began = time.process_time()

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        if phase == "train":
            spent = (time.process_time() - self._began) / torch.get_num_threads()
            print(f"step {step}: {metrics['step_s']:.0f} s, {spent:.0f} of a core", file=sys.stderr, flush=True)
            self.processor_s.append(spent)
            self._look()
            self._began = time.process_time()

    def _look(self) -> None:
        """What products and copies reach for some seconds, with all else that the machine does."""
        left, right = (torch.randn(PRODUCT, PRODUCT).to(self._dtype) for _ in range(2))
        source = torch.zeros(COPIED, dtype=torch.uint8)
        target = torch.empty_like(source)
        products, copies = (
            _each_second(work) for work in (lambda: torch.matmul(left, right), lambda: target.copy_(source))
        )
        self.seen.append(
            {
                name: value
                for clock in ("wall", "processor")
                for name, value in (
                    (f"{clock}_flops", 2 * PRODUCT**3 * products[clock]),
                    (f"{clock}_bandwidth", 2 * COPIED * copies[clock]),
                )
            }
        )


def main() -> None:
    folder, steps, threads = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    groups = int(sys.argv[4]) if len(sys.argv) > 4 else 8
    start = Path(sys.argv[5]) if len(sys.argv) > 5 else None
    torch.set_num_threads(threads)
    dtype = dtype_on(torch.device("cpu"), "auto")
    server, url = _server()
    rates = _Rates(dtype)
    before = _peak_bytes()
    try:
        spec = _spec(folder, steps, url, groups, start)
        store, job_id = create_job(spec)
        asyncio.run(run_job(spec, store, job_id, progress=rates, stop=Stop()))
        metrics = store.metrics(job_id)
    finally:
        server.terminate()
        server.wait()
    result = {"job": job_id, "peak_bytes": _peak_bytes(), "imported_bytes": before, "rates": rates.seen}
    result |= {"processor_s": rates.processor_s, "load_average": os.getloadavg()}
    print(json.dumps({**result, "itemsize": dtype.itemsize, "metrics": metrics}))


def _spec(folder: Path, steps: int, url: str, groups: int, start: Path | None) -> JobSpec:
    raw = job()
    inner = raw["method"]["reinforcement"]
    inner["tools"][0]["server_url"] = f"{url}{TOOL_PATH}"
    inner["hyperparameters"] |= {"max_steps": steps, "batch_size": groups}
    del raw["validation_file"]
    if start is None:
        raw["warm_start"]["n_epochs"] = 1
    else:
        del raw["warm_start"]
        raw["start_from"] = str(start)
    raw["output_dir"] = str(folder)
    return parse_job(raw, folder=EXAMPLE)


def _server() -> tuple[subprocess.Popen[str], str]:
    """The example's tool server on a free port."""
    command = [sys.executable, "-u", str(EXAMPLE / "server.py"), "--port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=EXAMPLE)
    assert server.stderr is not None
    for line in server.stderr:
        if found := re.search(r"http://[0-9.]+:[0-9]+", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return server, found[0]
    raise SystemExit("the tool server did not start")


def _each_second(work: Any) -> dict[str, float]:
    """How often in a second of the wall's clock, and of the processor's."""
    work()
    count, started, began = 0, time.perf_counter(), time.process_time()
    while (spent := time.perf_counter() - started) < SUSTAINED_S:
        work()
        count += 1
    return {"wall": count / spent, "processor": count * torch.get_num_threads() / (time.process_time() - began)}


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main()
