"""The check for GPUs, on a CPU: what it would say there, in small shapes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.pack import LEFT_OUT, needed

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.sh"
FAMILIES = ("qwen3", "qwen3_5", "gpt_oss", "gemma3")


def run(out: Path, *options: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    command = [str(SCRIPT), "--device", "cpu", "--small", "--out", str(out), "--commit", "0123abc", *options]
    # Not the interpreter of .venv, which need not be the one that runs the tests.
    done = subprocess.run(
        command,
        env={**os.environ, "PYTHON": sys.executable, "GPU_WHEELS": str(out / "none"), **environment},
        capture_output=True,
        text=True,
        timeout=480,
    )
    (result,) = out.glob("gpu_check-*.json")  # named after the processor
    return done, json.loads(result.read_text())


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    done, result = run(tmp_path_factory.mktemp("gpu"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1])["wrong"] == []
    return result


def test_everything_is_right_on_a_cpu(checked: dict[str, Any]) -> None:
    assert checked["ok"] and checked["whole"] and checked["small"] and checked["commit"] == "0123abc"
    assert list(checked["parts"]) == [
        "machine",
        "parity",
        "job",
        "decoding-qwen3-tiny",
        "update-qwen3-tiny",
        "paging-qwen3-tiny",
        "long-context-qwen3-tiny",
        "out-of-memory-qwen3-tiny",
        "ranks",
    ]
    assert all(part["ok"] and part["seconds"] > 0 for part in checked["parts"].values())


def test_learner_and_engine_are_looked_at_for_each_family_in_both_precisions(checked: dict[str, Any]) -> None:
    checks = {check["what"]: check for check in checked["parts"]["parity"]["checks"]}
    for family in FAMILIES:
        for precision, largest in (("float32", 1e-4), ("bfloat16", 1.0)):
            for what in ("tree, log-probabilities", "engine, log-probabilities"):
                assert 0 < checks[f"{family}, {precision}: {what}, largest"]["measured"] < largest
            assert checks[f"{family}, {precision}: tree, gradient, relative"]["ok"]


def test_rates_are_shares_of_what_the_machine_can_do(checked: dict[str, Any]) -> None:
    machine, parts = checked["parts"]["machine"], checked["parts"]
    assert machine["copy_bytes_per_s"] > 0 and machine["matmul_flops_per_s"]["float32"] > 0
    assert parts["paging-qwen3-tiny"]["8 x 128"]["gathered_ms"] > 0
    decoding, update = parts["decoding-qwen3-tiny"], parts["update-qwen3-tiny"]
    assert decoding["decode_tokens_per_s"] > 0 and 0 < decoding["decode_share_of_bandwidth"] < 1
    assert decoding["predicted_bytes"]["weights"] == 4 * decoding["parameters"]
    assert update["unique_tokens"] == 32 + 8 * 24 and 0 < update["update_share_of_matmul"] < 1
    assert update["update_profile"]["top"] and update["grad_norm"] > 0


def test_memory_follows_tokens_and_a_pass_without_room_for_it_is_halved(checked: dict[str, Any]) -> None:
    long, short = checked["parts"]["long-context-qwen3-tiny"], checked["parts"]["out-of-memory-qwen3-tiny"]
    assert long["at_once"] == {"reserved": 2, "paged": 8} and long["most_pages"] == {"reserved": 2, "paged": 8}
    assert set(long["seconds_by_way"]) == {"reserved", "paged"}
    assert short["passes_halved"] >= 1 and short["passes_without"] > short["passes_with_room"]


def test_a_job_takes_three_steps_with_a_tool(checked: dict[str, Any]) -> None:
    job = checked["parts"]["job"]
    assert job["status"] == "succeeded" and job["tool_calls"] > 0
    assert [step["step"] for step in job["steps"]] == [1, 2, 3]
    assert all(step["logprob_gap_mean"] < 1e-4 for step in job["steps"])


def test_two_processes_at_once_compute_what_one_without_ranks_does(checked: dict[str, Any]) -> None:
    found = checked["parts"]["ranks"]
    assert {check["what"].removeprefix("ranks: gradients of ") for check in found["checks"]} == {
        "all weights in shards",
        "adapters in shards",
    }
    assert all(0 <= check["measured"] < 1e-5 for check in found["checks"])


def test_a_part_that_breaks_is_told_and_the_others_go_on(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(
        "import sys, types\n"
        "agent_job = types.ModuleType('benchmarks.gpu.agent_job')\n"
        "def run(setting, findings):\n"
        "    raise RuntimeError('CUDA error: out of patience')\n"
        "agent_job.run = run\n"
        "sys.modules['benchmarks.gpu.agent_job'] = agent_job\n"
    )
    done, result = run(tmp_path / "out", "--only", "job", "--only", "update-qwen3-tiny", PYTHONPATH=str(broken))
    assert done.returncode == 1 and not result["ok"]
    assert {name: part["ok"] for name, part in result["parts"].items()} == {"job": False, "update-qwen3-tiny": True}
    assert "RuntimeError: CUDA error: out of patience" in json.dumps(result["parts"]["job"]["checks"])
    assert result["summary"]["wrong"] == ["job: RuntimeError: CUDA error: out of patience"]


def test_a_part_that_there_is_not_is_refused(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(SCRIPT), "--only", "speed"],
        env={**os.environ, "PYTHON": sys.executable, "GPU_WHEELS": str(tmp_path)},
        text=True,
        capture_output=True,
    )
    assert (
        done.returncode == 1
        and "no part speed, but machine, parity, job, paging-qwen3-4b, decoding-qwen3-0.6b" in done.stderr
    )


def test_what_is_taken_along_has_all_that_a_job_imports_and_nothing_that_is_there() -> None:
    taken = needed("agentrft") - LEFT_OUT
    assert {"sqlalchemy", "aiohttp", "renderers", "pydantic-core", "jsonschema-rs", "alembic", "jaxtyping"} <= taken
    assert not {"torch", "transformers", "peft", "numpy", "pyarrow"} & taken
