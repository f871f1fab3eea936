"""vLLM as the engine: a server of its own, reached over HTTP, which takes token ids and gives token ids.

Each policy version is a LoRA adapter that the server loads under a name of its own, and every answer says which one it
was sampled with. Generating has no effects beside its answer, so what does not come through is asked for again, within
the turn's deadline: a server that restarts costs nothing but time, and is given the adapter anew.
"""

import asyncio
import math
import secrets
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from agentrft.engine.base import EngineFailure, Generation, Sampling
from agentrft.errors import EndpointError
from agentrft.traffic.http import shorten
from agentrft.traffic.redaction import Redactor, public_url

# Between two attempts at the same request, in seconds: at first, and at most.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 5.0
# Loading an adapter, or asking what the server is.
ASKING_TIMEOUT_S = 120.0
# For a server that is away when it is to load one.
AWAY_S = 600.0
# From how much of what a temperature does to two log-probabilities on it is applied before they are told.
IS_APPLIED = 1.5


class VllmSession:
    """One rollout's context; the server finds its keys and values by the tokens."""

    def __init__(self, engine: "VllmEngine") -> None:
        self._engine = engine
        self._context: list[int] = []
        self._closed = False

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        """See `Session.generate`. Cancelling the call ends the request, and with it the server's work on it."""
        if self._closed:
            raise EngineFailure("closed", "this session was closed")
        if not self._context and not new_ids:
            raise EngineFailure("empty", "a turn needs at least one token of context")
        self._context += new_ids
        generation = await self._engine._sample(self._context, sampling)
        self._context += generation.token_ids
        return generation

    def restart(self) -> None:
        self._context = []

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine._release()


