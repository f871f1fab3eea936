"""The way of a user, with nothing but the stock SDK: from files to a model that calls tools, and its weights."""

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from openai import OpenAI
from openai.types.fine_tuning.alpha import GraderRunResponse
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.job.tiny_job import TOOL, prompt, tool_calls
from tests.server.live import MODEL, PYTHON_GRADER, QUICK, Live, method, open_store, wait_for
from tests.traffic.chaos_server import ChaosServer

CHAT_TOOL = {"type": "function", "function": TOOL}


def test_from_files_to_a_model_that_calls_tools_and_its_weights(
    server: Live, client: OpenAI, files: dict[str, str], tools: ChaosServer, tiny_model: Path, tmp_path: Path
) -> None:
    validated = client.fine_tuning.alpha.graders.validate(grader=PYTHON_GRADER)  # type: ignore[arg-type]
    assert validated.grader is not None
    run = client.fine_tuning.alpha.graders.run(
        grader=PYTHON_GRADER,
        model_sample="0123456789",
        item={"word": "apple"},  # type: ignore[arg-type]
    )
    assert isinstance(run, GraderRunResponse) and run.reward == 0.5 and not run.metadata.errors.other_error
    tried = client.post(
        "/fine_tuning/alpha/tool/run",
        body={**TOOL, "server_url": tools.url, "arguments": {"word": "apple"}, "trace_id": "trace_mine"},
        cast_to=dict[str, Any],
    )
    assert (tried["type"], tried["output"], tried["trace_id"]) == ("function_call_output", "fine", "trace_mine")

    job = client.fine_tuning.jobs.create(
        model=MODEL,
        training_file=files["train"],
        validation_file=files["validation"],
        suffix="mine",
        seed=7,
        metadata={"team": "colours"},
        method=method(tools.url, hyperparameters={"max_steps": 4}),  # type: ignore[arg-type]
        extra_body={
            **QUICK,
            "warm_start": {"training_file": files["demonstrations"], "batch_size": 2, "learning_rate": 1e-3},
        },
    )
    assert job.id.startswith("ftjob-") and job.status in ("validating_files", "queued", "running")

    wait_for(client, job.id, "running")
    assert client.fine_tuning.jobs.pause(job.id).id == job.id
    paused = wait_for(client, job.id, "paused")
    assert paused.fine_tuned_model is None
    client.fine_tuning.jobs.resume(job.id)
    job = wait_for(client, job.id, "succeeded")
    assert job.fine_tuned_model == f"ft:{MODEL}:local:mine:{job.id.removeprefix('ftjob-')}"
    assert job.finished_at and job.trained_tokens and job.error is None
    assert job.hyperparameters.batch_size == 2

    events = client.fine_tuning.jobs.list_events(job.id, limit=100).data
    told = [event for event in events if event.type == "metrics"][::-1]
    assert [event.data["step"] for event in told] == [0, 1, 2, 3, 4]  # type: ignore[index]
    assert told[1].message.startswith("Step 1/4 , train mean reward=0.")
    data: dict = told[-1].data  # type: ignore[assignment]
    assert data["total_steps"] == 4 and data["scores"]["graders"][0]["name"] == "length"
    assert data["scores"]["train_reward_mean"] == data["train_mean_reward"] > 0
    assert data["timing"]["step"]["full_iteration"] > data["timing"]["step"]["training"] > 0
    assert data["agentrft"]["train"]["tools"]["lookup"]["calls_per_rollout"] > 0

    checkpoints = client.fine_tuning.jobs.checkpoints.list(job.id).data
    assert [one.step_number for one in checkpoints] == [4, 3, 2, 1]
    assert checkpoints[0].metrics.full_valid_mean_reward == data["full_valid_mean_reward"]  # type: ignore[attr-defined]
    csv = client.files.content(job.result_files[0]).text.splitlines()
    assert len(csv) == 5 and "train_tools/lookup/latency_mean_s" in csv[0]

    first = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=prompt("apple"),
        tools=[CHAT_TOOL],
        temperature=0,
        max_tokens=48,  # type: ignore[arg-type]
    )
    (call,) = first.choices[0].message.tool_calls or []
    assert call.type == "function" and call.function.name == "lookup"
    assert first.choices[0].finish_reason == "tool_calls"
    conversation = [
        *prompt("apple"),
        first.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "fine"},
    ]
    last = client.chat.completions.create(
        model=job.fine_tuned_model,
        messages=conversation,
        tools=[CHAT_TOOL],
        temperature=0,
        max_tokens=48,  # type: ignore[arg-type]
    )
    answer = last.choices[0].message.content
    assert answer and last.choices[0].finish_reason == "stop" and last.usage and last.usage.completion_tokens > 0

    archive = client.get(f"/models/{job.fine_tuned_model}/adapter", cast_to=bytes)
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        zipped.extractall(tmp_path / "adapter")
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tuned = PeftModel.from_pretrained(base, str(tmp_path / "adapter"))
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    assert greedy(tuned, tokenizer, last_prompt(tokenizer, conversation)) == answer
    archive = client.get(f"/models/{job.fine_tuned_model}/merged", cast_to=bytes)
    with zipfile.ZipFile(io.BytesIO(archive)) as zipped:
        zipped.extractall(tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    own = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert greedy(merged, own, last_prompt(tokenizer, conversation)) == answer
    assert not list((server.data_dir / "files").glob(".partial-*")), "what was downloaded is not kept twice"
    assert tool_calls(tools), "the tool was really called"


def last_prompt(tokenizer, conversation):  # type: ignore[no-untyped-def]
    """The ids that the model was given, by the codec that training uses."""
    from agentrft.chat import load_codec

    return load_codec(tokenizer, "tiny").prompt_ids(conversation, [CHAT_TOOL])


def greedy(model, tokenizer, ids):  # type: ignore[no-untyped-def]
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        output = model.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=48, do_sample=False, eos_token_id=end, pad_token_id=end
        )
    return tokenizer.decode(output[0, len(ids) :], skip_special_tokens=True).strip()


def test_the_three_shapes_of_a_job_store_the_same_spec(
    server: Live, client: OpenAI, files: dict[str, str], tools: ChaosServer
) -> None:
    shape = method(tools.url)
    common = {"model": MODEL, "training_file": files["train"], "seed": 3}
    first = client.fine_tuning.jobs.create(**common, method=shape)  # type: ignore[arg-type]
    inner = shape["reinforcement"]
    short = {**inner, "tools": [{**inner["tools"][0]}]}
    short["tools"][0]["url"] = short["tools"][0].pop("server_url")
    second = client.post("/fine_tuning/jobs", body={**common, "method": "rft", "rft": short}, cast_to=dict[str, Any])
    from agentrft import OpenAI as Ours

    third = Ours(base_url=server.url, api_key="none").fine_tuning.jobs.create(**common, method="rft", rft=short)
    stored = [stored_spec(server, job_id) for job_id in (first.id, second["id"], third.id)]
    assert stored[0] == stored[1] == stored[2] and len(stored[0]) > 1000
    assert first.method is not None and first.method.type == "reinforcement"
    for job_id in (first.id, second["id"], third.id):
        client.fine_tuning.jobs.cancel(job_id)


def stored_spec(server: Live, job_id: str) -> str:
    with open_store(server) as store:
        return json.dumps(store.get_job(job_id).spec["job"])
