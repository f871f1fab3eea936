"""What a server samples from: the model that it was started with, an adapter, or other weights of the same model.

Each says by what it is asked for, how a server gets it, and how to see that an answer was sampled with it and with
nothing else.
"""

import secrets
from pathlib import Path
from typing import Any, Protocol

from agentrft.engine.base import EngineFailure
from agentrft.engine.vllm.client import ASKING_TIMEOUT_S, Client

FORGETTING_TIMEOUT_S = 10.0
# No two processes give the same name to different weights, so that no prefix of another's is taken for ours.
_PREFIX = f"agentrft-{secrets.token_hex(4)}"


class ServedWeights(Protocol):
    """One version of the policy, as servers have it.

    Attributes:
        model: what requests name.
        is_given: whether a server has it from us, and needs it again when it was started anew.
        is_beside: whether a server has it beside the version before, so that turns under way end with that one.
    """

    model: str
    is_given: bool
    is_beside: bool

    async def load(self, client: Client) -> bool:
        """Have the server load it; whether the server was there to do it.

        Raises:
            EngineFailure: it is there, and does not.
        """
        ...

    async def forget(self, client: Client) -> None:
        """Let the server drop it. That it is not there, or does not, is no failure."""
        ...

    async def confirm(self, client: Client, answer: dict[str, Any]) -> bool:
        """See that an answer was sampled with it; False if the server was started anew and has to be given it again.

        Raises:
            EngineFailure: it was sampled with something else.
        """
        ...


class Original:
    """The model as the server was started with it."""

    is_given = False
    is_beside = True

    def __init__(self, model: str) -> None:
        self.model = model

    async def load(self, client: Client) -> bool:
        """It is there with the server: see `ServedWeights`."""
        return True

    async def forget(self, client: Client) -> None:
        """Nothing: see `ServedWeights`."""

    async def confirm(self, client: Client, answer: dict[str, Any]) -> bool:
        """See `ServedWeights`."""
        return _confirm_name(answer, self.model)


class Adapter:
    """A LoRA adapter in PEFT's format, under a name of its own.

    Args:
        folder: where it is written; see `Client.seen_at`.
    """

    is_given = True
    is_beside = True

    def __init__(self, folder: Path, policy_version: int) -> None:
        self.model = f"{_PREFIX}-v{policy_version}"
        self._folder = folder

    async def load(self, client: Client) -> bool:
        """See `ServedWeights`."""
        path = await client.seen_at(self._folder)
        if path is None:
            return False
        status, answer = await client.request(
            "/v1/load_lora_adapter", {"lora_name": self.model, "lora_path": path}, ASKING_TIMEOUT_S
        )
        if status == 200 or "already been loaded" in str(answer):
            return True
        if status == 0 or status >= 500:
            return False
        if status == 404 and "adapter" not in str(answer).lower():
            # The route itself is not there.
            remedy = "start it with --enable-lora, and with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
            raise EngineFailure("adapter", f"the vLLM server loads no adapters while it runs: {remedy}")
        said = client.said(answer)
        raise EngineFailure("adapter", f"vLLM does not load {self.model} from {self._folder}: {status}: {said}")

    async def forget(self, client: Client) -> None:
        """See `ServedWeights`."""
        await client.request("/v1/unload_lora_adapter", {"lora_name": self.model}, FORGETTING_TIMEOUT_S)

    async def confirm(self, client: Client, answer: dict[str, Any]) -> bool:
        """See `ServedWeights`."""
        return _confirm_name(answer, self.model)


class FullWeights:
    """All weights of the model, which the server reads from a folder in place of those that it has.

    Answers do not say what they were sampled with: the server is asked after each for the version that it has, and a
    server that was started anew has another one until it loads ours again.

    Args:
        model: as the server calls the model.
        folder: of a checkpoint as `save_pretrained` writes it; see `Client.seen_at`.
    """

    is_given = True
    is_beside = False

    def __init__(self, model: str, folder: Path, policy_version: int) -> None:
        self.model = model
        self._folder = folder
        self._version = f"{_PREFIX}-v{policy_version}"

    async def load(self, client: Client) -> bool:
        """See `ServedWeights`."""
        if await self._version_of(client) == self._version:
            return True
        path = await client.seen_at(self._folder)
        if path is None:
            return False
        steps: list[tuple[str, dict[str, Any]]] = [
            ("/collective_rpc", {"method": "reload_weights", "kwargs": {"weights_path": path}}),
            # What was computed with the weights before is in its caches.
            ("/reset_prefix_cache", {}),
            ("/update_weight_version", {"new_version": self._version}),
        ]
        for route, body in steps:
            status, answer = await client.request(route, body, ASKING_TIMEOUT_S)
            is_refused = isinstance(answer, dict) and answer.get("success") is False
            if is_refused or status in (0, 502, 503, 504):
                return False
            if status in (404, 405):
                raise EngineFailure("weights", f"the vLLM server has no {route}: {_DEV_MODE}")
            if status != 200:
                said = client.said(answer)
                raise EngineFailure("weights", f"vLLM does not read {self._folder} ({route}): {status}: {said}")
        return True

    async def forget(self, client: Client) -> None:
        """Nothing: the next ones take their place."""

    async def confirm(self, client: Client, answer: dict[str, Any]) -> bool:
        """See `ServedWeights`."""
        _confirm_name(answer, self.model)
        # Asked after the answer: had it had others before, it could have ours now only by being given them again.
        return await self._version_of(client) == self._version

    async def _version_of(self, client: Client) -> str | None:
        """None where the server does not answer."""
        status, answer = await client.request("/weight_info", None, ASKING_TIMEOUT_S)
        if status == 404:
            raise EngineFailure("weights", f"the vLLM server does not tell the version of its weights: {_DEV_MODE}")
        return answer.get("weight_version") if status == 200 and isinstance(answer, dict) else None


_DEV_MODE = "full weights take a version that has /weight_info, started with VLLM_SERVER_DEV_MODE=1 in its environment"


def _confirm_name(answer: dict[str, Any], name: str) -> bool:
    if answer.get("model") != name:
        raise EngineFailure("policy_version", f"vLLM sampled with '{answer.get('model')}', not '{name}'")
    return True
