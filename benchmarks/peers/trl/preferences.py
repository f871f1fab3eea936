"""Worker: one optimizer step of TRL's DPOTrainer on given pairs, from given adapters.

The data set has the tokens already, so only TRL's own reading of text is replaced. Loss, reference, backward, clipping
and AdamW are TRL's and transformers' own; the clock runs from the step's begin to its end.
"""

from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.peers.trl.settings import quiet_on_a_cpu
from benchmarks.peers.trl.update import StepClock
from benchmarks.protocol import Repetition, adapter_values, serve
from trl import DPOConfig, DPOTrainer


class GivenTokens(DPOTrainer):
    """DPOTrainer whose data set has `prompt_ids`, `chosen_ids` and `rejected_ids`."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset


def load(config: dict[str, Any]) -> Repetition:
    pairs = config["pairs"]
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    clock = StepClock()

    def trainer() -> DPOTrainer:
        return GivenTokens(
            model=AutoModelForCausalLM.from_pretrained(config["model"], dtype=getattr(torch, config["dtype"])),
            args=DPOConfig(
                output_dir=config.get("output_dir", "/tmp/trl-preferences"),
                **quiet_on_a_cpu(config),
                logging_steps=1,
                max_steps=1,
                per_device_train_batch_size=len(pairs),
                learning_rate=config["learning_rate"],
                lr_scheduler_type="constant",
                max_grad_norm=1.0,
                max_length=None,
                beta=config["beta"],
            ),
            train_dataset=Dataset.from_list(pairs),
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

    def repeat(_seed: int) -> dict[str, Any]:
        # Anew for each: a step changes the adapters.
        one = trainer()
        with torch.no_grad():
            for name, parameter in one.model.named_parameters():
                if parameter.requires_grad:
                    parameter.copy_(torch.tensor(adapter_values(name, parameter.numel())).view_as(parameter))
        one.train()
        return {
            "seconds": clock.seconds,
            "loss": clock.logs["loss"],
            "margin": clock.logs["rewards/margins"],
            "grad_norm": clock.logs["grad_norm"],
        }

    return repeat


if __name__ == "__main__":
    serve(load, ["trl", "torch", "transformers", "peft"])
