"""Judges that are models of the server itself, by name and without a key, where keys are wanted and hosts are named."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import yaml
from openai import BadRequestError, OpenAI
from pydantic import TypeAdapter
from pytest_httpserver import HTTPServer
from transformers import AutoTokenizer

from agentrft.chat import load_codec
from agentrft.errors import UserError
from agentrft.graders import create_grader
from agentrft.graders.model import RESPONSE_FORMAT
from agentrft.graders.own_server import TOKEN_HEADER, OwnServer, grading_for
from agentrft.learner import Learner, Policy, TrainingRow
from agentrft.models import resolve_model
from agentrft.models.load import load_model
from agentrft.models.planned import use_planned_attention
from agentrft.server.inference.constraints import OutputFormat
from agentrft.server.records import Records
from agentrft.spec import GraderSpec
from tests.cli.forked import Forked
from tests.job.tiny_job import WORDS, one_thread, prompt
from tests.server.eval_requests import GIVEN, jsonl, make_eval, run_to_end
from tests.server.live import MODEL, Live, method, open_store, upload, wait_for

JUDGE = "our/judge"
TOKEN = "planted-token-of-the-server-itself-0123456789"
UPDATES = 60
SAID = json.dumps({"score": 0.5})
GRADER: dict[str, Any] = {
    "type": "model",
    "name": "judged",
    "model": JUDGE,
    "prompt": "Score {word}.",
    "sampling_params": {"temperature": 0},
}
GRADERS: TypeAdapter[Any] = TypeAdapter(GraderSpec)


def make_judge(model: Path, folder: Path) -> Path:
    """The tiny model, trained to say one and the same score."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    codec = load_codec(tokenizer, "tiny")
    network = load_model(resolve_model(str(model)), torch.float32)
    use_planned_attention(network)
    schema = RESPONSE_FORMAT["json_schema"]["schema"]
    system = {"role": "system", "content": OutputFormat(schema, "grade").instruction}
    policy = Policy(network, lora_rank=None, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-2, temperature=1.0, max_grad_norm=1.0, warm_up_steps=3)
    with one_thread():
        for update in range(UPDATES):
            rows = []
            for index in range(3):
                asked = {"role": "user", "content": f"Score {WORDS[(update + index) % len(WORDS)]}."}
                for ids, mask in codec.training_rows([system, asked, {"role": "assistant", "content": SAID}]):
                    positions = [position for position, sampled in enumerate(mask) if sampled]
                    rows.append(TrainingRow(ids, positions, [0.0] * len(positions), index))
            learner.supervised_update(rows)
    shutil.copytree(model, folder)
    policy.model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("own-judges")
    judge = make_judge(tiny_model, folder / "judge")
    site, data = folder / "site", folder / "data"
    site.mkdir(), data.mkdir()
    # What the server makes for itself, made known to this test.
    (site / "sitecustomize.py").write_text(f"import secrets\nsecrets.token_urlsafe = lambda *_: {TOKEN!r}\n")
    (data / "models.yaml").write_text(yaml.safe_dump({MODEL: str(tiny_model), JUDGE: str(judge)}))
    options = ["--require-key", "--allow-host", "localhost", "--allow-host", "api.openai.com"]
    started = Live(data, options, {"PYTHONPATH": str(site), "OPENAI_API_KEY": "sk-withheld"}, forks=Forked())
    try:
        yield started.start()
    finally:
        started.stop()


@pytest.fixture(scope="module")
def key(server: Live) -> str:
    with open_store(server) as store:
        return Records(store).create_key("team")[1]


@pytest.fixture(scope="module")
def client(server: Live, key: str) -> OpenAI:
    return server.client(key, max_retries=0)


def run(client: OpenAI, **changes: Any) -> Any:
    grader: Any = {**GRADER, **changes}
    return client.fine_tuning.alpha.graders.run(grader=grader, model_sample="red", item={"word": "apple"})


def test_a_judge_that_is_a_model_of_the_server_needs_no_key(client: OpenAI) -> None:
    client.fine_tuning.alpha.graders.validate(grader=GRADER)  # type: ignore[arg-type]
    for grader in (GRADER, {"type": "multi", "graders": {"g": GRADER}, "calculate_output": "g"}):
        tried = (
            run(client, **grader)
            if grader is GRADER
            else client.fine_tuning.alpha.graders.run(
                grader=grader,
                model_sample="red",
                item={"word": "apple"},  # type: ignore[arg-type]
            )
        )
        assert tried.reward == 0.5, tried.metadata.errors
        assert tried.model_grader_token_usage_per_model[JUDGE]["completion_tokens"] > 0  # type: ignore[index]


@pytest.mark.slow
def test_an_eval_has_a_judge_that_is_a_model_of_the_server(client: OpenAI) -> None:
    eval_id = make_eval(client, {**GRADER, "pass_threshold": 0.5})
    run = run_to_end(client, eval_id, jsonl(GIVEN[:1]))
    assert (run.status, run.result_counts.passed) == ("completed", 1), run.error
    (used,) = run.per_model_usage
    assert used.run_model_name == JUDGE and used.completion_tokens > 0 and used.invocation_count == 1


