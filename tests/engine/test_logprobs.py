"""What the engine samples has the log-probabilities that a plain forward over the same tokens gives."""

import asyncio
import copy
import functools
import random
from collections.abc import Callable

import pytest
import torch
from transformers import PreTrainedModel

from agentrft.models.forward import Forward, TransformersForward
from agentrft.models.native import Kernels, build, load_kernels
from agentrft.models.packed import PackedModel
from tests.engine.sessions import Transcript, converse, errors, largest_error, random_ids, running_engine, sampling
from tests.tiny_model import ARCHITECTURES, TinyModel


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("forward", [PackedModel, TransformersForward])
async def test_sessions_of_any_length_beyond_the_slots_agree_with_a_plain_forward(
    shared_model: Callable[..., TinyModel], architecture: str, forward: Callable[[PreTrainedModel], Forward]
) -> None:
    model, source = shared_model(architecture), random.Random(1)
    prompts = [random_ids(source, source.randint(1, 60)) for _ in range(20)]
    async with running_engine(model, slots=5, batch=3, prefill_tokens=64, forward=forward) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, p, turns=1 + i % 4, seed=i) for i, p in enumerate(prompts))
        )
    assert largest_error(model, transcripts) < 1e-3


@pytest.fixture(scope="module")
def portable_kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Kernels | None]:
    """The kernels as a processor without a dot product of bfloat16 has them."""

    @functools.cache
    def compiled() -> Kernels | None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AGENTRFT_CACHE", str(tmp_path_factory.mktemp("kernels")))
            library = build(machine="x86-64")
        kernels = None if library is None else Kernels(library)
        assert kernels is None or not kernels.has_dot
        return kernels

    return compiled


@pytest.mark.parametrize("architecture", ["llama", "llama_wide", "qwen3_wide"])
@pytest.mark.parametrize("operators", ["native", "portable", "torch"])
async def test_in_bfloat16_they_agree_within_its_resolution(
    shared_model: Callable[..., TinyModel],
    monkeypatch: pytest.MonkeyPatch,
    architecture: str,
    operators: str,
    portable_kernels: Callable[[], Kernels | None],
) -> None:
    kernels = {"native": load_kernels, "portable": portable_kernels, "torch": lambda: None}[operators]()
    if kernels is None and operators != "torch":
        pytest.skip("no C++ compiler here")
    monkeypatch.setattr("agentrft.models.native.kernels.load_kernels", lambda: kernels)
    model, source = shared_model(architecture, torch.bfloat16), random.Random(2)
    exact = copy.deepcopy(model.plain).float()
    prompts = [random_ids(source, source.randint(1, 60)) for _ in range(12)]
    async with running_engine(model, slots=5) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, p, turns=1 + i % 3, seed=i) for i, p in enumerate(prompts))
        )
    against_plain = torch.tensor(errors(model.plain, transcripts))
    assert against_plain.mean() < 2e-2
    # Rounding alone makes single tokens differ by several hundredths, in the plain model as well.
    assert against_plain.max() < 0.15
    assert torch.tensor(errors(exact, transcripts)).mean() < 2e-2


@pytest.mark.parametrize("temperature", [0.5, 1.7])
async def test_they_are_those_of_the_sampling_temperature(
    shared_model: Callable[..., TinyModel], temperature: float
) -> None:
    model = shared_model()
    prompt = random_ids(random.Random(3), 30)
    async with running_engine(model) as engine:
        transcripts = await asyncio.gather(
            *(converse(engine, prompt, seed=seed, temperature=temperature) for seed in range(4))
        )
    assert largest_error(model, transcripts, temperature) < 1e-3


@pytest.mark.parametrize("prefill_tokens", [1, 7, 16])
async def test_a_prompt_computed_in_chunks_gives_the_same(
    shared_model: Callable[..., TinyModel], prefill_tokens: int
) -> None:
    model, source = shared_model(), random.Random(4)
    prompts = [random_ids(source, 50) for _ in range(3)]
    async with running_engine(model, prefill_tokens=prefill_tokens) as engine:
        chunked = await asyncio.gather(*(converse(engine, p, seed=i) for i, p in enumerate(prompts)))
        assert engine.counters["passes"] > 150 / prefill_tokens
    async with running_engine(model) as engine:
        whole = await asyncio.gather(*(converse(engine, p, seed=i) for i, p in enumerate(prompts)))
    assert largest_error(model, chunked) < 1e-3
    assert [t.sampled for t in chunked] == [t.sampled for t in whole]


async def test_the_context_may_be_filled_to_its_last_token(shared_model: Callable[..., TinyModel]) -> None:
    model, transcript = shared_model(), Transcript()
    prompt = random_ids(random.Random(5), 240)
    async with running_engine(model) as engine:
        session = await engine.open()
        transcript.add(prompt, await session.generate(prompt, sampling(max_tokens=17)))
        session.close()
    assert len(transcript.sampled) == 17
    assert largest_error(model, [transcript]) < 1e-3
