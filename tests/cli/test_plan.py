"""`agentrft plan`: what a job takes, on a machine that is there and on GPUs that are not."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrft.cli.overrides import load_job_with
from agentrft.planning.hardware import gpu_device
from agentrft.planning.job_fields import split_of
from tests.cli.commands import run_here

H100S = ("--gpu", "h100", "--gpus", "8")
QWEN3 = ("--set", "model=Qwen/Qwen3-8B")
ALL_WEIGHTS = ("--set", "hyperparameters.lora_rank=full")


def planned(*arguments: str) -> dict[str, Any]:
    ran = run_here("plan", *arguments, "--json")
    assert ran.code == 0, ran.stderr
    return json.loads(ran.stdout)


def test_a_job_is_planned_for_this_machine(job_file: Path) -> None:
    found = planned(str(job_file))
    assert found["fits"] and found["device"]["measured"] and found["device"]["is_cpu"]
    assert found["best"]["engine"] == "embedded" and found["best"]["shared"]
    assert found["steps"] == 2 and found["best"]["job"]["gpu_cost"] == 0
    assert found["step"]["rollouts"] == found["step"]["groups"] * found["step"]["rollouts_per_group"]
    (memory,) = found["best"]["memory"]
    assert memory["total"] + memory["spare"] == memory["capacity"]


def test_a_job_is_planned_for_gpus_and_a_model_that_are_not_here(job_file: Path) -> None:
    found = planned(str(job_file), *H100S, "--nodes", "2", *QWEN3, *ALL_WEIGHTS)
    assert found["parameters"] == found["trained_parameters"] == 8_190_735_360
    assert found["gpus_per_node"] == 8 and found["nodes"] == 2
    fitting = [one for one in found["splits"] if one["fits"]]
    assert found["best"]["gpu_cost_per_step"] == min(one["gpu_cost_per_step"] for one in fitting)
    assert any(one["gpus_rented"] == 16 for one in found["splits"])
    said = run_here("plan", str(job_file), *H100S, *QWEN3, *ALL_WEIGHTS).stdout
    assert "8.19 billion parameters, all weights" in said and "moments" in said and "(fastest)" in said
    assert "an assumption" in said and "The cheapest in the job's file\nengine:\n  type: " in said


def test_the_fields_of_the_cheapest_make_the_job_run_on_it(job_file: Path) -> None:
    best = planned(str(job_file), *H100S, *QWEN3)["best"]
    options = [f"{part}={json.dumps(value)}" for part, value in best["job_fields"].items()]
    spec = load_job_with(job_file, options)
    split = split_of(spec.engine, spec.cluster, gpu_device("h100"))
    assert (split.engine, split.engines, split.ranks) == (best["engine"], best["engines"], best["learner_ranks"])


def test_what_does_not_fit_says_so_and_what_to_change(job_file: Path) -> None:
    ran = run_here("plan", str(job_file), "--gpu", "l4", *QWEN3, *ALL_WEIGHTS)
    assert ran.code == 2 and "does not fit" in ran.stderr and "for moments" in ran.stderr
    assert "What to do: " in ran.stderr and "lora_rank: 16" in ran.stderr
    answered = json.loads(run_here("plan", str(job_file), "--gpu", "l4", *QWEN3, *ALL_WEIGHTS, "--json").stdout)
    assert not answered["fits"] and answered["best"] is None and answered["error"]["exit_code"] == 2
    assert all(fault["remedy"] for one in answered["splits"] for dev in one["memory"] for fault in dev["faults"])


def test_what_the_user_says_of_rollouts_comes_before_what_is_assumed(job_file: Path) -> None:
    options = ("--turns", "5", "--turn-tokens", "40", "--result-tokens", "30", "--tool-s", "3", "--prompt-tokens", "99")
    found = planned(str(job_file), "--gpu", "h100", *options, "--grade-s", "7")
    step = found["step"]
    assert (step["turns"], step["turn_tokens"], step["result_tokens"], step["tool_s"]) == (5, 40, 30, 3)
    assert (step["prompt_tokens"], step["grade_s"]) == (99, 7)
    assert found["best"]["seconds"]["rollouts"]["tools"] >= 12 and not found["assumed"]


def test_judges_are_counted_and_priced(job_file: Path, tmp_path: Path) -> None:
    raw = yaml.safe_load(job_file.read_text())
    raw["method"]["reinforcement"]["grader"] = {"type": "model", "model": "judge-1", "prompt": "Good? {final_answer}"}
    job_file.write_text(yaml.safe_dump(raw))
    unpriced = planned(str(job_file), "--gpu", "h100")
    assert unpriced["step"]["judge_calls"] == unpriced["step"]["rollouts"]
    assert unpriced["judge_cost_per_step"] is None and unpriced["best"]["job"]["cost"] is None
    prices = tmp_path / "prices.yaml"
    prices.write_text("gpu_hour: {h100: 10}\njudges: {judge-1: {input: 1, output: 4}}\n")
    priced = planned(str(job_file), "--gpu", "h100", "--prices", str(prices))
    judge = priced["step"]["judges"][0]
    each = (judge["prompt_tokens"] + 4 * judge["completion_tokens"]) / 1e6
    assert priced["judge_cost_per_step"] == pytest.approx(each * priced["step"]["rollouts"])
    assert priced["prices"]["gpu_hour"] == 10
    hours = priced["best"]["seconds"]["total"] / 3600
    assert priced["best"]["gpu_cost_per_step"] == pytest.approx(10 * hours)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--gpu", "h1000"), "Name one of 4090, 5090"),
        (("--gpus", "8"), "Name a GPU with --gpu"),
        (("--gpu", "cpu", "--nodes", "2"), "Name a GPU with --gpu"),
        (("--gpu", "h100", "--gpus", "0"), "1"),
        (("--turns", "0.2"), "from 1 on"),
        (("--turn-tokens", "nan"), "out of range"),
        (("--tool-s", "-1"), "from 0 on"),
        (("--prices", "none.yaml"), "is no file"),
        (("--config", "none.json"), "is no JSON object"),
        (("--set", "model=nobody/has-this"), "--config"),
    ],
)
def test_an_odd_option_is_an_error_that_says_what_is_accepted(
    job_file: Path, options: tuple[str, ...], said: str
) -> None:
    ran = run_here("plan", str(job_file), *options)
    assert ran.code == 2 and said in ran.stderr


def test_a_job_or_its_file_is_needed_and_not_both(job_file: Path) -> None:
    assert "give either" in run_here("plan").stderr
    assert "give either" in run_here("plan", str(job_file), "--job", "latest").stderr
    assert "Leave it out" in run_here("plan", str(job_file), "--output-dir", "runs").stderr
    assert "no jobs" in run_here("plan", "--job", "latest").stderr


def test_a_job_is_compared_with_its_plan(job_file: Path) -> None:
    assert run_here("train", str(job_file)).code == 0
    found = json.loads(run_here("plan", "--job", "latest", "--json").stdout)
    planned_step, was, measured = found["planned"], found["planned_as_it_was"], found["measured"]
    assert found["steps"] == 2 and measured["step_s"] > 0 and measured["update_s"] > 0
    assert planned_step.keys() == was.keys() == measured.keys()
    for name in ("rollouts", "sampled_tokens", "tool_calls", "unique_tokens"):
        assert was[name] == pytest.approx(measured[name], rel=0.02), name
    assert planned_step["rollouts"] == measured["rollouts"] == measured["grades"]
    said = run_here("plan", "--job", "latest").stdout
    assert "means of 2 training steps, on this machine" in said and "lengths as they were" in said