def test_an_explicit_base_url_wins(client: OpenAI, httpserver: HTTPServer) -> None:
    message = {"role": "assistant", "content": json.dumps({"score": 0.25})}
    httpserver.expect_request("/v1/chat/completions", method="POST").respond_with_json(
        {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    )
    assert run(client, base_url=httpserver.url_for("/v1")).reward == 0.25
    (request, _) = httpserver.log[-1]
    assert request.json["model"] == JUDGE and TOKEN not in str(request.headers)
    with pytest.raises(BadRequestError, match="'127.0.0.1' is not allowed"):
        run(client, base_url="http://127.0.0.1:1/v1")


def test_a_name_that_is_not_here_goes_to_openai_whose_key_the_server_must_be_told_to_give(client: OpenAI) -> None:
    with pytest.raises(BadRequestError, match="Start it with `agentrft serve --allow-env OPENAI_API_KEY`") as raised:
        run(client, model="gpt-4o")
    assert "the server has the variable OPENAI_API_KEY, and its jobs may not read it" in str(raised.value)
    assert "sk-withheld" not in str(raised.value)


def test_a_key_that_the_server_has_not_either_is_exported_first() -> None:
    spec = GRADERS.validate_python({**GRADER, "model": "gpt-4o"})
    with grading_for(OwnServer("http://127.0.0.1:1/v1", TOKEN, ("OTHER",))), pytest.raises(UserError) as raised:
        create_grader(spec)
    assert raised.value.remedy.startswith(
        "Run `export OPENAI_API_KEY=...` and `agentrft serve --allow-env OPENAI_API_KEY`, or name another server"
    )
    assert TOKEN not in str(raised.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": "none", "served_here": True}, "served_here: there is no model 'none' here"),
        ({"headers": {"Authorization": "Bearer x"}}, "headers: 'our/judge' is a model of this server"),
        ({"api_key_env": "OPENAI_API_KEY"}, "api_key_env: 'our/judge' is a model of this server"),
    ],
)
def test_what_is_meant_for_another_server_is_refused(client: OpenAI, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequestError, match=says):
        run(client, **changes)


def test_without_a_server_there_is_no_model_of_its_own() -> None:
    with pytest.raises(UserError, match="served_here: no server runs this"):
        create_grader(GRADERS.validate_python({**GRADER, "served_here": True}))


def test_the_servers_own_token_asks_models_and_does_nothing_else(server: Live) -> None:
    root, own = server.url, {TOKEN_HEADER: TOKEN}
    body = {"model": MODEL, "messages": prompt("apple"), "max_tokens": 1}
    assert httpx.post(f"{root}/chat/completions", json=body, headers=own, timeout=60).status_code == 200
    for headers in ({TOKEN_HEADER: TOKEN + "x"}, {TOKEN_HEADER: ""}, {}):
        assert httpx.post(f"{root}/chat/completions", json=body, headers=headers).status_code == 401
    for verb, path in (("GET", "models"), ("GET", "files"), ("POST", "responses"), ("POST", "fine_tuning/jobs")):
        assert httpx.request(verb, f"{root}/{path}", headers=own).status_code == 401, path
    assert httpx.get(f"{root}/chat/completions", headers=own).status_code == 401


@pytest.mark.slow
def test_a_job_is_judged_by_a_model_of_its_server_also_after_a_restart_and_nothing_tells_the_token(
    server: Live, key: str, client: OpenAI, tmp_path: Path
) -> None:
    files = upload(client, tmp_path)
    given: Any = method("http://localhost:1", tools=[], grader=GRADER, holdout_graders={"again": GRADER})
    given["reinforcement"]["hyperparameters"] |= {"max_steps": 2, "max_tokens_per_turn": 8}
    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        method=given,
        extra_body={"baseline": {"enabled": False}, "grade_unfinished": True},
    )
    wait_for(client, job.id, "running")
    # The next start has another address for its judges.
    server.stop()
    client = server.start().client(key, max_retries=0)
    job = wait_for(client, job.id)
    assert job.status == "succeeded", job.error
    rewards = [
        point.metrics.full_valid_mean_reward  # type: ignore[attr-defined]
        for point in client.fine_tuning.jobs.checkpoints.list(job.id)
    ]
    assert rewards and set(rewards) == {0.5}

    for name in (job.fine_tuned_model, f"{job.fine_tuned_model}:ckpt-step-1"):
        # It was asked here; that it is no judge is another matter.
        told = run(client, model=name).metadata.errors
        assert "not in the asked format" in (told.model_grader_server_error_details or ""), told

    answers = [job, *client.fine_tuning.jobs.list_events(job.id), client.fine_tuning.jobs.retrieve(job.id)]
    assert TOKEN not in json.dumps([one.to_dict() for one in answers])
    holders = [path for path in server.data_dir.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]
    assert holders == []
