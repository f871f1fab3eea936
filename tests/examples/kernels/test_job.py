"""The job parses, and two steps of it run with a tiny model, the real tools and the real grader."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from agentrft.chat import load_codec
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.learner import Learner, Policy, TrainingRow
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.rollout import Rollout
from agentrft.spec import load_job
from agentrft.store import read_rollouts
from examples.kernels.demonstrations import call_messages
from examples.kernels.graphs import Graph, Step
from examples.kernels.measures import measures
from examples.kernels.prompts import prompt_messages
from tests.job.tiny_job import one_thread, untrained, write_rows

EXAMPLE = Path(__file__).parents[3] / "examples" / "kernels"
JOB = yaml.safe_load((EXAMPLE / "job.yaml").read_text(encoding="utf-8"))
INNER = JOB["method"]["reinforcement"]
GRAPH = Graph((Step("relu"),))
HEAD = "void f(const float*x,float*y,int n)"
SOURCE = HEAD + "{for(int i=0;i<n;i++)y[i]=x[i]>0?x[i]:0;}"
UPDATES = 40


def transcript(source: str) -> list[dict[str, Any]]:
    call = call_messages("call_1", "compile", {"source": source}, "ok")
    return [*prompt_messages(GRAPH), *call, {"role": "assistant", "content": "submit"}]


@pytest.fixture(scope="module")
def tiny_writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two layers that compiles one source and submits it, more or less."""
    folder = tmp_path_factory.mktemp("tiny-writer")
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    model = untrained(tokenizer)
    codec = load_codec(tokenizer, "tiny")
    tools = [{key: tool[key] for key in ("name", "description", "parameters")} for tool in INNER["tools"]]
    (ids, mask), *_ = codec.training_rows(
        transcript(SOURCE), [{"type": "function", "function": tool} for tool in tools]
    )
    positions = [position for position, sampled in enumerate(mask) if sampled]
    row = TrainingRow(ids, positions, [0.0] * len(positions), 0)
    policy = Policy(model, lora_rank=None, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-2, temperature=1.0, max_grad_norm=1.0, warm_up_steps=5)
    with one_thread():
        for _ in range(UPDATES):
            learner.supervised_update([row])
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_the_job_of_the_example_is_valid_and_says_every_file() -> None:
    job = load_job(EXAMPLE / "job.yaml")
    assert [tool.model_dump()["name"] for tool in job.tools] == ["compile", "run", "time"]
    assert job.grader.type == "endpoint"
    assert job.test_file is not None


async def test_two_steps_run_through_the_real_tools_and_the_real_grader(
    server_url: str, tiny_writer: Path, tmp_path: Path
) -> None:
    row = {"messages": prompt_messages(GRAPH), "graph": GRAPH.as_json()}
    write_rows(tmp_path / "train.jsonl", [row])
    inner = copy.deepcopy(INNER)
    for tool in inner["tools"]:
        tool["server_url"] = f"{server_url}/tools/{tool['name']}"
    inner["grader"]["url"] = f"{server_url}/grade"
    inner["hyperparameters"] = {
        "batch_size": 1,
        "compute_multiplier": 0.5,
        "max_steps": 2,
        "temperature": 0.4,
        "max_tokens_per_turn": 100,
        "max_context_tokens": 480,
        "lora_rank": 4,
    }
    small = {"model": str(tiny_writer), "training_file": "train.jsonl", "dtype": "float32", "output_dir": "runs"}
    job_file = tmp_path / "job.yaml"
    job_file.write_text(
        yaml.safe_dump({**small, "seed": 7, "method": {"type": "reinforcement", "reinforcement": inner}})
    )
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    with one_thread(), store:
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
        steps = [step for step in store.metrics(job_id) if step["phase"] == "train"]
        files = sorted((store.job_folder(job_id) / "rollouts").glob("train-*.parquet"))
        rollouts = [Rollout.from_dict(row["record"]) for file in files for row in read_rollouts(file)]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(rollout.outcome != "infra_failed" for rollout in rollouts)
    found = [measures(rollout, row) for rollout in rollouts]
    assert any(part["correct"] == 1 and (part["speedup"] or 0) > 0 for part in found)
    assert {"correct", "faster", "speedup"} <= steps[0]["sub_scores"].keys()
