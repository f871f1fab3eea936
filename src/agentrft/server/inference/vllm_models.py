"""Models that vLLM servers answer with: a base model as a server has it, and fine-tuned ones as adapters on it."""

import itertools
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from agentrft.engine import EngineFailure, Session
from agentrft.engine.vllm import Client, Server, VllmEngine
from agentrft.engine.vllm.client import ASKING_TIMEOUT_S
from agentrft.errors import UserError
from agentrft.server.inference.errors import ApiError
from agentrft.server.inference.model_cache import ModelCache
from agentrft.server.inference.token_texts import TokenTexts
from agentrft.server.inference.weights import ModelTexts, Weights, load_texts
from agentrft.server.vllm_places import VllmPlace

# A chat does not wait for long for a server that is away.
AWAY_S = 20.0
# More tokens at a time than an engine in this process: each slice is a request.
SLICE_TOKENS = 32


@dataclass(frozen=True)
class VllmModel:
    """What answers: see `host.ServedModel`."""

    loaded: ModelTexts
    engine: VllmEngine
    token_texts: TokenTexts
    seeded: bool
    slice_tokens: int = SLICE_TOKENS

    async def open(self) -> Session:
        """See `VllmEngine.open`."""
        return await self.engine.open()


@dataclass(frozen=True)
class _Base:
    texts: ModelTexts
    token_texts: TokenTexts


class VllmModels:
    """Lends models at servers to requests, as the host does with those in memory.

    Args:
        places: by what a job's `model:` says.
        headers: sent with every request.
        max_adapters: that servers keep for us, all together; the least recently used is unloaded for another.
        max_sequences: turns of one model at once.
        max_requests: that wait for a place, at most.
        seeded: whether servers are asked with the seeds of requests; see `Server`.
    """

    def __init__(
        self,
        places: Mapping[str, VllmPlace],
        headers: Mapping[str, str],
        *,
        max_adapters: int,
        max_sequences: int,
        max_requests: int,
        seeded: bool,
    ) -> None:
        self._places = dict(places)
        self._headers = dict(headers)
        self._max_sequences = max_sequences
        self._seeded = seeded
        self._bases: dict[tuple[object, ...], _Base] = {}
        self._models = ModelCache[VllmModel]("models at servers", max_adapters, max_requests, _close)
        self._numbers = itertools.count(1)

    @property
    def loaded(self) -> list[str]:
        """Names of the models that servers have for us, the least recently used first."""
        return [name for name, _ in self._models.loaded]

    def serves(self, weights: Weights) -> bool:
        """Whether these weights are answered with by a server: the base model, or an adapter on it.

        Raises:
            UserError: there are no such weights.
        """
        return weights.base in self._places and (weights.folder is None or weights.adapter_folder() is not None)

    async def take(self, weights: Weights, leases: ExitStack, load: Callable[..., Awaitable[Any]]) -> VllmModel:
        """The model of these weights, until `leases` ends.

        Args:
            load: runs a function that reads files beside the event loop, and gives what it returns.

        Raises:
            ApiError: no server answers, or it does not take the adapter.
            UserError: tokenizer or adapter cannot be read.
        """
        entry = await self._models.take(weights.key, weights.name, lambda: self._made(weights, load), leases)
        return entry.loading.result()

    async def close(self) -> None:
        """Let the servers forget what they loaded for us."""
        await self._models.close()

    async def _made(self, weights: Weights, load: Callable[..., Awaitable[Any]]) -> VllmModel:
        place = self._places[weights.base]
        client = Client(place.url, self._headers)
        engine = VllmEngine(
            [Server(client, place.model, seeded=self._seeded)], place.model, max_sequences=self._max_sequences
        )
        engine.away_s = AWAY_S
        engine.waits = False
        try:
            base = await self._base(weights, client, place, load)
            folder = weights.adapter_folder()
            if folder is not None:
                await engine.use_adapter(folder.absolute(), next(self._numbers))
        except BaseException as error:  # a cancelled request, too, leaves no adapter behind
            await engine.close()
            if isinstance(error, EngineFailure):
                is_away = error.kind == "unreachable"
                code = "engine_unavailable" if is_away else "model_not_loadable"
                raise ApiError(503 if is_away else 500, str(error), code=code, retry=is_away) from error
            raise
        return VllmModel(base.texts, engine, base.token_texts, self._seeded)

    async def _base(
        self, weights: Weights, client: Client, place: VllmPlace, load: Callable[..., Awaitable[Any]]
    ) -> _Base:
        key = weights.of_base.key
        if key not in self._bases:
            status, answer = await client.request("/v1/models", None, ASKING_TIMEOUT_S)
            if status != 200:
                raise EngineFailure("unreachable", f"no vLLM server answers at {client.shown_url}")
            served = {one["id"]: one.get("max_model_len") for one in answer["data"]}
            if place.model not in served:
                raise UserError(
                    f"the vLLM server at {client.shown_url} has no model '{place.model}', but {', '.join(served)}.",
                    "Name it as the server does: --vllm MODEL=URL#NAME.",
                )
            texts: ModelTexts = await load(load_texts, weights.of_base, served[place.model])
            self._bases[key] = _Base(texts, TokenTexts(texts.tokenizer))
        return self._bases[key]


async def _close(model: VllmModel) -> None:
    await model.engine.close()
