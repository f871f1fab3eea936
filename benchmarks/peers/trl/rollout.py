"""Worker: the rollouts of one GRPO step with a tool, by TRL's GRPOTrainer and its own tool loop.

A repetition is `GRPOTrainer._generate_and_score_completions`: render the prompts, generate for all rollouts at once,
call the tools, generate again for those that called, pad. With these settings nothing else happens in it: no old and
no reference log-probabilities, and a reward function that does nothing.
"""

import json
import random
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, set_seed

from benchmarks.protocol import Repetition, serve
from trl import GRPOConfig, GRPOTrainer
from trl.chat_template_utils import qwen3_template


class HttpTool:
    """The tool as the async function that TRL takes, over one kept-alive HTTP session.

    Attributes:
        calls: made so far.
        schema: what the chat template shows the model.
    """

    def __init__(self, name: str, description: str, parameters: dict[str, Any], url: str) -> None:
        self.calls = 0
        self.schema = {
            "type": "function",
            "function": {"name": name, "description": description, "parameters": parameters},
        }
        self._name = name
        self._url = url
        self._session: aiohttp.ClientSession | None = None

    def as_function(self) -> Callable[..., Awaitable[str]]:
        async def call(**arguments: Any) -> str:
            return await self._post(arguments)

        call.__name__ = self._name
        return call

    async def _post(self, arguments: dict[str, Any]) -> str:
        if self._session is None:  # made here, in the event loop of TRL's own thread
            self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(keepalive_timeout=600))
        self.calls += 1
        unique = uuid.uuid4().hex
        body = {
            "type": "function_call",
            "id": f"fc_{unique}",
            "call_id": f"call_{unique}",
            "name": self._name,
            "arguments": json.dumps(arguments),
            "trace_id": f"trace_{unique}",
            "item": {},
        }
        async with self._session.post(self._url, json=body) as response:
            return (await response.json())["output"] if response.ok else await response.text()


def no_reward(completions: list[Any], **_: Any) -> list[float]:
    return [0.0] * len(completions)


def load(config: dict[str, Any]) -> Repetition:
    rows = [json.loads(line) for line in Path(config["data"]).read_text(encoding="utf-8").splitlines()]
    samples, rollouts_per_sample = config["samples"], config["rollouts_per_sample"]
    tokenizer = AutoTokenizer.from_pretrained(config["model"], padding_side="left")
    # TRL knows templates by exact equality; ours is not among them, but its calls are written as Qwen 3 writes them.
    tokenizer.response_template = qwen3_template
    # Plain weights: a training run would generate through its adapter's layers, and under autocast, which is slower.
    model = AutoModelForCausalLM.from_pretrained(config["model"], dtype=getattr(torch, config["dtype"]))
    end_of_text = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_text]
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
    )  # fmt: skip
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
