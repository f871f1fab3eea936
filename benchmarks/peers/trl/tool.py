"""The quickstart's tool and tokenizer as TRL takes them."""

import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
from transformers import AutoTokenizer, PreTrainedTokenizerBase

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


def load_tokenizer(model: str) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    # TRL knows templates by exact equality; ours is not among them, but its calls are written as Qwen 3 writes them.
    tokenizer.response_template = qwen3_template
    return tokenizer


def stop_at_end_of_text(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Let generation stop where our engine does."""
    end_of_text = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, end_of_text]
