"""Weights that change under open sessions: each token's log-probability is that of the one version that sampled it."""

import asyncio
import random
from collections.abc import Sequence
from itertools import chain

import pytest
import torch
from torch import nn

from agentrft.engine import Generation
from agentrft.engine.base import EngineFailure
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.models.forward import Forward, TransformersForward
from agentrft.models.packed import PackedModel
from tests.engine.sessions import random_ids, running_engine, sampling
from tests.tiny_model import TinyModel, padded_logprobs, tiny_model


class Versions:
    """The weights of version 0 and of those after it, in an engine and as plain models."""

    def __init__(self, count: int) -> None:
        self.first = tiny_model()
        self.plain: list[nn.Module] = [tiny_model(seed=seed).plain for seed in range(count)]

    async def publish(self, engine: EmbeddedEngine, version: int) -> None:
        def write(target: Forward) -> None:
            with torch.no_grad():
                for name, weight in self.plain[version].named_parameters():
                    target.write(name, weight)

        await engine.update_weights(write, version)

    def largest_error(self, context: Sequence[int], start: int, turn: Generation) -> float:
        """Of the turn's log-probabilities, against a plain forward of each token's own version.

        Args:
            context: all that the session saw, with the turn from `start` on.
        """
        found = []
        with torch.inference_mode():
            expected = [padded_logprobs(model, [context])[0] for model in self.plain]
        for place, (version, logprob) in enumerate(zip(version_of_each(turn), turn.logprobs, strict=True), start):
            found.append(abs(float(expected[version][place - 1, context[place]]) - logprob))
        return max(found)


def version_of_each(turn: Generation) -> list[int]:
    spans = turn.versions or [[turn.policy_version, len(turn.token_ids)]]
    return list(chain.from_iterable([version] * tokens for version, tokens in spans))


async def sampled_so_far(engine: EmbeddedEngine, tokens: int) -> None:
    while engine.counters["tokens_sampled"] < tokens:
        await asyncio.sleep(0.0005)


@pytest.fixture(params=[PackedModel, TransformersForward])
def forward(request: pytest.FixtureRequest) -> type[PackedModel] | type[TransformersForward]:
    return request.param


async def test_in_mid_turn_the_tokens_before_are_of_the_old_weights_and_those_after_of_the_new(
    forward: type[PackedModel] | type[TransformersForward],
) -> None:
    weights, prompt = Versions(3), random_ids(random.Random(1), 40)
    async with running_engine(weights.first, forward=forward) as engine:
        session = await engine.open()
        turn = asyncio.create_task(session.generate(prompt, sampling(3, max_tokens=120)))
        for version in (1, 2):
            await sampled_so_far(engine, 30 * version)
            await weights.publish(engine, version)
        done = await turn
        session.close()
    assert [version for version, _ in done.versions] == [0, 1, 2] and done.policy_version == 0
    assert sum(tokens for _, tokens in done.versions) == len(done.token_ids) == len(done.logprobs) == 120
    assert weights.largest_error([*prompt, *done.token_ids], len(prompt), done) < 1e-4
    # What stood there before each change was computed twice, and nothing more.
    first, second = (40 + sum(tokens for _, tokens in done.versions[:count]) for count in (1, 2))
    assert abs(engine.counters["tokens_recomputed"] - (first + second)) <= 2


async def test_a_session_that_waits_for_its_tool_goes_on_with_the_new_weights(
    forward: type[PackedModel] | type[TransformersForward],
) -> None:
    weights, source = Versions(2), random.Random(2)
    prompt, result = random_ids(source, 30), random_ids(source, 9)
    async with running_engine(weights.first, forward=forward) as engine:
        sessions = [await engine.open() for _ in range(3)]
        before = await asyncio.gather(
            *(session.generate(prompt, sampling(seed, max_tokens=6)) for seed, session in enumerate(sessions))
        )
        await weights.publish(engine, 1)
        after = await asyncio.gather(
            *(session.generate(result, sampling(10 + seed, max_tokens=6)) for seed, session in enumerate(sessions))
        )
    for one, two in zip(before, after, strict=True):
        assert (one.policy_version, one.versions, two.policy_version, two.versions) == (0, [], 1, [])
        context = [*prompt, *one.token_ids, *result, *two.token_ids]
        assert weights.largest_error(context[:36], 30, one) < 1e-4
        assert weights.largest_error(context, len(context) - len(two.token_ids), two) < 1e-4


