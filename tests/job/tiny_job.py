"""A whole job that runs in seconds: a tiny model that calls its one tool, data, a grader, and a tool server.

The model is a Llama of two layers with SmolLM2's tokenizer. `make_model` trains it, once per test session, on
conversations that make one and the same call and then answer with one of four colours, so that rewards differ
within groups.
"""

import asyncio
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from agentrft.chat import ChatCodec, load_codec
from agentrft.learner import Learner, Policy, TrainingRow
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from agentrft.models.planned import use_planned_attention
from tests.job import backend
from tests.traffic.chaos_server import ChaosServer

WORDS = ["apple", "stone", "river", "cloud", "table", "horse", "glass", "music", "paper", "light"]
TRAIN_WORDS, VALIDATION_WORDS = WORDS[:6], WORDS[6:]
COLOURS = ["red", "light green", "very dark blue", "white"]
TOOL = {
    "name": "lookup",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
ARGUMENTS = {"word": "colour"}
GRADER = """
def grade(sample, item):
    return min(1.0, len(sample["output_text"]) / 20)
"""
TRAINING_UPDATES = 50
PHASES = [("warm_start", 1), ("warm_start", 2), ("validation", 0)] + [
    (phase, step) for step in (1, 2, 3) for phase in ("train", "validation")
]


def prompt(word: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Colour of {word}?"}]


def demonstration(word: str, colour: str) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": ARGUMENTS}}
    return [
        *prompt(word),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": "lookup", "content": "fine"},
        {"role": "assistant", "content": colour},
    ]


def untrained(tokenizer: Any, head_dim: int = 12) -> LlamaForCausalLM:
    """A Llama of two layers for that tokenizer, the same each time."""
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=head_dim,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    use_planned_attention(model)
    return model


def make_model(folder: Path, head_dim: int = 12, updates: int = TRAINING_UPDATES) -> Path:
    """Train the tiny model and save it with its tokenizer; a few seconds on one core."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m")))
    model = untrained(tokenizer, head_dim)
    codec = load_codec(tokenizer, "tiny")
    shown = [
        [(codec, demonstration(WORDS[(update + index) % len(WORDS)], colour)) for index, colour in enumerate(COLOURS)]
        for update in range(updates)
    ]
    return train_and_save(model, tokenizer, shown, folder)


def train_and_save(
    model: LlamaForCausalLM,
    tokenizer: Any,
    shown: Sequence[Sequence[tuple[ChatCodec, Any]]],
    folder: Path,
    tool: dict[str, Any] = TOOL,
) -> Path:
    """Train all weights, an update for each list of codecs and conversations, and save the model with its tokenizer.

    The prompts of the conversations have `tool`, as those of the job must.
    """
    policy = Policy(model, lora_rank=None, seed=0)
    learner = Learner(policy, algorithm="grpo", learning_rate=1e-2, temperature=1.0, max_grad_norm=1.0, warm_up_steps=5)
    for conversations in shown:
        rows = []
        for index, (codec, messages) in enumerate(conversations):
            for ids, mask in codec.training_rows(messages, [{"type": "function", "function": tool}]):
                positions = [position for position, sampled in enumerate(mask) if sampled]
                rows.append(TrainingRow(ids, positions, [0.0] * len(positions), index))
        learner.supervised_update(rows)
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_job(folder: Path, model: Path, url: str, **changes: Any) -> Path:
    """Write data and `job.yaml`; returns its path.

    Args:
        changes: fields of the job that differ; those of `hyperparameters` and of the one `tool` are merged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", [{"messages": prompt(word), "word": word} for word in TRAIN_WORDS])
    write_rows(folder / "validation.jsonl", [{"messages": prompt(word), "word": word} for word in VALIDATION_WORDS])
    demonstrations = [{"messages": demonstration(word, colour)} for word, colour in zip(WORDS, COLOURS, strict=False)]
    write_rows(folder / "demonstrations.jsonl", demonstrations)
    hyperparameters = {
        "batch_size": 2,
        "compute_multiplier": 0.5,
        "max_steps": 3,
        "eval_interval": 1,
        "max_tokens_per_turn": 48,
        "max_episode_steps": 4,
        "max_context_tokens": 256,
        "lora_rank": 4,
        "learning_rate_multiplier": 5,
        **changes.pop("hyperparameters", {}),
    }
    tool = {**TOOL, "server_url": url, "timeout_s": 20.0, "outage_deadline_s": 3.0, **changes.pop("tool", {})}
    inner = {
        "tools": [tool],
        "grader": changes.pop("grader", {"type": "python", "trusted": True, "name": "length", "source": GRADER}),
        "hyperparameters": hyperparameters,
    }
    job = {
        "model": str(model),
        "training_file": "train.jsonl",
        "validation_file": "validation.jsonl",
        "seed": 7,
        "dtype": "float32",
        "output_dir": "runs",
        # Four, which is the default, would be most of these jobs' rollouts.
        "baseline": {"rollouts_per_sample": 1},
        "method": {"type": "reinforcement", "reinforcement": inner},
        "warm_start": {"training_file": "demonstrations.jsonl", "batch_size": 2, "learning_rate": 1e-3},
        **changes,
    }
    if backend.cluster and not job.get("deterministic"):
        job.setdefault("cluster", backend.cluster)
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(job))
    return path


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@contextmanager
def one_thread() -> Iterator[None]:
    """A tiny model gains nothing from threads, and loses much where other work has the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def serving(server: ChaosServer) -> Iterator[ChaosServer]:
    """Run a tool server in a thread with a loop of its own, for jobs that run in other processes."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result(10)
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_end(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _end(server: ChaosServer) -> None:
    """Close the server, and end what it still had in hand: a loop that is closed over tasks complains of each."""
    await server.__aexit__()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def tool_calls(server: ChaosServer) -> list[dict[str, Any]]:
    """Headers and body of every request, as the server saw them."""
    return [
        {"headers": {name.lower(): value for name, value in received.headers.items()}, **received.body}
        for received in server.received
    ]
