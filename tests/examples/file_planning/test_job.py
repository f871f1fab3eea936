"""The job file, and a miniature of the whole: a tiny model that knows the form of a call, and two steps of training."""

from pathlib import Path
from typing import Any

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
from examples.file_planning.make_data import read_rows
from examples.file_planning.measures import measures
from examples.file_planning.scripted import Conversation, shell
from examples.file_planning.tools import PlanningTools
from tests.job.tiny_job import one_thread, untrained, write_rows

EXAMPLE = Path(__file__).parents[3] / "examples" / "file_planning"
UPDATES = 32


def test_the_job_file_is_complete() -> None:
    job = load_job(EXAMPLE / "job.yaml")
    assert [getattr(tool, "name", None) for tool in job.tools] == ["shell", "read_file"]
    assert job.test_file is not None
    assert job.hyperparameters.max_episode_steps == 8


async def test_two_steps_of_training_call_the_real_tools_and_are_graded(
    tmp_path: Path, data: Path, server_url: str
) -> None:
    with one_thread():
        raw = miniature(tmp_path, data, server_url)
        make_model(tmp_path / "model", data, raw["method"]["reinforcement"]["tools"])
        spec = parse_job(raw, folder=tmp_path, source="job.yaml")
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert [row["step"] for row in trained] == [1, 2]
    assert [row["outcomes"].get("infra_failed", 0) for row in trained] == [0, 0]
    items = {row["repository"]: row for row in read_rows(tmp_path / "train.jsonl")}
    stored = read_rollouts(store.job_folder(job_id) / "rollouts" / "train-00001.parquet")
    rollouts = [Rollout.from_dict(row["record"]) for row in stored]
    outputs = [call.output for rollout in rollouts for call in rollout.tool_calls if call.status == "ok"]
    listings = {"\n".join(first_files(data, name)) for name in items}
    assert outputs
    assert set(outputs) <= listings
    for rollout in rollouts:
        assert measures(rollout, next(iter(items.values())))["turns"] == len(rollout.turns)


def miniature(folder: Path, data: Path, url: str) -> dict[str, Any]:
    """The job file with a tiny model, few rows and two steps, and without what takes time before and after them."""
    raw = yaml.safe_load((EXAMPLE / "job.yaml").read_text())
    for key, name in (("training_file", "train"), ("validation_file", "validation"), ("test_file", "test")):
        write_rows(folder / f"{name}.jsonl", read_rows(data / f"{name}.jsonl")[:2])
        raw[key] = f"{name}.jsonl"
    del raw["warm_start"]
    raw |= {"model": str(folder / "model"), "dtype": "float32", "output_dir": "runs", "baseline": {"enabled": False}}
    inner = raw["method"]["reinforcement"]
    inner["on_rollout_start"] = {"url": f"{url}/hooks/start"}
    for tool in inner["tools"]:
        tool["server_url"] = f"{url}/tools/{tool['name']}"
    inner["grader"]["source_file"] = str(EXAMPLE / "grader.py")
    inner["max_episode_steps"] = 2
    few = {"batch_size": 2, "compute_multiplier": 0.25, "max_steps": 2, "eval_interval": 2, "lora_rank": 4}
    inner["hyperparameters"] |= {**few, "max_tokens_per_turn": 40, "max_context_tokens": 400, "temperature": 0.5}
    return raw


def make_model(folder: Path, data: Path, tools: list[dict[str, Any]]) -> None:
    """A tiny model that has one call and one answer by heart, saved with its tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    model, codec = untrained(tokenizer), load_codec(tokenizer, "tiny")
    talk = Conversation(PlanningTools(data / "repositories", jailed=False), read_rows(data / "train.jsonl")[0], "shown")
    talk.turn(shell("ls | head -2"))
    talk.answer(["__init__.py"])
    shown = [
        {"type": "function", "function": {key: tool[key] for key in ("name", "description", "parameters")}}
        for tool in tools
    ]
    rows = [
        TrainingRow(
            ids, positions := [place for place, sampled in enumerate(mask) if sampled], [0.0] * len(positions), 0
        )
        for ids, mask in codec.training_rows(talk.messages, shown)
    ]
    policy = Policy(model, lora_rank=None, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-2, temperature=1.0, max_grad_norm=1.0, warm_up_steps=5)
    for _ in range(UPDATES):
        learner.supervised_update(rows)
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def first_files(data: Path, repository: str) -> list[str]:
    return sorted(path.name for path in (data / "repositories" / repository).iterdir())[:2]
