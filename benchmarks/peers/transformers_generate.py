"""Benchmark peer: transformers' `generate` on one static, left-padded batch.

Speaks `benchmarks.protocol`: static batch, attention mask, key-value cache, no log-probabilities.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

PAD_TOKEN_ID = 0  # hidden by the attention mask, so that any id will do


def load_model(config: dict[str, Any]) -> PreTrainedModel:
    """The model in the asked dtype, with an end-of-sequence token that nothing stops at."""
    model = AutoModelForCausalLM.from_pretrained(
        config["model"],
        dtype=getattr(torch, config["dtype"]),
        attn_implementation=config.get("attention", "sdpa"),
        local_files_only=True,
    ).eval()
    model.generation_config = GenerationConfig(pad_token_id=PAD_TOKEN_ID)
    if "compile" in config:
        model.forward = torch.compile(model.forward, **config["compile"])
    return model


def left_padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both [prompts, longest prompt]."""
    width = max(map(len, prompts))
    ids = [[PAD_TOKEN_ID] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


@torch.inference_mode()
def repetition(model: PreTrainedModel, config: dict[str, Any], seed: int) -> dict[str, float]:
    """Generate for all prompts, as long as the longest wants; only the tokens that were asked for are counted."""
    torch.manual_seed(seed)
    started = time.perf_counter()
    batch = left_padded(config["prompts"])
    sequences = model.generate(
        **batch,
        do_sample=True,
        temperature=config["temperature"],
        top_p=config["top_p"],
        top_k=0,
        max_new_tokens=max(config["max_tokens"]),
        cache_implementation=config.get("cache"),
    ).tolist()
    width = batch["input_ids"].shape[1]
    completions = [row[width : width + wanted] for row, wanted in zip(sequences, config["max_tokens"], strict=True)]
    seconds = time.perf_counter() - started
    sampled_tokens = sum(map(len, completions))
    if sampled_tokens != sum(config["max_tokens"]):
        raise RuntimeError(f"{sampled_tokens} tokens were sampled, {sum(config['max_tokens'])} were asked for")
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "sampled_tokens": sampled_tokens, "peak_rss_mb": peak_rss_mb}


def main() -> None:
    """Serve the worker protocol until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    config = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(config["threads"])
    model = load_model(config)
    repetition(model, config, seed=0)
    versions = {"transformers": transformers.__version__, "torch": torch.__version__}
    print(json.dumps({"ready": True, "versions": versions}), file=answers)
    for line in sys.stdin:
        print(json.dumps(repetition(model, config, json.loads(line)["seed"])), file=answers)


if __name__ == "__main__":
    main()