class VllmEngine:
    """Generates by a vLLM server that is there already.

    Args:
        url: of the server, without a path.
        model: as the server calls the model that is trained.
        headers: sent with every request.
        max_sequences: sessions that are open at once.

    Attributes:
        policy_version: of what it samples from.
        counters: tokens and requests since it was made.
        busy_s: seconds in which it had something to generate.
        away_s: for how long it waits for a server that is to load an adapter.
    """

    def __init__(self, url: str, model: str, *, headers: Mapping[str, str], max_sequences: int) -> None:
        self._url = url.rstrip("/")
        self._shown_url = public_url(url)
        self._redactor = Redactor(headers, url)
        self._model = model
        self._headers = dict(headers)
        self._places = asyncio.Semaphore(max_sequences)
        self._open = 0
        self._client: aiohttp.ClientSession | None = None
        self._adapter: tuple[str, Path] | None = None
        self._loading = asyncio.Lock()
        # Adapters of other jobs have other names, so that no prefix of theirs is taken for ours.
        self._prefix = f"agentrft-{secrets.token_hex(4)}"
        self._in_flight = 0
        self._busy_since = 0.0
        self._busy_s = 0.0
        self._closed = False
        self.away_s = AWAY_S
        self.policy_version = 0
        self.counters: Counter[str] = Counter()

    @property
    def _name(self) -> str:
        """Of what is sampled from."""
        return self._model if self._adapter is None else self._adapter[0]

    @property
    def busy_s(self) -> float:
        running = time.perf_counter() - self._busy_since if self._in_flight else 0.0
        return self._busy_s + running

    async def open(self) -> VllmSession:
        """Wait for a place and take it.

        Raises:
            EngineFailure: the engine was closed.
        """
        await self._places.acquire()
        if self._closed:
            self._places.release()
            raise EngineFailure("stopped", "the engine was closed")
        self._open += 1
        return VllmSession(self)

    async def use_adapter(self, folder: Path, policy_version: int) -> None:
        """Sample from this adapter from now on. No session may be open.

        Args:
            folder: in PEFT's format, where the server can read it too; it must stay until the next one is used.

        Raises:
            EngineFailure: sessions are open, the server does not take the adapter, or it stays away.
        """
        if self._open:
            raise EngineFailure("busy", f"{self._open} sessions are open; close them before the weights change")
        before = self._adapter
        self._adapter = (f"{self._prefix}-v{policy_version}", folder)
        deadline, pause = time.perf_counter() + self.away_s, FIRST_PAUSE_S
        while not await self._load_adapter(self._adapter):
            if time.perf_counter() > deadline:
                raise EngineFailure("unreachable", f"no vLLM server answers at {self._shown_url}")
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_S, 2 * pause)
        self.policy_version = policy_version
        if before is not None and before[0] != self._adapter[0]:
            # What the server keeps of an old one is the server's affair, and no reason to fail.
            await self._request("/v1/unload_lora_adapter", {"lora_name": before[0]}, ASKING_TIMEOUT_S)

    def release_memory(self) -> None:
        """Nothing: the memory is the server's own."""

    async def prove(self, *, temperature: float, top_p: float, context_tokens: int) -> None:
        """See that the server is one that this job can train with.

        Raises:
            EndpointError: it cannot be reached, has not the model, not the room, or tells other log-probabilities than
                a policy gradient needs.
        """
        try:
            models = {model["id"]: model for model in (await self._ask("/v1/models", None))["data"]}
            applies_temperature = await self._applies_temperature() if self._model in models else True
        except (LookupError, TypeError, ValueError) as error:
            raise self._no_server(f"{type(error).__name__}: {error}") from None
        if self._model not in models:
            known = ", ".join(models) or "none"
            raise EndpointError(
                f"engine: the server at {self._shown_url} has no model '{self._model}', but {known}.",
                "Start it with the job's model, or say as which it is served: engine.model.",
            )
        room = models[self._model].get("max_model_len")
        if room is not None and room < context_tokens:
            raise EndpointError(
                f"engine: the server's sequences have {room} tokens, and the job's {context_tokens}.",
                f"Start it with --max-model-len {context_tokens}, or lower hyperparameters.max_context_tokens.",
            )
        if applies_temperature and top_p < 1:
            raise EndpointError(
                "engine: the server tells log-probabilities behind top_p, under which tokens are likelier than the "
                "policy makes them.",
                "Leave hyperparameters.top_p at 1, or start the server with --logprobs-mode raw_logprobs and keep "
                "hyperparameters.temperature at 1.",
            )
        if not applies_temperature and temperature not in (0.0, 1.0):
            raise EndpointError(
                f"engine: the server tells log-probabilities of temperature 1, and the job samples at {temperature:g}.",
                "Start it with --logprobs-mode processed_logprobs, or leave hyperparameters.temperature at 1.",
            )

    async def close(self) -> None:
        """Stop; the server stays."""
        self._closed = True
        if self._client is not None:
            if self._adapter is not None:
                await self._request("/v1/unload_lora_adapter", {"lora_name": self._adapter[0]}, 10.0)
            await self._client.close()

    async def _applies_temperature(self) -> bool:
        """Whether the temperature is in the log-probabilities: at a half the first two are then told twice as far apart
        as at 1, and else as far."""
        spread: list[float] = []
        for at in (1.0, 0.5):
            body = self._body([1], Sampling(at, 1.0, 1, frozenset(), 0, ASKING_TIMEOUT_S)) | {
                "logprobs": 2,
                "return_tokens_as_token_ids": True,
            }
            told = (await self._ask("/v1/completions", body))["choices"][0]["logprobs"]["top_logprobs"][0]
            first, second = sorted(told.values(), reverse=True)[:2]
            spread.append(first - second)
        return spread[1] > IS_APPLIED * spread[0]

    async def _sample(self, context: list[int], sampling: Sampling) -> Generation:
        started = time.perf_counter()
        self._began()
        try:
            answer = await self._until_answered(context, sampling, started + sampling.deadline_s)
        finally:
            self._ended()
        self.counters["requests"] += 1
        return self._read(answer, sampling)

    async def _until_answered(self, context: list[int], sampling: Sampling, deadline: float) -> dict[str, Any]:
        pause = FIRST_PAUSE_S
        while True:
            left = deadline - time.perf_counter()
            if left <= 0:
                raise EngineFailure("timeout", f"the turn did not end within {sampling.deadline_s} s")
            status, answer = await self._request("/v1/completions", self._body(context, sampling), left)
            if status == 200 and isinstance(answer, dict):
                return answer
            if status == 404 and self._adapter is not None:
                # A server that was started anew does not know it.
                await self._load_adapter(self._adapter)
            elif 400 <= status < 500 and status not in (408, 429):
                kind = "context" if "maximum context length" in str(answer) else "refused"
                raise EngineFailure(kind, f"vLLM answered {status}: {self._said(answer)}")
            self.counters["repeated"] += 1
            await asyncio.sleep(min(pause, max(0.0, deadline - time.perf_counter())))
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    def _body(self, context: list[int], sampling: Sampling) -> dict[str, Any]:
        # Without the seed: a request with one is sampled apart from the others, and vLLM's CPU build dies of it.
        return {
            "model": self._name,
            "prompt": context,
            "add_special_tokens": False,
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # What a model's own generation config asks for would be another policy.
            "top_k": 0,
            "min_p": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": sorted(sampling.stop_ids),
            "ignore_eos": True,
            "logprobs": 0,
            "return_token_ids": True,
        }

    def _read(self, answer: dict[str, Any], sampling: Sampling) -> Generation:
        if answer.get("model") != self._name:
            raise EngineFailure("policy_version", f"vLLM sampled with '{answer.get('model')}', not '{self._name}'")
        try:
            choice = answer["choices"][0]
            tokens = [int(token) for token in choice["token_ids"]]
            logprobs = [float(value) for value in choice["logprobs"]["token_logprobs"]]
        except (KeyError, IndexError, TypeError, ValueError):
            raise EngineFailure(
                "answer", "vLLM's answer has no token ids or log-probabilities; it takes version 0.10.2 or a later one"
            ) from None
        if len(tokens) != len(logprobs) or not tokens or not all(map(math.isfinite, logprobs)):
            raise EngineFailure("answer", f"vLLM gave {len(tokens)} tokens and {len(logprobs)} log-probabilities")
        self.counters["tokens_sampled"] += len(tokens)
        reason = "stop" if tokens[-1] in sampling.stop_ids else "length"
        return Generation(tokens, logprobs, reason, self.policy_version)

    async def _load_adapter(self, adapter: tuple[str, Path]) -> bool:
        """Whether the server was there to take it.

        Raises:
            EngineFailure: it does not.
        """
        name, folder = adapter
        async with self._loading:
            status, answer = await self._request(
                "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(folder)}, ASKING_TIMEOUT_S
            )
        if status == 200 or "already been loaded" in str(answer):
            return True
        if status == 0 or status >= 500:
            return False
        if status == 404 and "adapter" not in str(answer).lower():
            # The route itself is not there.
            remedy = "start it with --enable-lora, and with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 in its environment"
            raise EngineFailure("adapter", f"the vLLM server loads no adapters while it runs: {remedy}")
        raise EngineFailure("adapter", f"vLLM does not load {name} from {folder}: {status}: {self._said(answer)}")

    async def _ask(self, path: str, body: Mapping[str, Any] | None) -> Any:
        """An answer.

        Raises:
            EndpointError: there is none.
        """
        status, answer = await self._request(path, body, ASKING_TIMEOUT_S)
        if status != 200:
            raise self._no_server(f"{status or ''} {self._said(answer)}".strip())
        return answer

    def _said(self, answer: object) -> str:
        """An answer as messages may quote it."""
        return shorten(self._redactor.message(str(answer)))

    def _no_server(self, why: str) -> EndpointError:
        return EndpointError(
            f"engine: no vLLM server answers at {self._shown_url}: {why}",
            "Start one: vllm serve MODEL --enable-lora --max-lora-rank 16, with VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 "
            "in its environment; or mend engine.url.",
        )

    async def _request(self, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> tuple[int, Any]:
        """Status and answer; status 0 and why where there was none."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                headers=self._headers, connector=aiohttp.TCPConnector(limit=0), trust_env=False
            )
        method = "GET" if body is None else "POST"
        timeout = aiohttp.ClientTimeout(total=timeout_s)
        try:
            async with self._client.request(
                method, self._url + path, json=body, timeout=timeout, allow_redirects=False
            ) as answer:
                text = await answer.text()
                is_json = "json" in answer.headers.get("Content-Type", "")
                return answer.status, await answer.json() if is_json and text else text
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return 0, f"{type(error).__name__}: {error}"

    def _began(self) -> None:
        if not self._in_flight:
            self._busy_since = time.perf_counter()
        self._in_flight += 1

    def _ended(self) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._busy_s += time.perf_counter() - self._busy_since

    def _release(self) -> None:
        self._open -= 1
        self._places.release()
