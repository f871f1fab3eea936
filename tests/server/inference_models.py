"""Checkpoints of the tiny model that answer differently, as jobs write them, and their weights by other means."""

import functools
import json
from pathlib import Path
from typing import Any

import torch
from openai.lib._pydantic import to_strict_json_schema
from peft import PeftModel
from pydantic import BaseModel
from transformers import AutoTokenizer, PreTrainedModel

from agentrft.chat import load_codec
from agentrft.job.checkpoint import save_weights
from agentrft.learner import Learner, Policy, TrainingRow
from agentrft.models import resolve_model
from agentrft.models.load import load_model
from agentrft.models.planned import use_planned_attention
from agentrft.server.inference.constraints import OutputFormat
from agentrft.server.inference.weights import Weights
from tests.job.tiny_job import WORDS, one_thread, prompt

CONTEXT_TOKENS = 256
UPDATES = 25
UPDATES_OF_ALL_WEIGHTS = 50


class Colour(BaseModel):
    colour: str


SCHEMA: dict[str, Any] = to_strict_json_schema(Colour)
JSON_ANSWER = json.dumps({"colour": "white"})
LONG_ANSWER = "one two three four five six seven eight nine ten eleven twelve thirteen"
# For each checkpoint: what it answers, and whether it is an adapter.
ANSWERS = {
    "white": ("white", True),
    "green": ("light green", True),
    "json": (JSON_ANSWER, False),
    "long": (LONG_ANSWER, False),
    "whole": ("very dark blue", False),
}


def plain(model: Path) -> PreTrainedModel:
    """The model by transformers. Servers of the same process may be loading theirs, so it takes its turn."""
    return load_model(resolve_model(str(model)), torch.float32)


@functools.cache
def checkpoint(model: Path, name: str) -> Path:
    """The folder of a checkpoint that gives one of `ANSWERS`; trained once for all tests."""
    answer, is_adapter = ANSWERS[name]
    tokenizer = AutoTokenizer.from_pretrained(model)
    codec = load_codec(tokenizer, "tiny")
    network = plain(model)
    use_planned_attention(network)
    with one_thread():
        policy = Policy(network, lora_rank=8 if is_adapter else None, seed=0)
        learner = Learner(
            policy, algorithm="grpo", learning_rate=1e-2, temperature=1.0, max_grad_norm=1.0, warm_up_steps=3
        )
        for update in range(UPDATES if is_adapter else UPDATES_OF_ALL_WEIGHTS):
            rows = []
            for index in range(3):
                messages = [
                    *asked(name, WORDS[(update + index) % len(WORDS)], index),
                    {"role": "assistant", "content": answer},
                ]
                for ids, mask in codec.training_rows(messages):
                    positions = [position for position, sampled in enumerate(mask) if sampled]
                    rows.append(TrainingRow(ids, positions, [0.0] * len(positions), index))
            learner.supervised_update(rows)
    folder = model.parent / f"checkpoints-{name}" / "step-00001"
    folder.mkdir(parents=True)
    save_weights(folder, policy)
    return folder


def asked(name: str, word: str, index: int) -> list[dict[str, Any]]:
    """What the model sees of the question: with the instruction of one of two formats where JSON is the answer."""
    system = {"role": "system", "content": OutputFormat(SCHEMA if index % 2 else None).instruction}
    return [system, *prompt(word)] if name == "json" else prompt(word)


def weights(model: Path, name: str = "base") -> Weights:
    """The header's content for the base model or one of `ANSWERS`."""
    folder = None if name == "base" else checkpoint(model, name)
    return Weights(
        name=f"ft:{name}", base=str(model), folder=folder, dtype="float32", max_context_tokens=CONTEXT_TOKENS
    )


def greedy_by_transformers(model: Path, folder: Path | None, messages: list[dict[str, Any]], tokens: int) -> str:
    """The same greedy answer without any of our engine: PEFT's merge and transformers' generate."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    codec = load_codec(tokenizer, "tiny")
    network = plain(model)
    if folder is not None:
        network = PeftModel.from_pretrained(network, folder / "adapter").merge_and_unload()
    ids = codec.prompt_ids(messages)
    with one_thread(), torch.inference_mode():
        out = network.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=tokens, eos_token_id=codec.stop_ids, pad_token_id=0
        )
    return codec.parse(out[0, len(ids) :].tolist(), ids, new_call_id=lambda: "").content
