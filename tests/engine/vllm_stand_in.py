"""A stand-in for a vLLM server: a real server on loopback that answers as vLLM 0.32 does, with an engine of ours behind
it, and that breaks as servers do."""

import asyncio
import socket
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp.web
import torch
from safetensors.torch import load_file
from transformers import DynamicCache


class StandIn:
    """Serves one tiny model, and the adapters that it was told to load.

    Attributes:
        adapters: by name, the folder.
        asked: requests by path.
        bodies: of all requests to generate.
        fails_with: statuses of the next requests to generate, in turn; 0 closes the connection.
        answers_as: what the next answers say they were sampled with, whatever it was.
        applies_temperature: whether log-probabilities are those at the request's temperature.
        without: fields that are left out of choices.
        loads_adapters: whether it was started so that it does.
        is_developed: whether it was started with the routes that change weights and sleep.
        weight_version: what it says of its weights.
        asleep: whether it was told to sleep.
        hangs: it takes requests, and answers none.
        is_stuck: it answers whether it is well, and generates nothing.
        key: that requests below /v1 must have, if any.
        read: the folders of weights that it was told of, in order.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        name: str = "tiny",
        max_model_len: int = 4096,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self._model = model
        self._name = name
        self._length = max_model_len
        self.adapters: dict[str, Path] = {}
        self.asked: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.fails_with: list[int] = []
        self.answers_as: str | None = None
        self.applies_temperature = True
        self.loads_adapters = True
        self.is_developed = False
        self.weight_version = "default"
        self.asleep = False
        self.hangs = self.is_stuck = False
        self._computed = 0
        self._first = {name: value.clone() for name, value in model.state_dict().items()}
        self.without: set[str] = set()
        self.pause_s = 0.0
        self.cancelled = 0
        self._draw = torch.Generator().manual_seed(0)
        # A model whose weights are replaced for a call is in use.
        self._one_at_a_time = asyncio.Lock()
        self._runner: aiohttp.web.AppRunner | None = None
        self._host = host
        self._port = port
        self.key: str | None = None
        self.read: list[Path] = []

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def __aenter__(self) -> "StandIn":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """On the port that it had before, if it had one."""
        app = aiohttp.web.Application(middlewares=[self._hanging, self._guarding])
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/completions", self._completions)
        if self.loads_adapters:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        if self.is_developed:
            app.router.add_post("/collective_rpc", self._reload)
            app.router.add_post("/reset_prefix_cache", self._reset)
            app.router.add_post("/update_weight_version", self._name_weights)
            app.router.add_get("/weight_info", self._weight_info)
            app.router.add_post("/sleep", self._sleep)
            app.router.add_post("/wake_up", self._wake)
            app.router.add_get("/is_sleeping", self._is_sleeping)
        self._runner = aiohttp.web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self._host, self._port))
        self._port = listening.getsockname()[1]
        await aiohttp.web.SockSite(self._runner, listening).start()

    async def stop(self) -> None:
        """With it goes what it had loaded."""
        if self._runner is not None:
            await self._runner.cleanup()
        self.adapters.clear()
        self._model.load_state_dict(self._first)
        self.weight_version, self.asleep = "default", False

    @aiohttp.web.middleware
    async def _hanging(self, request: aiohttp.web.Request, handler: Any) -> aiohttp.web.StreamResponse:
        while self.hangs:
            await asyncio.sleep(0.05)
        return await handler(request)

    @aiohttp.web.middleware
    async def _guarding(self, request: aiohttp.web.Request, handler: Any) -> aiohttp.web.StreamResponse:
        is_known = self.key is None or request.headers.get("Authorization") == f"Bearer {self.key}"
        if request.path.startswith("/v1") and not is_known:
            return _refusal(401, "Unauthorized")
        return await handler(request)

    async def _health(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response()

    async def _metrics(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.Response(text=f"vllm:generation_tokens_total {self._computed}\n")

    async def _reload(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked["reload"] += 1
        body = await request.json()
        assert body["method"] == "reload_weights"
        file = Path(body["kwargs"]["weights_path"]) / "model.safetensors"
        if not file.is_file():
            return _refusal(500, f"no weights in {file.parent}")
        self.read.append(file.parent)
        async with self._one_at_a_time:
            # Tied weights are written once.
            self._model.load_state_dict(load_file(file), strict=False)
        return aiohttp.web.json_response({"results": [None]})

    async def _reset(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked["reset"] += 1
        return aiohttp.web.json_response({"success": self.asked["reset"] != 1})

    async def _name_weights(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.weight_version = (await request.json())["new_version"]
        return aiohttp.web.json_response({"success": True})

    async def _weight_info(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"weight_version": self.weight_version})

    async def _sleep(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked["sleep"] += 1
        self.asleep = True
        return aiohttp.web.json_response({"status": "sleeping"})

    async def _wake(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked["wake"] += 1
        self.asleep = False
        return aiohttp.web.json_response({"status": "awake"})

    async def _is_sleeping(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        return aiohttp.web.json_response({"is_sleeping": self.asleep})

    async def _models(self, _: aiohttp.web.Request) -> aiohttp.web.Response:
        own = [self._name, *self.adapters]
        return aiohttp.web.json_response({"data": [{"id": one, "max_model_len": self._length} for one in own]})

    async def _load(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked["load"] += 1
        body = await request.json()
        folder = Path(body["lora_path"])
        if not (folder / "adapter_model.safetensors").is_file():
            return _refusal(404, f"No adapter found for {folder}")
        self.read.append(folder)
        self.adapters[body["lora_name"]] = folder
        return aiohttp.web.Response(text=f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def _unload(self, request: aiohttp.web.Request) -> aiohttp.web.Response:
        self.asked["unload"] += 1
        self.adapters.pop((await request.json())["lora_name"], None)
        return aiohttp.web.Response(text="Success")

    async def _completions(self, request: aiohttp.web.Request) -> aiohttp.web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        assert not self.asleep, "a server that sleeps generates nothing"
        while self.is_stuck:
            await asyncio.sleep(0.05)
        if self.pause_s:
            try:
                await asyncio.sleep(self.pause_s)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        status = self.fails_with.pop(0) if self.fails_with else 200
        if status == 0:
            assert request.transport is not None
            request.transport.close()
            return aiohttp.web.Response()
        if status != 200:
            return _refusal(status, f"out of order for {dict(request.headers)}")
        if body["model"] not in (self._name, *self.adapters):
            return _refusal(404, f"The model `{body['model']}` does not exist.")
        if len(body["prompt"]) + body["max_tokens"] > self._length:
            return _refusal(400, f"This model's maximum context length is {self._length} tokens.")
        async with self._one_at_a_time:
            answer = await asyncio.to_thread(self._answer, body)
        self._computed += body["max_tokens"]
        return aiohttp.web.json_response(answer)

    def _answer(self, body: Mapping[str, Any]) -> dict[str, Any]:
        adapted = _Adapted(self._model, self.adapters.get(body["model"]))
        temperature, coming, tokens = body["temperature"], list(body["prompt"]), list[int]()
        logprobs: list[float] = []
        top: list[dict[str, float]] = []
        reason = "length"
        draw = torch.Generator().manual_seed(body["seed"]) if "seed" in body else self._draw
        while len(tokens) < body["max_tokens"]:
            raw = adapted.logits(coming)
            at = temperature if temperature > 0 and self.applies_temperature else 1.0
            told = (raw / at).log_softmax(-1)
            chosen = (
                raw.argmax()
                if temperature == 0
                else torch.multinomial((raw / temperature).softmax(-1), 1, generator=draw)
            )
            token = int(chosen)
            tokens.append(token)
            coming = [token]
            logprobs.append(float(told[token]))
            best = told.topk(max(1, body["logprobs"]))
            top.append({f"token_id:{int(i)}": float(v) for v, i in zip(best.values, best.indices, strict=True)})
            if token in body["stop_token_ids"]:
                reason = "stop"
                break
        choice = {
            "index": 0,
            "text": "",
            "token_ids": tokens,
            "finish_reason": reason,
            "logprobs": {"token_logprobs": logprobs, "top_logprobs": top},
        }
        choice = {key: value for key, value in choice.items() if key not in self.without}
        return {"model": self.answers_as or body["model"], "choices": [choice]}


class _Adapted:
    """A model with an adapter's weights added to its own, by PEFT's formula."""

    def __init__(self, model: torch.nn.Module, folder: Path | None) -> None:
        self._model = model
        self._cache = DynamicCache()
        self._changed: dict[str, torch.Tensor] = {}
        if folder is None:
            return
        weights = load_file(folder / "adapter_model.safetensors")
        for name, down in weights.items():
            if ".lora_A" in name:
                up = weights[name.replace(".lora_A", ".lora_B")]
                layer = name.removeprefix("base_model.model.").split(".lora_A")[0]
                weight = model.get_parameter(f"{layer}.weight")
                self._changed[f"{layer}.weight"] = weight + 2.0 * up @ down

    @torch.no_grad()
    def logits(self, coming: list[int]) -> torch.Tensor:
        """Behind all that came before."""
        arguments = {"input_ids": torch.tensor([coming]), "past_key_values": self._cache, "use_cache": True}
        output = torch.func.functional_call(self._model, self._changed, (), arguments)
        return output.logits[0, -1].float()


def _refusal(status: int, message: str) -> aiohttp.web.Response:
    return aiohttp.web.json_response({"error": {"message": message, "code": status}}, status=status)
