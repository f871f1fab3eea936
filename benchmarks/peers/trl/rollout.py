"""Worker: the rollouts of one GRPO step with a tool, by TRL's GRPOTrainer and its own tool loop.

A repetition is `GRPOTrainer._generate_and_score_completions`: render the prompts, generate for all rollouts at once,
call the tools, generate again for those that called, pad. With these settings nothing else happens in it: no old and
no reference log-probabilities, and a reward function that does nothing.
"""

import json
import random
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, set_seed

from benchmarks.peers.trl.tool import HttpTool, load_tokenizer, stop_at_end_of_text
from benchmarks.protocol import Repetition, serve
from trl import GRPOConfig, GRPOTrainer


def no_reward(completions: list[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def load(config: dict[str, Any]) -> Repetition:
    rows = [json.loads(line) for line in Path(config["data"]).read_text(encoding="utf-8").splitlines()]
    samples, rollouts_per_sample = config["samples"], config["rollouts_per_sample"]
    tokenizer = load_tokenizer(config["model"])
    # Plain weights: a training run would generate through its adapter's layers, and under autocast, which is slower.
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=getattr(torch, config["dtype"]))
    stop_at_end_of_text(model, tokenizer)
    tool = HttpTool(**config["tool"])
    args = GRPOConfig(
        output_dir=config.get("output_dir", "/tmp/trl-rollout"),
        use_cpu=True,
        bf16=False,
        report_to="none",
        gradient_checkpointing=False,
        beta=0.0,
        num_generations=rollouts_per_sample,
        # One generation for all rollouts of the step. It feeds exactly one optimizer step, so that TRL computes no
        # old log-probabilities.
        per_device_train_batch_size=rollouts_per_sample,
        gradient_accumulation_steps=samples,
        temperature=config["temperature"],
        top_p=config["top_p"],
        # TRL bounds all turns and tool results of a rollout together, and lets each turn use the whole bound. So the
        # bound is the whole context, never less than our rollouts get, and `max_new_tokens` bounds the turn as ours.
        max_completion_length=config["max_context_tokens"],
        generation_kwargs={"max_new_tokens": config["max_tokens_per_turn"]},
        # The first turn is not an iteration.
        max_tool_calling_iterations=config["max_episode_steps"] - 1,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=no_reward,
        args=args,
        train_dataset=Dataset.from_list([{"prompt": row["messages"]} for row in rows]),
        processing_class=tokenizer,
        tools=[tool.as_function()],
    )
    # The schema of the configuration in place of one read off the function, which would add words to every prompt.
    trainer.tools = [tool.schema]
    trainer.model.train()

    def repeat(seed: int) -> dict[str, Any]:
        chosen = random.Random(seed).sample(rows, samples)
        inputs = [{"prompt": row["messages"]} for row in chosen for _ in range(rollouts_per_sample)]
        calls_before = tool.calls
        set_seed(seed)
        started = time.perf_counter()
        batch = trainer._generate_and_score_completions(inputs)
        seconds = time.perf_counter() - started
        return {
            "seconds": seconds,
            "rollouts": len(inputs),
            "sampled_tokens": int((batch["completion_mask"] * batch["tool_mask"]).sum()),
            "tool_calls": tool.calls - calls_before,
        }

    return repeat


if __name__ == "__main__":
    serve(load, ["torch", "trl", "transformers"])
