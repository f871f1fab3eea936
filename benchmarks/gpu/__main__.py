"""python -m benchmarks.gpu [--device cpu] [--small] [--out FOLDER] [--commit SHA]; see scripts/gpu_check.sh.

Writes FOLDER/gpu_check-DEVICE.json; the exit code says whether everything was right.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
# In all, with what comes before this program begins: ten minutes.
LIMIT_S = 540.0
# With its index, as jobs name it.
DEVICES = {"cuda": "cuda:0", "cpu": "cpu"}


@dataclass(frozen=True)
class Part:
    """One part of the check.

    Attributes:
        name: in the result.
        module: of this package; its `run` does it.
        budget_s: that it is ended after.
        model: of `models.SHAPES`.
    """

    name: str
    module: str
    budget_s: float
    model: str | None = None


FACTS, PARITY = Part("machine", "facts", 60), Part("parity", "parity", 150)
JOB = Part("job", "agent_job", 90)
RANKS = Part("ranks", "ranks", 90)
PAGING = Part("paging-qwen3-4b", "paging", 40, "qwen3-4b")
MODELS = [
    Part(f"{what}-{model}", module, budget_s, model)
    for model, budget_s in (("qwen3-0.6b", 90.0), ("qwen3-4b", 100.0))
    for what, module in (("decoding", "decoding"), ("update", "updating"))
]
MEMORY = [
    Part("long-context-qwen3-4b", "long_context", 60, "qwen3-4b"),
    Part("out-of-memory-qwen3-0.6b", "out_of_memory", 60, "qwen3-0.6b"),
]
SMALL = [
    Part("decoding-qwen3-tiny", "decoding", 60, "qwen3-tiny"),
    Part("update-qwen3-tiny", "updating", 60, "qwen3-tiny"),
    Part("paging-qwen3-tiny", "paging", 60, "qwen3-tiny"),
    Part("long-context-qwen3-tiny", "long_context", 60, "qwen3-tiny"),
    Part("out-of-memory-qwen3-tiny", "out_of_memory", 60, "qwen3-tiny"),
]


def main() -> None:
    arguments = _arguments()
    started, parts = time.monotonic(), _parts(arguments)
    # Small parts go together, since starting takes longer than they do; others have a process and the GPU alone.
    groups = [parts] if arguments.small else [[part] for part in parts]
    found: dict[str, dict[str, Any]] = {}
    result: dict[str, Any] = {}
    for group in groups:
        left = LIMIT_S - (time.monotonic() - started)
        for name, one in _run(group, arguments, left).items():
            found[name] = one
            _tell(f"{name}: {'right' if one['ok'] else 'WRONG'}", started)
        # After each, so that there is a result also where all of this is ended.
        result = _written(found, arguments, whole=len(found) == len(parts), seconds=time.monotonic() - started)
        if not found.get(FACTS.name, {"ok": True})["ok"]:
            _tell("without what the machine can do there is nothing to compare with", started)
            break
    print(json.dumps({"file": result["file"], "ok": result["ok"], **result["summary"]}), flush=True)
    sys.exit(0 if result["ok"] else 1)


def _written(
    found: dict[str, dict[str, Any]], arguments: argparse.Namespace, *, whole: bool, seconds: float
) -> dict[str, Any]:
    """The result so far, as it is on disk; also where that is."""
    result = {
        "benchmark": "gpu_check",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": arguments.commit or _commit(),
        "small": arguments.small,
        "seconds": round(seconds, 1),
        "whole": whole,
        "ok": whole and all(one["ok"] for one in found.values()),
        "summary": _summary(found),
        "parts": found,
    }
    device = found.get(FACTS.name, {}).get("device", {}).get("name", arguments.device)
    # Some parts alone are no result to keep in the place of a whole one.
    name = " ".join(["gpu_check", device, *(arguments.only or ())])
    path = arguments.out / f"{re.sub('[^A-Za-z0-9_.]+', '-', name).strip('-')}.json"
    arguments.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return {**result, "file": str(path)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/gpu_check.sh", description="Everything once on a GPU.")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="shapes that a CPU computes in seconds")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the result")
    parser.add_argument("--only", action="append", metavar="PART", help="such as parity; may be given several times")
    parser.add_argument("--commit", help="that is measured, where there is no git to ask")
    return parser.parse_args()


def _parts(arguments: argparse.Namespace) -> list[Part]:
    every = [FACTS, PARITY, JOB, *(SMALL if arguments.small else [PAGING, *MODELS, *MEMORY]), RANKS]
    unknown = set(arguments.only or ()) - {part.name for part in every}
    if unknown:
        sys.exit(
            f"--only: there is no part {', '.join(sorted(unknown))}, but {', '.join(part.name for part in every)}."
        )
    return [part for part in every if not arguments.only or part.name in arguments.only]


def _run(parts: list[Part], arguments: argparse.Namespace, left_s: float) -> dict[str, dict[str, Any]]:
    """What the parts found, in one process; also of one that was ended, or never began."""
    with tempfile.TemporaryDirectory(prefix="agentrft-gpu-") as name:
        folder = Path(name)
        for part in parts:
            setting = {
                "module": part.module,
                "device": DEVICES[arguments.device],
                "small": arguments.small,
                "model": part.model,
            }
            (folder / f"{part.name}.setting.json").write_text(json.dumps(setting), encoding="utf-8")
        # Without agentrft's own way of starting an import takes half as long again.
        command = [sys.executable, "-m", "agentrft.program", "benchmarks.gpu.worker", str(folder)]
        # Nothing is fetched, neither a model nor a kernel.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        if arguments.device == "cpu":
            environment["CUDA_VISIBLE_DEVICES"] = ""
        process = subprocess.Popen(
            [*command, *(part.name for part in parts)], cwd=ROOT, env=environment, start_new_session=True
        )
        limit_s = max(0.0, min(left_s, sum(part.budget_s for part in parts)))
        ended = ""
        try:
            if process.wait(limit_s):
                ended = f"its process ended with {process.returncode}"
        except subprocess.TimeoutExpired:
            ended = f"it was ended after {limit_s:.0f} s"
            # With all that it started.
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return {part.name: _found(folder / f"{part.name}.json", ended) for part in parts}


def _found(path: Path, ended: str) -> dict[str, Any]:
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"checks": []}
    if not found.pop("finished", False):
        found["error"] = ended or "it did not begin"
    checks = found.pop("checks")
    return {"ok": "error" not in found and all(check["ok"] for check in checks), **found, "checks": checks}


def _summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The numbers that the design has goals for, by part."""
    names = ("decode_tokens_per_s", "decode_share_of_bandwidth", "update_s", "update_share_of_matmul")
    numbers = {f"{part}: {name}": round(one[name], 3) for part, one in found.items() for name in names if name in one}
    wrong = [
        f"{check['what']}: {check['error']}" if "error" in check else check["what"]
        for one in found.values()
        for check in one["checks"]
        if not check["ok"]
    ]
    wrong += [f"{part}: {one['error']}" for part, one in found.items() if "error" in one]
    return {**numbers, "wrong": wrong}


def _commit() -> str | None:
    asked = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _tell(text: str, started: float) -> None:
    print(f"[{time.monotonic() - started:4.0f} s] {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
