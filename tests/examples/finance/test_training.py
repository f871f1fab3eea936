"""Two steps of training by `job.yaml`, with a tiny model in place of the real one and the real tool server."""

import json
from collections.abc import Mapping
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
from agentrft.spec import load_job, parse_job
from agentrft.store import read_rollouts
from examples.common.tool_server import Tool
from examples.finance.make_data import Dataset
from examples.finance.measures import measures
from examples.finance.questions import Question, prompt_messages, said_answer
from examples.finance.transcripts import Episode
from tests.job.tiny_job import one_thread, untrained

EXAMPLE = Path(__file__).parents[3] / "examples" / "finance"
# Enough for the tiny model to know its call by heart.
UPDATES = 45


@pytest.mark.parametrize("name", ["job.yaml", "job_naive.yaml"])
def test_the_jobs_load_with_each_grader_watching_the_other(name: str) -> None:
    job = load_job(EXAMPLE / name)
    assert [tool["name"] for tool in job.model_dump()["tools"]] == ["search", "list", "cat", "calculate"]
    assert list(job.holdout_graders) == (["hardened"] if "naive" in name else ["naive"])


def make_model(folder: Path, question: Question, tools: Mapping[str, Tool], schemas: list[dict[str, Any]]) -> Path:
    """A tiny model that reads the section of one question and gives one of two answers, right or out of nowhere."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    model = untrained(tokenizer)
    codec = load_codec(tokenizer, "tiny")
    right = said_answer(question.expression, question.unit)
    rows: list[TrainingRow] = []
    for index, answer in enumerate([f"{right}\nSOURCE: {question.reads[0]}", "ANSWER: 5"]):
        episode = Episode(tools, prompt_messages(question.text))
        episode.call("cat", id=question.reads[0])
        for ids, mask in codec.training_rows(episode.finish(answer).messages, schemas):
            sampled = [position for position, is_sampled in enumerate(mask) if is_sampled]
            rows.append(TrainingRow(ids, sampled, [0.0] * len(sampled), index))
    policy = Policy(model, lora_rank=None, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-2, temperature=1.0, max_grad_norm=1.0, warm_up_steps=5)
    for _ in range(UPDATES):
        learner.supervised_update(rows)
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


async def test_two_steps_train_on_the_real_tools_and_grader(
    dataset: Dataset, tools: Mapping[str, Tool], server_url: str, tmp_path: Path
) -> None:
    raw = yaml.safe_load((EXAMPLE / "job.yaml").read_text(encoding="utf-8"))
    inner = raw["method"]["reinforcement"]
    schemas = [
        {"type": "function", "function": {name: tool[name] for name in ("name", "description", "parameters")}}
        for tool in inner["tools"]
    ]
    for tool in inner["tools"]:
        tool["server_url"] = f"{server_url}/tools/{tool['name']}"
    # As much as the tiny model takes, and no more than two steps of one sample need.
    inner["hyperparameters"] |= {"batch_size": 1, "max_steps": 2, "lora_rank": 4, "n_epochs": "auto"}
    inner["hyperparameters"] |= {"max_context_tokens": 512, "max_tokens_per_turn": 48, "temperature": 0.6}
    question = next(one for one in dataset.questions["train"] if one.kind == "lookup")
    (tmp_path / "train.jsonl").write_text(json.dumps(question.row()) + "\n")
    raw |= {"training_file": str(tmp_path / "train.jsonl"), "validation_file": None, "test_file": None}
    raw |= {"warm_start": None, "dtype": "float32", "output_dir": str(tmp_path / "runs")}
    with one_thread():
        raw["model"] = str(make_model(tmp_path / "model", question, tools, schemas))
        spec = parse_job(raw, folder=EXAMPLE, source="job.yaml")
        store, job_id = create_job(spec)
        with store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            assert store.get_job(job_id).status == "succeeded"
            steps = store.metrics(job_id)
    assert [(row["phase"], row["step"]) for row in steps] == [("train", 1), ("train", 2)]
    assert sum(row["groups_trained"] for row in steps) > 0, "rewards that differ, and an update of them"
    rows = read_rollouts(tmp_path / "runs" / job_id / "rollouts" / "train-00001.parquet")
    rollouts = [Rollout.from_dict(row["record"]) for row in rows]
    assert "ok" in {call.status for one in rollouts for call in one.tool_calls if call.name == "cat"}
    graded = [one for one in rollouts if one.outcome == "graded"]
    assert all("naive" in one.holdout_scores for one in graded)
    # What a job stores of the score is what the measures find in the record.
    assert [measures(one, question.row())["score"] for one in graded] == [one.reward for one in graded]
