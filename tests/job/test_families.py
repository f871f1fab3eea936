"""A whole job on models of other architectures: warm start, steps, checkpoints, and exports that others load."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoTokenizer

from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.export import describe_weights, export_adapter, export_merged
from agentrft.job.references import resolve_reference
from agentrft.job.runtime import Runtime
from agentrft.models import resolve_model
from agentrft.models.architecture import OneSequence
from agentrft.models.auto import auto_class
from agentrft.models.load import load_config, model_folder
from agentrft.spec import load_job
from tests.job.tiny_job import write_job
from tests.model_families import FAMILIES
from tests.traffic.chaos_server import ChaosServer

# A window and a cap, sinks and experts, states of each kind, a text's part of a model of images.
WHOLE_JOBS = ["gemma2", "gpt_oss", "qwen3_5", "nemotron_h", "lfm2", "gemma4_images"]
QUICK = [("qwen3_5", 4)]
TOKENS = torch.arange(5, 45).unsqueeze(0)


def family_folder(family: str, folder: Path) -> Path:
    """Random weights of a family, with SmolLM2's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    config = FAMILIES[family]()
    changes = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "pad_token_id": 0}
    if hasattr(config.get_text_config(), "vocab_size_per_layer_input"):
        changes["vocab_size_per_layer_input"] = len(tokenizer)
    config.get_text_config(decoder=True).update(changes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = auto_class(config).from_config(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("family", "rank"),
    [
        pytest.param(family, rank, marks=[] if (family, rank) in QUICK else pytest.mark.slow)
        for family in WHOLE_JOBS
        for rank in (4, "full")
    ],
)
async def test_a_job_trains_it_and_others_load_what_is_exported(tmp_path: Path, family: str, rank: int | str) -> None:
    folder = family_folder(family, tmp_path / "model")
    limits = {"max_steps": 1, "max_tokens_per_turn": 8, "max_episode_steps": 2, "lora_rank": rank}
    async with ChaosServer() as server:
        path = write_job(tmp_path, folder, server.url, hyperparameters=limits, baseline={"enabled": False})
        spec = load_job(path)
        store, job_id = create_job(spec)
        with store:
            await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
            job = store.get_job(job_id)
            assert job.status == "succeeded", job.error
            lines = [dict(row) for row in store.metrics(job_id)]
            reference = resolve_reference(f"{job_id}@last", store)
            weights = describe_weights(reference, store)
        gaps = [line["update"]["logprob_gap_max"] for line in lines if line.get("update", {}).get("sampled_tokens")]
        assert all(gap < 1e-3 for gap in gaps), "the engine and the learner are of one mind"
        runtime = Runtime(spec)
        try:
            await runtime.begin_with(reference)
            expected = _logits(runtime)
        finally:
            await runtime.close()
    export_merged(weights, tmp_path / "merged")
    assert _differs(_loaded(tmp_path / "merged"), expected) < 1e-3
    if rank != "full":
        export_adapter(weights, tmp_path / "adapter")
        adapted = PeftModel.from_pretrained(_model(folder), str(tmp_path / "adapter"))
        with torch.no_grad():
            assert _differs(adapted(input_ids=TOKENS).logits[0], expected) < 1e-3
        named = json.loads((tmp_path / "adapter/adapter_config.json").read_text())["target_modules"]
        assert isinstance(named, str) == family.endswith("_images"), "an expression where other parts have such names"


def _logits(runtime: Runtime) -> torch.Tensor:
    forward, ids = runtime.policy.engine_forward, TOKENS[0]
    runtime.policy.write_to(forward)
    positions = torch.arange(len(ids))
    with torch.no_grad():
        return forward.head(forward.trunk(ids, positions, positions, OneSequence(len(ids) // 2)))


def _model(folder: Path) -> Any:
    config = load_config(resolve_model(str(folder)))
    return auto_class(config).from_pretrained(folder, dtype=torch.float32).eval()


def _loaded(folder: Path) -> torch.Tensor:
    with torch.no_grad():
        return _model(folder)(input_ids=TOKENS).logits[0]


def _differs(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.log_softmax(-1) - other.log_softmax(-1)).abs().max())
