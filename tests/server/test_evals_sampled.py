"""Runs of evals whose rows a model of the server answers: the numbers are those of `agentrft eval`.

`make test-evals` compares them over 100 rows with the built-in model.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, OpenAI

from agentrft.job.tasks import comparable
from agentrft.report.summary import mean
from agentrft.store import read_rollouts
from agentrft.store.layout import ADAPTER, step_folder
from tests.cli.commands import run_here
from tests.job.tiny_job import TOOL, WORDS, one_thread, prompt, write_job, write_rows
from tests.server.eval_requests import NEAR, items_of, make_eval, ours, over, run_to_end, sampled, start_run
from tests.server.live import MODEL, PYTHON_GRADER, Live, method, wait_for
from tests.traffic.chaos_server import ChaosServer

BASE = os.environ.get("AGENTRFT_EVAL_MODEL", MODEL)
N_ROWS = int(os.environ.get("AGENTRFT_EVAL_ROWS", len(WORDS)))
ALL_WORDS = [f"{WORDS[n % len(WORDS)]}{n // len(WORDS) or ''}" for n in range(N_ROWS)]
LENGTH = {**PYTHON_GRADER, "pass_threshold": 0.2}
# What a clock decides, and what the graders are called.
NOT_COMPARED = ("seconds", "graders", "pass_threshold", "reference", "split", "temperature", "grader_latency_mean_s")
EXACT = {"deterministic": True, "dtype": "float32"}


@pytest.fixture(scope="module")
def tuned(client: OpenAI, files: dict[str, str], tools: ChaosServer) -> Any:
    """A job that is done."""
    made = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=files["train"],
        method=method(tools.url, hyperparameters={"max_steps": 2, "learning_rate_multiplier": 50}),  # type: ignore[arg-type]
        seed=7,
        extra_body={"dtype": "float32"},
    )
    return wait_for(client, made.id, "succeeded")


def measured(folder: Path, reference: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `agentrft eval` says of weights, and its rollouts."""
    out = folder / "out.parquet"
    with one_thread():
        ran = run_here("eval", reference, "--job", str(folder / "job.yaml"), "--json", "--out", str(out))
    assert ran.code == 0, ran.stderr
    return ran.answer, [row["record"] for row in read_rollouts(out)]


def numbers(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in comparable(summary).items() if name not in NOT_COMPARED}


@pytest.mark.slow
def test_the_numbers_of_a_base_and_a_fine_tuned_model_are_those_of_the_command_line(
    client: OpenAI, server: Live, tuned: Any, tools: ChaosServer, tiny_model: Path, tmp_path: Path
) -> None:
    grader = {
        "type": "multi",
        "graders": {"near": NEAR, "length": LENGTH},
        "calculate_output": "(near + length) / 2",
    }
    weights = tiny_model if BASE == MODEL else Path(BASE)
    write_job(tmp_path, weights, tools.url, grader=grader, deterministic=True)
    write_rows(tmp_path / "validation.jsonl", [{"messages": prompt(word), "word": word} for word in ALL_WORDS])
    adapter = step_folder(server.data_dir / "jobs" / tuned.id, 2) / ADAPTER
    eval_id = make_eval(client, NEAR, LENGTH)
    body = ours(tools.url, **EXACT)
    runs = [
        start_run(client, eval_id, sampled(name, *ALL_WORDS), extra_body=body)
        for name in (BASE, tuned.fine_tuned_model)
    ]
    outputs = []
    for run_id, reference in zip(runs, ("base", str(adapter)), strict=True):
        run = over(client, eval_id, run_id)
        assert run.status == "completed", run.error
        told, rollouts = measured(tmp_path, reference)
        assert numbers(run.agentrft["summary"]) == numbers(told)
        assert told["rollouts"] == N_ROWS and told["outcomes"].get("graded", 0) > 0
        items = items_of(client, run)
        outputs.append([item.sample.output[0].content for item in items])
        assert outputs[-1] == [record["messages"][-1]["content"] for record in rollouts]
        # The command line has no scores of answers that were cut: here they are the lowest.
        answered = [item for item in items if not item.sample.error.code]
        for place, name in enumerate(("near", "length")):
            scores = [item.results[place].score for item in items]
            graded = [item.results[place].score for item in answered]
            assert graded == [record["grade"]["sub_scores"][name] for record in rollouts if record["grade"]]
            assert mean(graded) == told["sub_scores"][name]
            assert mean(scores) == run.agentrft["mean_scores"][items[0].results[place].name]
        passed = sum(all(result.passed for result in item.results) for item in items)
        assert run.result_counts.passed == passed and run.per_model_usage[0].completion_tokens > 0
        print(f"{N_ROWS} rows of {run.model}: {run.result_counts.to_dict()}, means {told['sub_scores']}")
    assert outputs[0] != outputs[1], "the weights differ"


def test_tools_are_really_called_and_their_headers_stay_secret(client: OpenAI, tools: ChaosServer) -> None:
    body = ours(tools.url)
    body["agentrft"]["tools"][0]["headers"] = {"Authorization": "Bearer planted-secret"}
    tools.received.clear()
    eval_id = make_eval(client, NEAR, extra_body=body)
    run = run_to_end(client, eval_id, sampled(MODEL, "apple", "stone", temperature=0), metadata={"a": "b"})
    assert run.status == "completed", run.error
    calls = [request for request in tools.received if request.body]
    assert {request.body["item"]["word"] for request in calls} == {"apple", "stone"}
    assert all(request.headers["Authorization"] == "Bearer planted-secret" for request in calls)
    items = items_of(client, run)
    assert items[0].sample.output[0].tool_calls[0]["function"]["name"] == "lookup"
    assert [one["role"] for one in items[0].sample.agentrft["messages"]] == ["user", "assistant", "tool", "assistant"]
    shown = [client.evals.retrieve(eval_id), run, *items]
    assert "planted-secret" not in json.dumps([one.to_dict() for one in shown])
    assert "***" in client.evals.retrieve(eval_id).to_json()


def test_what_a_rollout_of_an_eval_may_not_do_is_refused_when_it_is_made(client: OpenAI) -> None:
    metadata = {**TOOL, "server_url": "http://169.254.169.254/"}
    with pytest.raises(BadRequestError, match="link-local"):
        make_eval(client, extra_body={"agentrft": {"tools": [metadata]}})
    with pytest.raises(BadRequestError, match="Unknown field 'hyperparameters'"):
        make_eval(client, extra_body={"agentrft": {"hyperparameters": {}}})
    secret = {**TOOL, "server_url": "http://127.0.0.1:9/", "headers": {"X": "${HOME}"}}
    with pytest.raises(BadRequestError, match="HOME may not be read"):
        start_run(client, make_eval(client), sampled(MODEL, "x"), extra_body={"agentrft": {"tools": [secret]}})
