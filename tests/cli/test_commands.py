"""The whole path of a user, command by command, on a tiny model with a real tool server."""

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from agentrft.errors import UserError
from agentrft.job import resolve_reference
from agentrft.job.runtime import Runtime
from agentrft.models.forward import TransformersForward
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from tests.cli.commands import ENVIRONMENT, TIMEOUT_S, run_alone, run_here, start
from tests.job.tiny_job import one_thread, serving, write_job
from tests.traffic.chaos_server import ChaosServer, ok

LOGITS_TOLERANCE = 1e-3
PLAIN_TRANSFORMERS = """
import json, sys
sys.modules["agentrft"] = None
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
ids = json.loads(sys.argv[2])
with torch.no_grad():
    print(json.dumps(model(torch.tensor([ids])).logits[0, -1].tolist()))
assert tokenizer.chat_template
"""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, tool_server: ChaosServer
) -> tuple[Path, dict[str, Any]]:
    """A folder with a job that was trained by the command, and what the command said."""
    folder = tmp_path_factory.mktemp("trained")
    with one_thread(), pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_job(folder, tiny_model, tool_server.url)
        ran = run_here("train", "job.yaml", "--max-steps", "2", "--seed", "7", "--json")
    assert ran.code == 0, ran.stderr
    return folder, ran.answer


