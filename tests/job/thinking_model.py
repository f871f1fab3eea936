"""A tiny model whose template knows thoughts: it thinks before its call and before its answer, unless told not to."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from agentrft.chat import load_codec
from agentrft.models.catalog import resolve_model
from agentrft.models.load import model_folder
from tests.chat.templates import THINKING
from tests.job.tiny_job import ARGUMENTS, COLOURS, WORDS, prompt, train_and_save, untrained

THOUGHT = "Let me look it up."
UPDATES = 80


def conversation(word: str, colour: str, thought: str | None) -> list[dict[str, Any]]:
    call = {"id": "call_1", "type": "function", "function": {"name": "lookup", "arguments": ARGUMENTS}}
    thinks = {} if thought is None else {"reasoning_content": thought}
    return [
        *prompt(word),
        {"role": "assistant", "content": "", "tool_calls": [call], **thinks},
        {"role": "tool", "tool_call_id": "call_1", "name": "lookup", "content": "fine"},
        {"role": "assistant", "content": colour, **thinks},
    ]


def make_thinking_model(folder: Path, head_dim: int = 12) -> Path:
    """Train the model and save it with its tokenizer; a few seconds on one core."""
    tokenizer = THINKING.tokenizer(AutoTokenizer.from_pretrained(model_folder(resolve_model("smollm2-135m"))))
    model = untrained(tokenizer, head_dim)
    codecs = [
        (load_codec(tokenizer, "tiny", template_kwargs={"enable_thinking": thinks}), THOUGHT if thinks else None)
        for thinks in (True, False)
    ]
    shown = []
    for update in range(UPDATES):
        of_update = []
        for index, colour in enumerate(COLOURS):
            codec, thought = codecs[(update + index) % 2]
            of_update.append((codec, conversation(WORDS[(update + index) % len(WORDS)], colour, thought)))
        shown.append(of_update)
    return train_and_save(model, tokenizer, shown, folder)