async def test_no_prefix_of_the_old_weights_is_shared_by_new_sessions() -> None:
    weights, prompt = Versions(2), random_ids(random.Random(3), 50)
    async with running_engine(weights.first) as engine:
        held = await engine.open()
        await held.generate(prompt, sampling(1))
        closed = await engine.open()
        await closed.generate(prompt, sampling(2))
        closed.close()
        shared = engine.counters["prefix_tokens_shared"]
        assert shared >= 49
        await weights.publish(engine, 1)
        session = await engine.open()
        turn = await session.generate(prompt, sampling(3))
    assert engine.counters["prefix_tokens_shared"] == shared
    assert weights.largest_error([*prompt, *turn.token_ids], len(prompt), turn) < 1e-4


async def test_many_sessions_in_a_small_cache_go_on_over_many_changes() -> None:
    """Pages are taken and given, prefixes shared, sessions cancelled, and weights change all the while."""
    weights, source = Versions(5), random.Random(4)
    prompts = [random_ids(source, source.randint(10, 50)) for _ in range(4)]

    async def converse(engine: EmbeddedEngine, seed: int) -> list[tuple[list[int], int, Generation]]:
        own, context, turns = random.Random(seed), [], []
        session = await engine.open()
        try:
            for number in range(4):
                added = prompts[seed % 4] if number == 0 else random_ids(own, own.randint(1, 12))
                wanted = sampling(10 * seed + number, max_tokens=own.randint(5, 30))
                if own.random() < 0.2:
                    given_up = asyncio.create_task(session.generate([*context, *added], wanted))
                    await asyncio.sleep(0.01)
                    given_up.cancel()
                    await asyncio.gather(given_up, return_exceptions=True)
                    session.restart()
                    added, context = [*context, *added], []
                turn = await session.generate(added, wanted)
                context = [*context, *added, *turn.token_ids]
                turns.append((context, len(context) - len(turn.token_ids), turn))
                await asyncio.sleep(own.random() * 0.02)
        finally:
            session.close()
        return turns

    async with running_engine(weights.first, slots=6, batch=4, prefill_tokens=64, pages=40) as engine:
        rollouts = [asyncio.create_task(converse(engine, seed)) for seed in range(14)]
        for version in range(1, 5):
            await sampled_so_far(engine, 120 * version)
            await weights.publish(engine, version)
        turns = list(chain.from_iterable(await asyncio.gather(*rollouts)))
    seen = {version for _, _, turn in turns for version in version_of_each(turn)}
    assert seen == {0, 1, 2, 3, 4} and any(turn.versions for _, _, turn in turns)
    assert max(weights.largest_error(*turn) for turn in turns) < 1e-3


async def test_a_deterministic_engine_changes_weights_only_between_sessions() -> None:
    model: TinyModel = tiny_model()
    async with running_engine(model, deterministic=True) as engine:
        session = await engine.open()
        with pytest.raises(EngineFailure, match="1 sessions are open; close them before the weights change") as failure:
            await engine.update_weights(lambda target: None, 1)
        assert (failure.value.kind, engine.policy_version) == ("busy", 0)
        session.close()
        await engine.update_weights(lambda target: None, 1)
        assert engine.policy_version == 1


async def test_a_change_that_fails_leaves_the_version_and_the_engine_goes_on() -> None:
    prompt, weights = random_ids(random.Random(5), 20), Versions(1)

    def fail(target: Forward) -> None:
        raise ValueError("not these")

    async with running_engine(weights.first) as engine:
        session = await engine.open()
        turn = asyncio.create_task(session.generate(prompt, sampling(1, max_tokens=60)))
        await sampled_so_far(engine, 10)
        with pytest.raises(ValueError, match="not these"):
            await engine.update_weights(fail, 1)
        done = await turn
    assert (engine.policy_version, done.policy_version, done.versions) == (0, 0, [])
    assert weights.largest_error([*prompt, *done.token_ids], len(prompt), done) < 1e-4
