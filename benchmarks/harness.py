"""Running workers in turn, and writing down what came out, with the machine that it came out of."""

import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
OURS = ROOT / ".venv" / "bin" / "python"
MATMUL = """
import json, sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
rates = {}
for name in ("bfloat16", "float32"):
    # A processor that does not multiply in this precision natively takes half a minute for the large ones.
    for size in (256, 2048):
        left, right = (torch.randn(size, size, dtype=getattr(torch, name)) for _ in range(2))
        left @ right
        best = float("inf")
        for _ in range(10):
            started = time.perf_counter()
            left @ right
            best = min(best, time.perf_counter() - started)
        rates[name] = round(2 * size**3 / best / 1e9, 1)
        if rates[name] < 5:
            break
print(json.dumps(rates))
"""


class Worker:
    """A process that speaks `benchmarks.protocol`; made ready by entering it.

    Args:
        python: of the environment that it runs in.
        module: such as "benchmarks.ours.engine".
        config: becomes its configuration file; `threads` is in it.
        root: the checkout whose code it runs, where that is not this one.
    """

    def __init__(self, python: Path, module: str, config: Mapping[str, Any], root: Path = ROOT) -> None:
        self._python, self._module, self._config, self._root = python, module, config, root
        self.versions: dict[str, str] = {}

    def __enter__(self) -> "Worker":
        self._folder = tempfile.TemporaryDirectory(prefix="agentrft-bench-")
        path = Path(self._folder.name, "config.json")
        path.write_text(json.dumps(self._config), encoding="utf-8")
        self._errors = Path(self._folder.name, "stderr").open("w+", encoding="utf-8")
        self._process = subprocess.Popen(
            [str(self._python), "-m", self._module, str(path)],
            cwd=self._root,
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(self._config["threads"]),
                "PYTHONPATH": f"{self._root / 'src'}{os.pathsep}{self._root}",
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.versions = self._read()["versions"]
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._errors.close()
        self._folder.cleanup()

    def run(self, seed: int) -> dict[str, Any]:
        """One repetition."""
        self._tell({"seed": seed})
        return self._read()

    def train(self, seed: int, go_on: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """One whole training by a worker that trains; `go_on` sees each step and decides."""
        self._tell({"seed": seed})
        while "step" in (told := self._read()):
            self._tell({"go_on": go_on(told)})
        return told

    def _tell(self, values: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(values) + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            self._errors.seek(0)
            raise SystemExit(f"{self._module} ended:\n{self._errors.read()[-3000:]}")
        return json.loads(line)


def take_turns(workers: Mapping[str, Worker], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Every worker once a round, so that a slow minute of the machine meets all of them.

    A round that nobody counts comes first.
    """
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in workers}
    for seed in range(rounds + 1):
        for name, worker in workers.items():
            measured = worker.run(seed)
            if seed:
                runs[name].append(measured)
                print(f"round {seed}  {name:<12} {measured['seconds']:.2f} s", file=sys.stderr, flush=True)
    return runs


def measure(
    sides: Mapping[str, tuple[Path, str]], config: Mapping[str, Any], rounds: int
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, Any]]:
    """All runs by side, each side's Python and module in turn, and the versions of what ran."""
    with ExitStack() as stack:
        workers = {name: stack.enter_context(Worker(*side, config)) for name, side in sides.items()}
        return take_turns(workers, rounds), {name: worker.versions for name, worker in workers.items()}


def median_of(runs: Sequence[Mapping[str, Any]], value: str) -> float:
    return statistics.median(run[value] for run in runs)


def machine(threads: int) -> dict[str, Any]:
    """What the numbers were measured on, its own rate of matrix products in GFLOP/s among it."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    rates = subprocess.run([str(OURS), "-c", MATMUL, str(threads)], capture_output=True, text=True, check=True)
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "matmul_gflops": json.loads(rates.stdout),
    }


def report(name: str, result: Mapping[str, Any]) -> None:
    """Keep the result as `results/NAME.json`, and print its `summary` as the last line."""
    RESULTS.mkdir(exist_ok=True)
    dated = {"benchmark": name, "date": datetime.now(UTC).isoformat(timespec="seconds"), **result}
    (RESULTS / f"{name}.json").write_text(json.dumps(dated, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result["summary"]), flush=True)


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()
