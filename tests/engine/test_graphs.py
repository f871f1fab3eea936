"""Replayed passes give what computed ones give. Recorded here by tracing, which like a CUDA graph bakes in every shape,
address and number that is not in a tensor."""

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from agentrft.engine import graphs, kv_cache
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.engine.limits import EngineLimits
from agentrft.models.forward import TransformersForward, forward_of
from tests.engine.sessions import Transcript, converse, largest_error, random_ids, sampling
from tests.tiny_model import TinyModel, tiny_model


def attend(query: Tensor, keys: Tensor, values: Tensor, table: Tensor, lengths: Tensor, scaling: float) -> Tensor:
    """See `DecodeAttention`, in few words."""
    own_keys, own_values = (part[table].transpose(1, 2).flatten(2, 3) for part in (keys, values))
    grouped = query.unflatten(1, (keys.shape[1], -1))
    scores = grouped @ own_keys.transpose(2, 3) * scaling
    hidden = torch.arange(scores.shape[3]) >= lengths.view(-1, 1, 1, 1)
    return (scores.masked_fill(hidden, float("-inf")).softmax(dim=3) @ own_values).flatten(1, 2)


@dataclass
class Traced:
    compute: Callable[[], Tensor]
    result: Tensor
    replays: list[int]

    def replay(self) -> None:
        self.replays.append(len(self.result))
        self.result.copy_(self.compute())


@dataclass
class Tracer:
    """A recorder that traces; `spoil` is what it does to a trace's results."""

    spoil: Callable[[Tensor], Tensor] = lambda result: result
    sizes: list[int] = field(default_factory=list)
    replays: list[int] = field(default_factory=list)

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Traced, Tensor]:
        traced = make_fx(compute)()
        result = torch.zeros_like(compute())
        self.sizes.append(len(result))
        return Traced(lambda: self.spoil(traced()), result, self.replays), result

    def wait(self) -> None:
        """There is nothing to wait for."""


@pytest.fixture(autouse=True)
def _replaying(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kv_cache, "decode_for", lambda *_: attend)
    monkeypatch.setattr(graphs, "USES_BEFORE", 1)
    # Whether a trace is faster than what was traced is not what these tests are about.
    monkeypatch.setattr(graphs.DecodeGraphs, "_seconds", lambda self, run: 0.0 if hasattr(run, "__self__") else 1.0)


def engine_of(model: TinyModel, recorder: Any, **options: Any) -> EmbeddedEngine:
    limits = EngineLimits(256, max_sequences=8, max_batch_size=8, cache_pages=options.pop("pages", None))
    return EmbeddedEngine(forward_of(model.planned), limits, recorder=recorder, **options)


async def rollouts(engine: EmbeddedEngine, count: int = 6) -> list[Transcript]:
    """Of different lengths, so that passes are of many sizes."""
    prompts = [random_ids(random.Random(seed), 5 + 17 * seed) for seed in range(count)]
    return await asyncio.gather(*(converse(engine, prompt, seed=seed) for seed, prompt in enumerate(prompts)))


@pytest.mark.parametrize("architecture", ["llama", "llama_tied", "qwen2", "qwen3"])
async def test_replayed_passes_sample_by_the_models_own_numbers(architecture: str) -> None:
    model, tracer = tiny_model(architecture), Tracer()
    engine = engine_of(model, tracer)
    transcripts = await rollouts(engine)
    assert engine.counters["passes_replayed"] > 5 and len(set(tracer.sizes)) > 1
    assert largest_error(model, transcripts) < 1e-4
    await engine.close()


async def test_pages_run_over_into_the_next_and_are_shared_and_lost_as_ever(
    shared_model: Callable[..., TinyModel],
) -> None:
    model, prompt = shared_model(), random_ids(random.Random(0), 60)
    engine = engine_of(model, Tracer(), pages=9)
    transcripts = await asyncio.gather(*(converse(engine, prompt, seed=seed, turns=5) for seed in range(6)))
    assert engine.counters["passes_replayed"] > 5 and engine.counters["prefix_tokens_shared"] > 0
    assert engine.counters["tokens_recomputed"] > 0
    assert largest_error(model, transcripts) < 1e-4
    await engine.close()


