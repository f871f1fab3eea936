"""Worker: GRPO on the quickstart's task by TRL's GRPOTrainer, generation, tools, grader and updates included."""

import importlib.util
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, TrainerCallback, TrainerControl, set_seed

from benchmarks.peers.trl.settings import quiet_on_a_cpu
from benchmarks.peers.trl.tool import HttpTool, load_tokenizer, stop_at_end_of_text
from benchmarks.peers.trl.update import MICRO_BATCH
from benchmarks.protocol import AfterStep, serve_training
from trl import GRPOConfig, GRPOTrainer


class Reporting(TrainerCallback):
    """Tells each step, with its adapter on disk, and ends the training when told to.

    Args:
        updates: optimizer steps of a step's rollouts.

    Attributes:
        seconds: of training so far, without saving and telling.
    """

    def __init__(self, after_step: AfterStep, folder: Path, updates: int) -> None:
        self._after_step = after_step
        self._folder = folder
        self._updates = updates
        self.trainer: GRPOTrainer | None = None
        self.seconds = 0.0

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._resumed = time.perf_counter()

    def on_step_end(self, _: Any, state: Any, control: TrainerControl, **__: Any) -> None:
        assert self.trainer is not None
        if state.global_step % self._updates:
            return
        self.seconds += time.perf_counter() - self._resumed
        adapter = self._folder / f"step-{state.global_step}"
        self.trainer.save_model(str(adapter))
        rewards = self.trainer._metrics["train"]["reward"]
        told = {
            "step": state.global_step // self._updates,
            "seconds": self.seconds,
            "adapter": str(adapter),
            "reward": rewards[-1],
        }
        control.should_training_stop = not self._after_step(told)
        self._resumed = time.perf_counter()


class Scheduled(GRPOTrainer):
    """GRPOTrainer with our learning-rate schedule: warm-up from the first step on, then linear to a tenth.

    All optimizer steps of a step's rollouts have the same rate.
    """

    warm_up_steps: int
    decay_steps: int
    updates_per_step: int

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def factor(updates: int) -> float:
            steps = updates // self.updates_per_step
            warm_up = min(1.0, (steps + 1) / (self.warm_up_steps + 1))
            return warm_up * (1 - 0.9 * min(1.0, steps / max(1, self.decay_steps - 1)))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler


def reward_function(grader: Path) -> Any:
    """The quickstart's `grade` on what TRL passes: each completion as its messages, and the rows' columns as lists."""
    spec = importlib.util.spec_from_file_location("grader", grader)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def reward(completions: list[list[dict[str, Any]]], answer: list[str], **_: Any) -> list[float]:
        scores = []
        for messages, right in zip(completions, answer, strict=True):
            calls = [call for message in messages for call in message.get("tool_calls") or []]
            last = messages[-1] if messages else {}
            answered = last.get("role") == "assistant" and not last.get("tool_calls")
            text = str(last.get("content") or "") if answered else ""
            scores.append(module.grade({"output_text": text, "output_tools": calls}, {"answer": right}))
        return scores

    return reward


def train(config: dict[str, Any], seed: int, after_step: AfterStep) -> dict[str, Any]:
    """From the warm-started model, until told to stop or after the last step."""
    rows = [json.loads(line) for line in Path(config["data"]).read_text(encoding="utf-8").splitlines()]
    ordered = [rows[index] for step in config["order"] for index in step]
    samples, rollouts = len(config["order"][0]), config["rollouts_per_sample"]
    set_seed(seed)
    tokenizer = load_tokenizer(config["model"])
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=getattr(torch, config["dtype"]))
    stop_at_end_of_text(model, tokenizer)
    tool = HttpTool(**config["tool"])
    folder = Path(tempfile.mkdtemp(prefix="trl-train-"))
    micro_batches = samples * rollouts // MICRO_BATCH
    updates = config["minibatches"] * config["update_epochs"]
    args = GRPOConfig(
        output_dir=str(folder),
        **quiet_on_a_cpu(config),
        seed=seed,
        shuffle_dataset=False,
        max_steps=len(config["order"]) * updates,
        # One generation for all rollouts of a step; with one optimizer step no old log-probabilities are computed.
        per_device_train_batch_size=MICRO_BATCH,
        steps_per_generation=micro_batches,
        gradient_accumulation_steps=micro_batches // config["minibatches"],
        num_iterations=config["update_epochs"],
        num_generations=rollouts,
        learning_rate=config["learning_rate"],
        adam_beta1=0.9,
        adam_beta2=0.95,
        weight_decay=0.0,
        max_grad_norm=config["max_grad_norm"],
        temperature=config["temperature"],
        top_p=config["top_p"],
        # See `benchmarks.peers.trl.rollout`: TRL bounds a rollout as a whole, ours its turns and its context.
        max_completion_length=config["max_context_tokens"],
        generation_kwargs={"max_new_tokens": config["max_tokens_per_turn"]},
        max_tool_calling_iterations=config["max_episode_steps"] - 1,
        # Ours, as TRL names it: a mean over the sampled tokens of the step, clipped at 1 +- 0.2 and at 3.
        loss_type="dapo",
        scale_rewards="group",
        epsilon=0.2,
        delta=3.0,
        beta=0.0,
    )
    reporting = Reporting(after_step, folder, updates)
    trainer = Scheduled(
        model=model,
        reward_funcs=reward_function(Path(config["grader"])),
        args=args,
        train_dataset=Dataset.from_list([{"prompt": row["messages"], "answer": row["answer"]} for row in ordered]),
        processing_class=tokenizer,
        tools=[tool.as_function()],
        peft_config=LoraConfig(
            r=config["lora_rank"],
            lora_alpha=2 * config["lora_rank"],
            lora_dropout=0.0,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[reporting],
    )
    trainer.warm_up_steps, trainer.decay_steps = config["warm_up_steps"], config["decay_steps"]
    trainer.updates_per_step = updates
    trainer.tools = [tool.schema]
    reporting.trainer = trainer
    trainer.train()
    return {"seconds": reporting.seconds}


if __name__ == "__main__":
    serve_training(train, ["torch", "trl", "transformers", "peft", "accelerate"])
