"""Sampled tokens follow the model's distribution, its nucleus where asked, and its mode at temperature 0."""

import random
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from agentrft.engine import sampling as engine_sampling
from agentrft.engine.sampling import sample_tokens
from tests.engine.sessions import STOP_ID, random_ids, running_engine, sampling
from tests.tiny_model import TinyModel, padded_logprobs

DRAWS = 20_000
# Several blocks of the inverse CDF, the last one not full.
VOCABULARY = 300


def draw(logits: Tensor, *, temperature: float = 1.0, top_p: float = 1.0, draws: int = DRAWS) -> tuple[Tensor, Tensor]:
    """The same logits sampled many times: tokens and their log-probabilities."""
    generator = torch.Generator().manual_seed(0)
    return sample_tokens(
        logits.expand(draws, -1),
        torch.full((draws,), temperature),
        torch.full((draws,), top_p),
        torch.rand(draws, generator=generator),
    )


def chi_square_per_degree(tokens: Tensor, probabilities: Tensor) -> float:
    """About 1 where the tokens were drawn from `probabilities`; tokens too rare to count are pooled."""
    counts = torch.bincount(tokens, minlength=len(probabilities)).float()
    expected = probabilities * len(tokens)
    rare = expected < 10
    counts = torch.cat([counts[~rare], counts[rare].sum().unsqueeze(0)])
    expected = torch.cat([expected[~rare], expected[rare].sum().unsqueeze(0)]).clamp(min=1e-9)
    return float(((counts - expected) ** 2 / expected).sum() / max(1, len(counts) - 1))


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_tokens_follow_the_tempered_distribution(temperature: float) -> None:
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(1)) * 2
    probabilities = (logits / temperature).softmax(dim=-1)
    tokens, logprobs = draw(logits, temperature=temperature)
    assert 0.3 < chi_square_per_degree(tokens, probabilities) < 2.0
    assert torch.allclose(logprobs, probabilities.log()[tokens], atol=1e-5)


def test_rows_of_one_batch_keep_their_own_settings() -> None:
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(2)) * 2
    uniform = torch.rand(3, generator=torch.Generator().manual_seed(3))
    temperature, top_p = torch.tensor([0.0, 0.7, 1.3]), torch.tensor([1.0, 0.5, 1.0])
    together = sample_tokens(logits.expand(3, -1), temperature, top_p, uniform)
    for row in range(3):
        alone = sample_tokens(logits[None], temperature[row, None], top_p[row, None], uniform[row, None])
        assert (together[0][row], together[1][row]) == (alone[0][0], alone[1][0])


@pytest.mark.parametrize("candidates", [8, 512])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9])
def test_the_nucleus_is_the_smallest_set_of_that_mass(
    monkeypatch: pytest.MonkeyPatch, top_p: float, candidates: int
) -> None:
    monkeypatch.setattr(engine_sampling, "NUCLEUS_CANDIDATES", candidates)
    logits = torch.randn(VOCABULARY, generator=torch.Generator().manual_seed(4)) * 2
    probabilities, order = logits.softmax(dim=-1).sort(descending=True)
    size = int((probabilities.cumsum(dim=-1) < top_p).sum()) + 1
    inside = torch.zeros(VOCABULARY)
    inside[order[:size]] = probabilities[:size] / probabilities[:size].sum()
    tokens, logprobs = draw(logits, top_p=top_p)
    assert set(tokens.tolist()) <= set(order[:size].tolist())
    assert chi_square_per_degree(tokens, inside) < 2.5
    assert torch.allclose(logprobs, logits.log_softmax(dim=-1)[tokens], atol=1e-5), "reported before the nucleus"


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(-30, 30), min_size=2, max_size=40),
    st.lists(st.integers(0, 39), max_size=20),
    st.floats(0.05, 1.0),
    st.integers(0, 2**32),
)
def test_a_token_of_probability_zero_is_never_sampled(
    values: list[float], excluded: list[int], top_p: float, seed: int
) -> None:
    logits = torch.tensor(values)
    for index in excluded:
        if index < len(values) - 1:
            logits[index] = float("-inf")
    # The largest number below 1 is where rounding could run over the end of the distribution.
    uniform = torch.cat(
        [torch.tensor([0.0, 1 - 2**-24]), torch.rand(200, generator=torch.Generator().manual_seed(seed))]
    )
    rows = len(uniform)
    tokens, logprobs = sample_tokens(logits.expand(rows, -1), torch.ones(rows), torch.full((rows,), top_p), uniform)
    assert torch.isfinite(logprobs).all()
    assert torch.isfinite(logits[tokens]).all()


async def test_the_same_seed_gives_the_same_tokens_and_another_one_others(
    shared_model: Callable[..., TinyModel],
) -> None:
    prompt = random_ids(random.Random(0), 20)
    async with running_engine(shared_model()) as engine:
        generations = []
        for seed in (5, 5, 6):
            session = await engine.open()
            generations.append(await session.generate(prompt, sampling(seed, max_tokens=30)))
            session.close()
    assert generations[0].token_ids == generations[1].token_ids
    assert generations[0].token_ids != generations[2].token_ids


async def test_temperature_zero_takes_the_most_probable_tokens(shared_model: Callable[..., TinyModel]) -> None:
    model, prompt = shared_model(), random_ids(random.Random(1), 20)
    async with running_engine(model) as engine:
        session = await engine.open()
        generation = await session.generate(prompt, sampling(max_tokens=25, temperature=0.0))
        session.close()
    with torch.inference_mode():
        reference = padded_logprobs(model.plain, [prompt + generation.token_ids])[0]
    assert reference[len(prompt) - 1 : -1].argmax(dim=-1).tolist() == generation.token_ids
    best = reference[len(prompt) - 1 : -1].max(dim=-1).values
    assert torch.allclose(best, torch.tensor(generation.logprobs), atol=1e-3), "those of temperature 1"


async def test_the_engine_keeps_to_the_nucleus(shared_model: Callable[..., TinyModel]) -> None:
    model, prompt = shared_model(), random_ids(random.Random(2), 20)
    async with running_engine(model) as engine:
        session = await engine.open()
        generation = await session.generate(prompt, sampling(max_tokens=60, top_p=0.3))
        session.close()
    with torch.inference_mode():
        reference = padded_logprobs(model.plain, [prompt + generation.token_ids])[0].exp()
    for step, token in enumerate(generation.token_ids):
        probabilities = reference[len(prompt) - 1 + step]
        more_probable = probabilities[probabilities > probabilities[token]].sum()
        assert more_probable < 0.3 + 1e-4


async def test_a_stop_token_ends_the_turn_and_belongs_to_it(shared_model: Callable[..., TinyModel]) -> None:
    prompt = random_ids(random.Random(3), 20)
    async with running_engine(shared_model()) as engine:
        session = await engine.open()
        free = await session.generate(prompt, sampling(9, max_tokens=40))
        session.restart()
        stop = free.token_ids[17]
        stopped = await session.generate(prompt, sampling(9, max_tokens=40, stop_ids=[stop, STOP_ID]))
        session.close()
    first = next(i for i, token in enumerate(free.token_ids) if token in (stop, STOP_ID))
    assert (free.finish_reason, len(free.token_ids)) == ("length", 40)
    assert stopped.token_ids == free.token_ids[: first + 1]
    assert stopped.finish_reason == "stop"