async def test_rows_of_nobody_write_into_a_page_of_nobody(shared_model: Callable[..., TinyModel]) -> None:
    model, prompts = shared_model(), [random_ids(random.Random(seed), 40) for seed in range(3)]
    engine = engine_of(model, Tracer(), pages=12)
    sessions = [await engine.open() for _ in prompts]
    await asyncio.gather(
        *(s.generate(prompt, sampling(max_tokens=20)) for s, prompt in zip(sessions, prompts, strict=True))
    )
    assert engine.counters["passes_replayed"] > 10
    written = [page for page in range(13) if engine._cache.keys[0][page].any()]
    held = {page for sequence in engine._slots.open.values() for page in sequence.pages}
    assert set(written) == held | {12} and 12 not in held
    await engine.close()


async def test_new_weights_and_released_memory_are_recorded_anew() -> None:
    model, tracer = tiny_model(), Tracer()
    engine = engine_of(model, tracer)
    await rollouts(engine)
    recorded = len(tracer.sizes)

    def change(forward: Any) -> None:
        for name, weight in model.planned.named_parameters():
            forward.write(name, weight.detach() * 1.1)

    await engine.update_weights(change, 1)
    await engine.release_memory()
    with torch.no_grad():
        for weight in model.plain.parameters():
            weight *= 1.1
    transcripts = await rollouts(engine)
    assert len(tracer.sizes) > recorded
    assert largest_error(model, transcripts) < 1e-4
    await engine.close()


@pytest.mark.parametrize("spoil", [lambda result: result * 1.5, lambda result: result * float("nan")])
async def test_a_replay_that_gives_other_numbers_is_not_used(
    spoil: Callable[[Tensor], Tensor], shared_model: Callable[..., TinyModel], caplog: pytest.LogCaptureFixture
) -> None:
    model, tracer = shared_model(), Tracer(spoil)
    engine = engine_of(model, tracer)
    with caplog.at_level(logging.WARNING):
        transcripts = await rollouts(engine)
    assert engine.counters["passes_replayed"] == 0 and len(tracer.sizes) == 1
    assert "a replayed pass gives other numbers" in caplog.text
    assert largest_error(model, transcripts) < 1e-4
    await engine.close()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("operation not permitted when stream is capturing"), "operation not permitted"),
        (torch.OutOfMemoryError("CUDA out of memory"), "there is no memory for them"),
    ],
)
async def test_what_cannot_be_recorded_is_computed(
    error: Exception, reason: str, shared_model: Callable[..., TinyModel], caplog: pytest.LogCaptureFixture
) -> None:
    class Refuses(Tracer):
        def __call__(self, compute: Callable[[], Tensor]) -> tuple[Traced, Tensor]:
            raise error

    model = shared_model()
    engine = engine_of(model, Refuses())
    with caplog.at_level(logging.WARNING):
        transcripts = await rollouts(engine)
    assert caplog.text.count("without CUDA graphs") == 1 and reason in caplog.text
    assert largest_error(model, transcripts) < 1e-4
    await engine.close()


async def test_a_size_whose_replay_is_no_faster_is_computed(
    shared_model: Callable[..., TinyModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs.DecodeGraphs, "_seconds", lambda self, run: 1.0)
    model, tracer = shared_model(), Tracer()
    engine = engine_of(model, tracer)
    transcripts = await rollouts(engine)
    # Each is looked at once.
    assert engine.counters["passes_replayed"] == 0 and tracer.sizes
    assert largest_error(model, transcripts) < 1e-4
    await engine.close()


async def test_models_whose_passes_may_differ_are_not_recorded(shared_model: Callable[..., TinyModel]) -> None:
    modules = TransformersForward(shared_model().planned)
    engine = EmbeddedEngine(modules, EngineLimits(256, max_sequences=8), recorder=Tracer())
    assert engine._graphs is None and not modules.replayable
    await engine.close()
    packed = forward_of(tiny_model().planned)
    assert packed.replayable
    packed._rotary.rope_type = "dynamic"  # pyright: ignore[reportAttributeAccessIssue]
    assert not packed.replayable


async def test_without_a_gpu_nothing_is_recorded(shared_model: Callable[..., TinyModel]) -> None:
    engine = engine_of(shared_model(), None)
    assert engine._graphs is None and len(engine._cache.keys[0]) == 8 * 4
    await rollouts(engine)
    assert engine.counters["passes_replayed"] == 0
    await engine.close()
