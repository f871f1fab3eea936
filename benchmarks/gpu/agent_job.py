"""A whole job of three steps: a small random model that has learned to call its tool, and the tool behind HTTP.

The model's vocabulary is learned here from what it is going to say, so that no file is needed.
"""

import asyncio
import json
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from agentrft.chat import load_codec
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.learner import Learner, Policy, TrainingRow
from agentrft.models.planned import use_planned_attention
from agentrft.spec import parse_job
from benchmarks.gpu.findings import Findings, Setting, say

STEPS, LESSONS = 3, 50
# Of what engine and learner give the same token: the same model twice, computed in other orders.
LARGEST_GAP = {torch.float32: 1e-3, torch.bfloat16: 0.1}
TEMPLATE = (
    "{%- for message in messages -%}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') + '<|im_end|>\\n' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
WORDS = ["apple", "stone", "river", "cloud", "table", "horse", "glass", "music"]
# Of several lengths, by which they are graded, so that rewards differ.
COLOURS = ["red", "light green", "very dark blue", "white"]
TOOL = {
    "name": "lookup",
    "description": "Look a word up.",
    "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
}
GRADER = """
def grade(sample, item):
    return min(1.0, len(sample["output_text"]) / 20)
"""


def run(setting: Setting, findings: Findings) -> None:
    """Teach the model, then warm start, baseline, three steps with their validations, checkpoints and rollouts."""
    with tempfile.TemporaryDirectory(prefix="agentrft-gpu-") as name:
        folder = Path(name)
        with findings.timed("making the model"):
            _make_model(folder / "model", setting)
        with _tool_server() as (url, asked), findings.timed("job"):
            spec = parse_job(_job(folder, url, setting), folder=folder, source="gpu_check")
            store, job_id = create_job(spec)
            progress = _Reporting()
            asyncio.run(run_job(spec, store, job_id, progress=progress, stop=Stop()))
        metrics = [row for row in store.metrics(job_id) if row["phase"] == "train"]
        findings.note(
            status=store.get_job(job_id).status,
            tool_calls=len(asked),
            phases=progress.committed_phases,
            steps=[{name: row[name] for name in KEPT if name in row} for row in metrics],
        )
        findings.check("job: steps that are missing", STEPS - len(metrics), at_most=0)
        findings.check("job: steps without an update", sum(row["groups_trained"] == 0 for row in metrics), at_most=0)
        failed = max((row["infra_failure_share"] for row in metrics), default=1.0)
        findings.check("job: share of rollouts that infrastructure failed", failed, at_most=0)
        findings.check("job: whether the tool was never called", float(not asked), at_most=0)
        gap = max((row["logprob_gap_mean"] for row in metrics), default=float("nan"))
        findings.check("job: between engine and learner", gap, at_most=LARGEST_GAP[setting.dtype])


KEPT = (
    "step",
    "reward_mean",
    "rollout_s",
    "update_s",
    "step_s",
    "engine_busy_s",
    "sampled_tokens_per_s",
    "unique_tokens",
    "total_tokens",
    "logprob_gap_mean",
    "logprob_gap_max",
    "grad_norm",
    "policy_version",
    "groups_trained",
    "groups_zero_variance",
)


class _Reporting(NoProgress):
    def __init__(self) -> None:
        self.committed_phases: list[str] = []

    def committed(self, phase: str, step: int, metrics: dict[str, Any]) -> None:
        self.committed_phases.append(f"{phase} {step}")
        say(f"job: {phase} {step}")

    def message(self, level: str, text: str) -> None:
        if level in ("warning", "error"):
            say(f"job: {text}")


@contextmanager
def _tool_server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Its address on loopback, and what it is asked."""
    asked: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self._answer({"type": "function_call_output", "output": "fine"})

        def do_GET(self) -> None:
            self._answer({})

        def _answer(self, value: dict[str, Any]) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/lookup", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _prompt(word: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": f"Colour of {word}?"}]


def _demonstration(word: str, colour: str) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": {"word": "colour"}}}
    return [
        *_prompt(word),
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "name": "lookup", "content": "fine"},
        {"role": "assistant", "content": colour},
    ]


def _tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and what often stands together in the conversations, with ChatML's control tokens."""
    said = [json.dumps(_demonstration(word, colour)) for word in WORDS for colour in COLOURS] + [json.dumps(TOOL)]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.train_from_iterator(said, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|im_end|>", bos_token="<|im_start|>", pad_token="<|endoftext|>"
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def _make_model(folder: Path, setting: Setting) -> None:
    tokenizer = _tokenizer()
    width = 64 if setting.small else 256
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2 if setting.small else 4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32 if setting.small else 64,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = Qwen3ForCausalLM(config)
    model.to(device=setting.device)  # pyright: ignore[reportCallIssue]  # as in Runtime
    use_planned_attention(model)
    codec = load_codec(tokenizer, "random")
    learner = Learner(
        Policy(model, lora_rank=None, seed=0),
        algorithm="grpo",
        learning_rate=1e-2 if setting.small else 2e-3,
        temperature=1.0,
        max_grad_norm=1.0,
        warm_up_steps=5,
    )
    loss = 0.0
    for lesson in range(LESSONS):
        rows = []
        for index, colour in enumerate(COLOURS):
            messages = _demonstration(WORDS[(lesson + index) % len(WORDS)], colour)
            for ids, mask in codec.training_rows(messages, [{"type": "function", "function": TOOL}]):
                positions = [position for position, sampled in enumerate(mask) if sampled]
                rows.append(TrainingRow(ids, positions, [0.0] * len(positions), index))
        loss = learner.supervised_update(rows).loss
    say(f"the job's model has learned its conversations to a loss of {loss:.2f}")
    model.set_attn_implementation("sdpa")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _job(folder: Path, url: str, setting: Setting) -> dict[str, Any]:
    samples = [{"messages": _prompt(word), "word": word} for word in WORDS]
    demonstrations = [{"messages": _demonstration(word, COLOURS[i % 4])} for i, word in enumerate(WORDS)]
    for name, rows in (("train", samples[:6]), ("validation", samples[6:]), ("demonstrations", demonstrations)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "model": str(folder / "model"),
        "training_file": "train.jsonl",
        "validation_file": "validation.jsonl",
        "warm_start": {"training_file": "demonstrations.jsonl", "batch_size": 4, "learning_rate": 1e-3},
        "seed": 7,
        "dtype": str(setting.dtype).removeprefix("torch."),
        "output_dir": "runs",
        "method": {
            "type": "reinforcement",
            "reinforcement": {
                "tools": [{**TOOL, "server_url": url, "timeout_s": 20.0}],
                "grader": {"type": "python", "trusted": True, "name": "length", "source": GRADER},
                "hyperparameters": {
                    "batch_size": 2,
                    "compute_multiplier": 1.0,
                    "max_steps": STEPS,
                    "eval_interval": 1,
                    "max_tokens_per_turn": 48,
                    "max_episode_steps": 4,
                    "max_context_tokens": 512,
                    "lora_rank": 4,
                    "learning_rate_multiplier": 5,
                },
            },
        },
    }
