"""Worker: one optimizer step of TRL's GRPOTrainer on given rollouts.

A repetition is one `GRPOTrainer.train()` of a single step, in which only generation is replaced: it returns the
recorded groups. Loss, backward, accumulation over the groups, clipping and AdamW are TRL's and transformers' own. The
clock runs from the step's begin to its end, so `train()`'s preparations do not count.
"""

import itertools
import time
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from benchmarks.peers.trl.settings import quiet_on_a_cpu
from benchmarks.protocol import Repetition, serve
from trl import GRPOConfig, GRPOTrainer

# Rows per backward pass: on two cores the fastest of 1, 2, 4 and 8, and a third of the memory of 8.
MICRO_BATCH = 2
STD_FLOOR = 1e-4


class RecordedRollouts(GRPOTrainer):
    """GRPOTrainer that gets its rollouts from `recorded`, one group per call, instead of generating them."""

    recorded: "itertools.cycle[dict[str, Tensor]]"

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Tensor]:
        return next(self.recorded)


class StepClock(TrainerCallback):
    """Wall time of the last optimizer step in seconds, and what was logged of it."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.logs: dict[str, float] = {}

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._started = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = time.perf_counter() - self._started

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.logs = {**self.logs, **logs}


def as_inputs(group: dict[str, Any], pad_id: int, step_tokens: float, groups: int) -> dict[str, Tensor]:
    """A group as `GRPOTrainer._compute_loss` takes it, padded to its own longest row.

    A log-probability of None marks a token that was not sampled: a tool's result.
    """
    rows = len(group["completions"])
    logprobs = [torch.tensor([0.0 if value is None else value for value in row]) for row in group["logprobs"]]
    sampled = [torch.tensor([int(value is not None) for value in row]) for row in group["logprobs"]]
    completions = [torch.tensor(ids) for ids in group["completions"]]
    prompt_ids = torch.tensor(group["prompt_ids"]).expand(rows, -1).clone()
    rewards = torch.tensor(group["rewards"], dtype=torch.float32)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": pad_sequence(completions, batch_first=True, padding_value=pad_id),
        "completion_mask": pad_sequence([torch.ones_like(ids) for ids in completions], batch_first=True),
        "tool_mask": pad_sequence(sampled, batch_first=True, padding_value=1),
        "old_per_token_logps": pad_sequence(logprobs, batch_first=True),
        "advantages": (rewards - rewards.mean()) / (rewards.std() + STD_FLOOR),
        # TRL multiplies it by the number of groups: so the loss is a mean over the sampled tokens of the whole step.
        "num_items_in_batch": torch.tensor(step_tokens / groups),
    }


def load(config: dict[str, Any]) -> Repetition:
    groups = config["groups"]
    rows = len(groups[0]["completions"])
    micro_batch = config.get("micro_batch", MICRO_BATCH)
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=getattr(torch, config["dtype"]))
    clock = StepClock()
    args = GRPOConfig(
        output_dir=config.get("output_dir", "/tmp/trl-update"),
        **quiet_on_a_cpu(config),
        logging_steps=1,
        max_steps=1,
        # A group is padded by itself, as if TRL had generated it alone. Generated with the other groups, it would
        # be padded to the longest prompt and the longest completion of them all.
        per_device_train_batch_size=micro_batch,
        steps_per_generation=rows // micro_batch,
        gradient_accumulation_steps=len(groups) * rows // micro_batch,
        num_generations=rows,
        learning_rate=config["learning_rate"],
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        temperature=config["temperature"],
        # Ours, as TRL names it: a mean over the sampled tokens of the step, clipped at 1 +- 0.2 and at 3.
        loss_type="dapo",
        scale_rewards="group",
        epsilon=0.2,
        delta=3.0,
        beta=0.0,
    )
    trainer = RecordedRollouts(
        model=model,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": str(number)} for number in range(len(groups))]),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=config["lora_rank"],
            lora_alpha=config["lora_alpha"],
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[clock],
    )
    step_tokens = sum(value is not None for group in groups for row in group["logprobs"] for value in row)
    batches = [as_inputs(group, tokenizer.pad_token_id, step_tokens, len(groups)) for group in groups]
    trainer.recorded = itertools.cycle(batches)
    tokens = sum(batch["prompt_ids"].numel() + batch["completion_ids"].numel() for batch in batches)

    def repeat(_: int) -> dict[str, Any]:
        trainer.train()
        return {
            "seconds": clock.seconds,
            "tokens": tokens,
            "loss": clock.logs["loss"],
            "grad_norm": clock.logs["grad_norm"],
        }

    return repeat


if __name__ == "__main__":
    serve(load, ["torch", "trl", "transformers", "peft", "accelerate"])
