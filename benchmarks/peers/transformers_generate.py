"""Worker: transformers' `generate` on one static, left-padded batch, with its key-value cache, no log-probabilities."""

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from benchmarks.protocol import Repetition, serve

PAD_TOKEN_ID = 0  # hidden by the attention mask, so that any id will do


def load_model(config: dict[str, Any]) -> PreTrainedModel:
    """The model in the asked dtype, with an end-of-sequence token that nothing stops at."""
    model = AutoModelForCausalLM.from_pretrained(
        config["model"], dtype=getattr(torch, config["dtype"]), local_files_only=True
    ).eval()
    model.generation_config = GenerationConfig(pad_token_id=PAD_TOKEN_ID)
    return model


def left_padded(prompts: list[list[int]]) -> dict[str, torch.Tensor]:
    """`input_ids` and `attention_mask`, both [prompts, longest prompt]."""
    width = max(map(len, prompts))
    ids = [[PAD_TOKEN_ID] * (width - len(prompt)) + prompt for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def load(config: dict[str, Any]) -> Repetition:
    """A repetition generates for all prompts, as long as the longest wants; only the tokens asked for are counted."""
    model = load_model(config)

    @torch.inference_mode()
    def repeat(seed: int) -> dict[str, Any]:
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
        ).tolist()
        width = batch["input_ids"].shape[1]
        completions = [row[width : width + wanted] for row, wanted in zip(sequences, config["max_tokens"], strict=True)]
        seconds = time.perf_counter() - started
        if [len(completion) for completion in completions] != config["max_tokens"]:
            raise RuntimeError("generate sampled another number of tokens than were asked for")
        return {"seconds": seconds, "sampled_tokens": sum(map(len, completions))}

    return repeat


if __name__ == "__main__":
    serve(load, ["torch", "transformers"])