@pytest.fixture
def folder(trained: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the trained job."""
    monkeypatch.chdir(trained[0])
    return trained[0]


def test_help_needs_no_torch() -> None:
    source = (
        "import sys\nsys.argv = ['agentrft', '--help']\nfrom agentrft.cli.main import app\n"
        "try:\n    app()\nfinally:\n    assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    ran = subprocess.run(
        [sys.executable, "-c", source], env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert ran.returncode == 0, ran.stderr
    for command in ("init", "train", "baseline", "eval", "compare", "rollouts", "export", "models", "jobs", "events"):
        assert f"  {command} " in ran.stdout


def test_init_writes_a_project_and_names_its_files(tmp_path: Path) -> None:
    ran = run_here("init", str(tmp_path / "agent"), "--json")
    assert ran.code == 0
    assert str(tmp_path / "agent" / "job.yaml") in ran.answer["files"]
    assert run_here("init", str(tmp_path / "agent")).code == 2


def test_train_answers_with_one_object(trained: tuple[Path, dict[str, Any]]) -> None:
    answer = trained[1]
    assert answer["status"] == "succeeded"
    assert answer["steps"] == 2
    assert answer["best_step"] in (0, 1, 2)
    assert answer["validation_reward_best"] >= answer["validation_reward_last"]
    assert answer["validation_reward_first"] > 0
    assert (Path(answer["checkpoints"]) / "step-00002").is_dir()


def test_a_job_that_succeeded_is_not_resumed(folder: Path) -> None:
    ran = run_here("train", "--resume", "latest")
    assert ran.code == 2
    assert "has ended" in ran.stderr


def test_jobs_lists_it_with_its_hyperparameters(folder: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    (job,) = run_here("jobs", "--json").answer["jobs"]
    assert job["job_id"] == trained[1]["job"]
    assert job["best_validation_reward"] == trained[1]["validation_reward_best"]
    assert job["hyperparameters"]["max_steps"] == 2
    assert job["seed"] == 7
    assert "spec" not in job
    assert job["job_id"] in run_here("jobs").stdout


def test_events_and_models_name_the_job(folder: Path, trained: tuple[Path, dict[str, Any]]) -> None:
    assert "trainable" in run_here("events").stdout
    assert run_here("events", "latest", "--json").answer["events"][0]["level"] == "info"
    models = run_here("models", "--json").answer
    assert models["models"][0]["name"] == "smollm2-135m"
    assert [(one["job"], one["steps"]) for one in models["trained"]] == [(trained[1]["job"], [0, 1, 2])]


def test_rollouts_shows_the_conversation_and_the_grade(folder: Path) -> None:
    shown = run_here("rollouts", "latest", "--phase", "train", "--step", "1", "--limit", "8").stdout
    for text in (
        "user: Colour of",
        'assistant calls lookup({"word": "colour"})',
        "tool lookup: fine",
        "grade ",
        "trace_",
    ):
        assert text in shown
    worst = run_here("rollouts", "--phase", "train", "--step", "1", "--worst", "3", "--json").answer["rollouts"]
    best = run_here("rollouts", "--phase", "train", "--step", "1", "--best", "3", "--json").answer["rollouts"]
    assert [one["reward"] for one in worst] == sorted(one["reward"] for one in worst)
    assert worst[0]["reward"] < best[0]["reward"]
    newest = run_here("rollouts", "--json").answer
    assert newest["source"].endswith("validation-00002")
    one = newest["rollouts"][0]["sample_id"]
    assert {row["sample_id"] for row in run_here("rollouts", "--sample", one, "--json").answer["rollouts"]} == {one}


def test_rollouts_that_are_not_there_are_refused_with_those_that_are(folder: Path) -> None:
    ran = run_here("rollouts", "latest", "--step", "9")
    assert ran.code == 2
    assert "train-00001" in ran.stderr


def test_eval_measures_weights_and_writes_what_rollouts_reads(folder: Path) -> None:
    answer = run_here("eval", "latest@2", "--greedy", "--out", "greedy.parquet", "--json").answer
    assert answer["reference"].endswith("@2")
    assert (answer["temperature"], answer["rollouts"], answer["reward_std"]) == (0.0, 4, pytest.approx(0.0))
    assert len(read_rollouts(folder / "greedy.parquet")) == 4
    assert "4 of 4 rollouts" in run_here("rollouts", "greedy.parquet").stdout
    assert run_here("eval", "base").code == 2, "the base model alone has no samples"
    base = run_here("eval", "base", "--job", "job.yaml", "-k", "2", "--limit", "1", "--split", "train", "--json").answer
    assert (base["reference"], base["rollouts"], base["samples"]) == ("base", 2, 1)


def test_compare_measures_both_with_the_same_seeds(folder: Path) -> None:
    answer = run_here("compare", "latest@0", "latest@0", "-k", "2", "--latency-threshold-s", "60", "--json").answer
    measures = {measure["name"]: measure for measure in answer["comparison"]["measures"]}
    assert measures["reward"]["difference"] == measures["reward"]["low"] == measures["reward"]["high"] == 0
    assert measures["share over 60 s"]["b"] == 0
    assert answer["comparison"]["samples"] == 4
    shown = run_here("compare", "base", "latest@2", "--limit", "2")
    assert shown.code == 0
    assert "95 % interval" in shown.stdout


def test_check_answers_with_one_object_and_the_exit_code_of_what_would_fail_the_job(folder: Path) -> None:
    ran = run_here("check", "job.yaml", "--burst", "4", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.answer["ok"] and ran.answer["tools"][0]["burst"]["calls"] == 4
    assert {"data", "grader", "attacks", "estimate", "findings", "seconds"} <= ran.answer.keys()

    text = (folder / "job.yaml").read_text()
    (folder / "down.yaml").write_text(re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:9", text))
    ran = run_here("check", "down.yaml")
    assert ran.code == 3 and "error tool 'lookup'" in ran.stdout and "cannot be reached" in ran.stdout


def test_check_of_a_stored_job_looks_at_its_warm_start(folder: Path) -> None:
    ran = run_here("check", "latest", "--burst", "0", "--json")
    assert ran.code == 0, ran.stderr
    assert "before its warm start" not in ran.stdout and ran.answer["tools"][0]["burst"] is None


def test_grade_runs_a_grader_on_stored_rollouts_and_on_an_answer(folder: Path) -> None:
    ran = run_here("grade", "job.yaml", "--rollouts", "latest", "--phase", "validation", "--json")
    assert ran.code == 0, ran.stderr
    assert ran.answer["rollouts"] and all(one["before"] == one["after"] for one in ran.answer["rollouts"])

    text = (folder / "job.yaml").read_text()
    (folder / "half.yaml").write_text(text.replace("/ 20", "/ 40"))
    ran = run_here("grade", "half.yaml", "--rollouts", "latest", "--phase", "validation", "--json")
    assert all(one["after"] == pytest.approx(one["before"] / 2) for one in ran.answer["rollouts"] if one["before"] < 1)

    ran = run_here("grade", "job.yaml", "--answer", "0123456789")
    assert ran.code == 0 and "score 0.500" in ran.stdout
    calls = '[{"function": {"name": "lookup", "arguments": {"word": "a"}}}]'
    (folder / "calls.yaml").write_text(text.replace("output_text", "output_tools").replace("/ 20", "/ 4"))
    assert "score 0.250" in run_here("grade", "calls.yaml", "--answer", "x", "--output-tools", calls).stdout
    for faulty in ("[{", "{}", '[{"function": {}}]'):
        ran = run_here("grade", "calls.yaml", "--answer", "x", "--output-tools", faulty)
        assert ran.code == 2 and "output-tools" in ran.stderr + ran.stdout
    assert run_here("grade", "job.yaml", "--rollouts", "latest", "--output-tools", calls).code == 2
    job = yaml.safe_load(text)
    job["method"]["reinforcement"]["grader"] = {
        "type": "string_check",
        "input": "{{ sample.output_json.code }}",
        "reference": "x",
        "operation": "ne",
    }
    (folder / "json.yaml").write_text(yaml.safe_dump(job))
    ran = run_here("grade", "json.yaml", "--answer", "no JSON", "--json")
    assert (ran.code, ran.answer["after"], ran.answer["missing"]) == (0, 0.0, ["sample.output_json.code"])
    assert "sample.output_json.code" in ran.answer["reason"]
    ran = run_here("grade", "json.yaml", "--rollouts", "latest", "--phase", "validation")
    assert ran.code == 0 and "lack what the grader reads: sample.output_json.code" in ran.stdout
    (folder / "broken.yaml").write_text(text.replace("return min", "return none"))
    assert run_here("grade", "broken.yaml", "--answer", "x").code == 3
    assert run_here("grade", "job.yaml").code == 2
    assert run_here("grade", "job.yaml", "--answer", "x", "--row", "99").code == 2
    assert run_here("grade", "job.yaml", "--answer", "x", "--holdout", "none").code == 2


def test_baseline_measures_a_job_file_and_a_stored_jobs_warm_start(folder: Path) -> None:
    answer = run_here("baseline", "job.yaml", "--json").answer
    assert (answer["reference"], answer["k"], answer["verdict"]["trainable"]) == ("base", 4, True)
    stored = run_here("baseline", "latest", "-k", "2", "--limit", "2")
    assert stored.code == 0
    assert "trainable: mean reward" in stored.stdout
    assert "Read attempts: agentrft rollouts" in stored.stdout


def test_baseline_with_warm_start_leaves_a_job_that_train_goes_on_with(
    tmp_path: Path, tiny_model: Path, tool_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, tiny_model, tool_server.url, hyperparameters={"max_steps": 1})
    measured = run_here("baseline", "job.yaml", "--warm-start", "-k", "2", "--json")
    assert measured.code == 0, measured.stderr
    assert measured.answer["reference"] == f"{measured.answer['job']}@0"
    resumed = run_here("train", "--resume", measured.answer["job"], "--json")
    assert (resumed.code, resumed.answer["steps"]) == (0, 1)


def _policy_logits(folder: Path, reference: str, ids: list[int]) -> torch.Tensor:
    """Of the trained weights, as the learner has them."""
    with JobStore(folder / "runs") as store:
        runtime = Runtime(load_job(folder / "job.yaml"))
        resolve_reference(reference, store).apply(runtime.policy)
    runtime.policy.model.get_base_model().set_attn_implementation("sdpa")  # pyright: ignore
    with torch.no_grad():
        return runtime.policy.model(torch.tensor([ids])).logits[0, -1]


def test_exports_compute_what_the_policy_does_without_agentrft(folder: Path) -> None:
    ids = list(range(40, 72))
    expected = _policy_logits(folder, "latest@2", ids)
    for weights in ("merged", "adapter"):
        ran = run_here("export", "latest@2", "--format", weights, "--out", weights, "--json")
        assert ran.code == 0, ran.stderr
    assert "agentrft" not in (folder / "merged" / "config.json").read_text()
    assert {"model.safetensors", "chat_template.jinja", "generation_config.json", "tokenizer.json"} <= {
        path.name for path in (folder / "merged").iterdir()
    }
    assert "<tool_call>" in (folder / "merged" / "chat_template.jinja").read_text()
    alone = subprocess.run(
        [sys.executable, "-c", PLAIN_TRANSFORMERS, "merged", json.dumps(ids)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert alone.returncode == 0, alone.stderr
    assert torch.allclose(torch.tensor(json.loads(alone.stdout)), expected, atol=LOGITS_TOLERANCE)

    config = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert set(config) == {
        "base_model_name_or_path",
        "inference_mode",
        "lora_alpha",
        "peft_type",
        "r",
        "target_modules",
        "task_type",
    }, "older PEFT refuses keys that it does not know"
    assert config["target_modules"] == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    base = AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    base_logits = base(torch.tensor([ids])).logits[0, -1]
    adapted = PeftModel.from_pretrained(base, "adapter")
    with torch.no_grad():
        logits = adapted(torch.tensor([ids])).logits[0, -1]
    assert torch.allclose(logits, expected, atol=LOGITS_TOLERANCE)
    assert not torch.allclose(base_logits, expected, atol=LOGITS_TOLERANCE), "training changed something"
    AutoTokenizer.from_pretrained("adapter")

    again = run_here("export", "latest@2", "--format", "merged", "--out", "merged")
    assert again.code == 2
    assert "not empty" in again.stderr
    by_folder = run_here("eval", "adapter", "--job", "job.yaml", "--greedy", "--json").answer
    assert by_folder["reward_mean"] == run_here("eval", "latest@2", "--greedy", "--json").answer["reward_mean"]


def test_all_weights_are_exported_as_a_model_and_not_as_an_adapter(
    tmp_path: Path, tiny_model: Path, tool_server: ChaosServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_job(tmp_path, tiny_model, tool_server.url, hyperparameters={"lora_rank": "full", "max_steps": 1})
    assert run_here("train", "job.yaml").code == 0
    refused = run_here("export", "latest", "--format", "adapter", "--out", "adapter")
    assert refused.code == 2
    assert "--format merged" in refused.stderr
    assert run_here("export", "latest@1", "--format", "merged", "--out", "merged").code == 0
    ids = list(range(40, 72))
    merged = AutoModelForCausalLM.from_pretrained("merged")
    with JobStore(tmp_path / "runs") as store:
        runtime = Runtime(load_job(tmp_path / "job.yaml"))
        resolve_reference("latest@1", store).apply(runtime.policy)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model)
    runtime.policy.write_to(TransformersForward(plain))
    with torch.no_grad():
        logits = [model(torch.tensor([ids])).logits for model in (merged, plain)]
    assert torch.allclose(*logits, atol=LOGITS_TOLERANCE)


def test_ctrl_c_keeps_what_was_finished_and_resume_ends_the_job(tmp_path: Path, tiny_model: Path) -> None:
    # A slow tool, so that the signal comes while rollouts of the first step wait for it.
    with serving(ChaosServer(default=ok(delay_s=0.5))) as server:
        write_job(tmp_path, tiny_model, server.url, hyperparameters={"max_steps": 2})
        process = start("train", "job.yaml", folder=tmp_path)
        _wait_until(lambda: _committed(tmp_path / "runs", "validation"), process)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 130, stderr
        assert "Stopping after what is running is saved" in stderr
        assert "agentrft train --resume ftjob-" in stderr
        with JobStore(tmp_path / "runs", create=False) as store:
            job = store.find_job("latest")
            assert job.status == "interrupted"
            done = [(row["phase"], row["step"]) for row in store.metrics(job.job_id)]
        server.default = ok()
        resumed = run_alone("train", "--resume", "latest", "--json", folder=tmp_path)
    assert resumed.code == 0, resumed.stderr
    assert resumed.answer["steps"] == 2
    with JobStore(tmp_path / "runs", create=False) as store:
        assert [(row["phase"], row["step"]) for row in store.metrics(job.job_id)][: len(done)] == done


def test_a_second_ctrl_c_ends_at_once_whatever_is_running(tmp_path: Path, tiny_model: Path) -> None:
    # The tool takes longer to answer than the test waits for the process.
    slow = ok(delay_s=2 * TIMEOUT_S)
    with serving(ChaosServer(default=slow)) as server:
        write_job(tmp_path, tiny_model, server.url, tool={"timeout_s": 4 * TIMEOUT_S})
        process = start("train", "job.yaml", folder=tmp_path)
        _wait_until(lambda: len(server.received) > 0, process)
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # two that are pending at once count as one
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr


def test_ctrl_c_while_the_process_is_on_its_way_out_changes_nothing(tmp_path: Path, tiny_model: Path) -> None:
    with serving(ChaosServer(default=ok(delay_s=0.5))) as server:
        write_job(tmp_path, tiny_model, server.url)
        process = start("train", "job.yaml", folder=tmp_path)
        _wait_until(lambda: len(server.received) > 1, process)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = ""
        while "Stopped:" not in said and (line := process.stderr.readline()):
            said += line
        while process.poll() is None:
            process.send_signal(signal.SIGINT)
            time.sleep(0.001)
        said += process.communicate(timeout=TIMEOUT_S)[1]
    assert process.returncode == 130, said
    assert "Traceback" not in said


def _wait_until(is_reached: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not is_reached():
        assert time.monotonic() < deadline and process.poll() is None, f"never reached: {process.poll()}"
        time.sleep(0.02)


def _committed(runs: Path, phase: str) -> bool:
    """Whether a step of `phase` is committed."""
    try:
        with JobStore(runs, create=False) as store:
            job = store.find_job("latest")
            return any(row["phase"] == phase for row in store.metrics(job.job_id))
    except UserError:
        return False  # not made yet
