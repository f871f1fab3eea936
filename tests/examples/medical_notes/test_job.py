"""The job file is whole, and a miniature of it trains: a tiny model, the real tool server, the real grader."""

from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from agentrft.chat import load_codec
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.rollout import Rollout
from agentrft.spec import load_job, parse_job
from agentrft.store import read_rollouts
from examples.medical_notes.measures import measures
from tests.job.tiny_job import one_thread, train_and_save, untrained, write_rows

EXAMPLE = Path(__file__).parents[3] / "examples" / "medical_notes"
JOB = (EXAMPLE / "job.yaml").read_text(encoding="utf-8")
TOOL = yaml.safe_load(JOB)["method"]["reinforcement"]["tools"][0]
UPDATES = 45
# What the search shows, in one of its orders.
HITS = (
    "K63.3 Ulcer of intestine\nK22.11 Ulcer of esophagus with bleeding\n"
    "N48.5 Ulcer of penis\nK62.6 Ulcer of anus and rectum"
)
# As short as the tiny model's context wants them.
ROWS = [
    {
        "messages": [{"role": "user", "content": f"Code: {term}."}],
        "answer": [code],
        "findings": [{"code": code, "term": term, "kind": "now", "sentence": f"{term}."}],
    }
    for code, term in (("K25.4", "stomach ulcer"), ("J20.9", "bronchitis"))
]


def test_the_job_loads_and_measures_a_test_file() -> None:
    job = load_job(EXAMPLE / "job.yaml")
    assert [tool.model_dump()["name"] for tool in job.tools] == ["search"]
    assert job.test_file is not None
    assert set(job.holdout_graders) == {"exact_f1"}


async def test_a_miniature_of_the_job_trains_for_two_steps(server_url: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("train", "validation", "test"):
        write_rows(tmp_path / "data" / f"{name}.jsonl", ROWS)
    shown = [{"messages": conversation(row["messages"], row["answer"])} for row in ROWS]
    write_rows(tmp_path / "data" / "demonstrations.jsonl", shown)
    with one_thread():
        raw = miniature(searching_model(tmp_path / "model"), server_url)
        job = parse_job(raw, folder=tmp_path, source="job.yaml")
        store, job_id = create_job(job)
        await run_job(job, store, job_id, progress=NoProgress(), stop=Stop())
    metrics = store.metrics(job_id)
    files = sorted((store.job_folder(job_id) / "rollouts").glob("train-*.parquet"))
    rollouts = [Rollout.from_dict(row["record"]) for file in files for row in read_rollouts(file)]
    assert store.get_job(job_id).status == "succeeded"
    trained = [row for row in metrics if row["phase"] == "train"]
    assert len(trained) == 2
    assert sum(row["tool_statuses"].get("ok", 0) for row in trained) > 0
    assert all(row["infra_failure_share"] == 0 for row in metrics if "infra_failure_share" in row)
    assert any(row["reward_std"] > 0 for row in trained)
    assert all("exact_f1" in row["holdout_scores"] for row in trained)
    found = [measures(rollout, ROWS[0]) for rollout in rollouts]
    assert any(one["calls"] == 1 and one["turns"] == 2 for one in found)
    assert all((one["latency_s"] or 0) > 0 and (one["output_tokens"] or 0) > 0 for one in found)


def searching_model(folder: Path) -> Path:
    """A tiny model that searches once and then answers as one of the rows would be right."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    codec = load_codec(tokenizer, "tiny")
    shown = [
        [(codec, conversation(row["messages"], other["answer"])) for row in ROWS for other in ROWS]
        for _ in range(UPDATES)
    ]
    tool = {key: TOOL[key] for key in ("name", "description", "parameters")}
    return train_and_save(untrained(tokenizer), tokenizer, shown, folder, tool)


def conversation(prompt: list[dict[str, Any]], answer: list[str]) -> list[dict[str, Any]]:
    function = {"name": "search", "arguments": {"query": "ulcer"}}
    asked = {"id": "call_1", "type": "function", "function": function}
    return [
        *prompt,
        {"role": "assistant", "content": "", "tool_calls": [asked]},
        {"role": "tool", "tool_call_id": "call_1", "content": HITS},
        {"role": "assistant", "content": "\n".join(answer)},
    ]


def miniature(model: Path, server_url: str) -> dict[str, Any]:
    """job.yaml with a tiny model, which takes few tokens, and few small steps."""
    raw = yaml.safe_load(JOB)
    inner = raw["method"]["reinforcement"]
    inner["tools"][0]["server_url"] = f"{server_url}/tools/search"
    inner["max_episode_steps"] = 3
    inner["hyperparameters"] |= {"batch_size": 2, "compute_multiplier": 0.5, "max_steps": 2, "lora_rank": 4}
    inner["hyperparameters"] |= {"max_tokens_per_turn": 48, "max_context_tokens": 480}
    inner["grader"]["source_file"] = str(EXAMPLE / "grader.py")
    raw["holdout_graders"]["exact_f1"]["source_file"] = str(EXAMPLE / "exact_f1.py")
    raw["warm_start"] |= {"n_epochs": 1, "learning_rate": 1.0e-5}
    return raw | {"model": str(model), "dtype": "float32", "output_dir": "runs", "baseline": {"enabled": False}}
