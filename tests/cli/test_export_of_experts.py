"""`agentrft export` of an adapter that changes experts says who reads it; the merged model is what it stands for."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from agentrft.job.checkpoint import save_weights
from agentrft.learner import Policy
from agentrft.models.forward import TransformersForward
from agentrft.models.planned import use_planned_attention
from tests.cli.commands import run_here
from tests.job.test_families import family_folder
from tests.learner.masters import with_random_masters


def test_an_adapter_of_experts_is_exported_with_a_word_and_merged_as_the_policy_has_it(tmp_path: Path) -> None:
    folder = family_folder("qwen3_moe", tmp_path / "model")
    base, expected = (AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for _ in range(2))
    use_planned_attention(base)
    policy = with_random_masters(Policy(base.requires_grad_(False), lora_rank=4, seed=0))
    policy.write_to(TransformersForward(expected))
    save_weights(tmp_path, policy)

    ran = run_here("export", str(tmp_path / "adapter"), "--format", "adapter", "--out", str(tmp_path / "exported"))
    assert ran.code == 0, ran.stderr
    assert "PEFT reads from 0.19 on" in ran.stdout and "vllm serve" not in ran.stdout
    ran = run_here("export", str(tmp_path / "adapter"), "--format", "merged", "--out", str(tmp_path / "merged"))
    assert ran.code == 0, ran.stderr
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    for name, weight in expected.named_parameters():
        assert torch.equal(merged.get_parameter(name), weight), name
