"""What goes wrong with one turn fails that turn, with a reason, and leaves the others right."""

import asyncio
import random
import threading
from collections.abc import Iterator

import pytest
import torch

from agentrft.engine import EngineFailure
from agentrft.engine.embedded import EmbeddedEngine
from agentrft.models.forward import Forward
from tests.engine.sessions import Transcript, converse, largest_error, random_ids, running_engine, sampling
from tests.tiny_model import TinyModel, tiny_model


class Gate:
    """Holds the model's passes, or makes them fail, before they begin."""

    def __init__(self, model: TinyModel) -> None:
        self.open = threading.Event()
        self.open.set()
        self.reached = threading.Event()
        self.error: Exception | None = None
        # Every way of computing the model asks for its rotary angles once a pass.
        model.planned.model.rotary_emb.register_forward_pre_hook(self._on_forward)

    def _on_forward(self, *_: object) -> None:
        self.reached.set()
        if self.error is not None:
            raise self.error
        assert self.open.wait(timeout=20)

    async def hold(self) -> None:
        """Close the gate and return once a pass waits at it."""
        self.open.clear()
        self.reached.clear()
        assert await asyncio.to_thread(self.reached.wait, 20)


@pytest.fixture
def model() -> TinyModel:
    return tiny_model("llama")


@pytest.fixture
def gate(model: TinyModel) -> Iterator[Gate]:
    gate = Gate(model)
    yield gate
    gate.open.set()


def prompt_of(seed: int, length: int = 20) -> list[int]:
    return random_ids(random.Random(seed), length)


async def test_a_turn_past_its_deadline_fails_and_the_others_go_on(model: TinyModel) -> None:
    async with running_engine(model) as engine:
        others = [asyncio.create_task(converse(engine, prompt_of(seed), turns=5, seed=seed)) for seed in range(3)]
        session = await engine.open()
        with pytest.raises(EngineFailure, match="did not end within") as failure:
            await session.generate(prompt_of(9), sampling(max_tokens=200, deadline_s=0.02))
        assert failure.value.kind == "timeout"
        session.close()
        transcripts = await asyncio.gather(*others)
    assert largest_error(model, transcripts) < 1e-3


async def test_a_deadline_counts_while_a_turn_waits_for_others_in_deterministic_mode(model: TinyModel) -> None:
    async with running_engine(model, deterministic=True) as engine:
        first, second = await engine.open(), await engine.open()
        with pytest.raises(EngineFailure) as failure:
            await first.generate(prompt_of(1), sampling(deadline_s=0.05))
        assert failure.value.kind == "timeout"
        first.close()
        assert len((await second.generate(prompt_of(2), sampling(max_tokens=4))).token_ids) == 4
        second.close()


async def test_a_session_can_restart_after_a_deadline(model: TinyModel) -> None:
    async with running_engine(model) as engine:
        session, transcript, prompt = await engine.open(), Transcript(), prompt_of(4)
        with pytest.raises(EngineFailure):
            await session.generate(prompt_of(3), sampling(max_tokens=200, deadline_s=0.01))
        session.restart()
        transcript.add(prompt, await session.generate(prompt, sampling()))
        session.close()
    assert largest_error(model, [transcript]) < 1e-3


async def test_a_turn_cancelled_while_a_pass_runs_leaves_the_others_right(model: TinyModel, gate: Gate) -> None:
    async with running_engine(model) as engine:
        others = [asyncio.create_task(converse(engine, prompt_of(seed), seed=seed)) for seed in range(3)]
        session = await engine.open()
        turn = asyncio.create_task(session.generate(prompt_of(9), sampling(max_tokens=100)))
        await gate.hold()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        session.close()
        late = asyncio.create_task(converse(engine, prompt_of(10), seed=10))
        await asyncio.sleep(0)
        gate.open.set()
        transcripts = await asyncio.gather(late, *others)
    assert largest_error(model, transcripts) < 1e-3


async def test_a_session_restarted_while_a_pass_runs_begins_a_right_turn(model: TinyModel, gate: Gate) -> None:
    async with running_engine(model) as engine:
        other = asyncio.create_task(converse(engine, prompt_of(1), turns=4, seed=1))
        session, transcript, prompt = await engine.open(), Transcript(), prompt_of(2)
        turn = asyncio.create_task(session.generate(prompt_of(9, 30), sampling(max_tokens=100)))
        await gate.hold()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        session.restart()
        again = asyncio.create_task(session.generate(prompt, sampling(5)))
        await asyncio.sleep(0)
        gate.open.set()
        transcript.add(prompt, await again)
        session.close()
        transcripts = [transcript, await other]
    assert largest_error(model, transcripts) < 1e-3


async def test_a_token_sampled_for_a_cancelled_turn_is_not_given_to_the_next(model: TinyModel, gate: Gate) -> None:
    async with running_engine(model) as engine:
        session, transcript = await engine.open(), Transcript()
        turn = asyncio.create_task(session.generate(prompt_of(1), sampling(max_tokens=100)))
        await gate.hold()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        # Without a restart the context goes on from the prompt: the pass that was held had sampled nothing yet.
        following = asyncio.create_task(session.generate(prompt_of(2, 5), sampling(6)))
        await asyncio.sleep(0)
        gate.open.set()
        transcript.add([*prompt_of(1), *prompt_of(2, 5)], await following)
        session.close()
    assert largest_error(model, [transcript]) < 1e-3


async def test_closing_sessions_in_the_middle_of_turns_leaves_the_others_right(model: TinyModel) -> None:
    async def closed_soon(engine: EmbeddedEngine, seed: int) -> None:
        session = await engine.open()
        turn = asyncio.create_task(session.generate(prompt_of(seed), sampling(max_tokens=200)))
        await asyncio.sleep(0.002 * (seed % 7))
        session.close()
        session.close()
        with pytest.raises(asyncio.CancelledError):
            await turn

    async with running_engine(model, slots=4) as engine:
        closed = [asyncio.create_task(closed_soon(engine, seed)) for seed in range(20, 28)]
        transcripts = await asyncio.gather(*(converse(engine, prompt_of(seed), seed=seed) for seed in range(10)))
        await asyncio.gather(*closed)
    assert largest_error(model, transcripts) < 1e-3


async def test_a_turn_that_does_not_fit_into_the_context_is_refused(model: TinyModel) -> None:
    async with running_engine(model) as engine:
        session = await engine.open()
        with pytest.raises(EngineFailure, match="258 tokens do not fit into 256") as failure:
            await session.generate(prompt_of(1, 200), sampling(max_tokens=58))
        assert failure.value.kind == "context"
        # The refused turn left nothing behind.
        transcript = Transcript()
        transcript.add(prompt_of(2), await session.generate(prompt_of(2), sampling()))
        session.close()
    assert largest_error(model, [transcript]) < 1e-3


async def test_a_turn_without_any_context_and_a_second_turn_at_once_are_refused(model: TinyModel) -> None:
    async with running_engine(model) as engine:
        session = await engine.open()
        with pytest.raises(EngineFailure) as failure:
            await session.generate([], sampling())
        assert failure.value.kind == "empty"
        running = asyncio.create_task(session.generate(prompt_of(1), sampling(max_tokens=5)))
        await asyncio.sleep(0)
        with pytest.raises(EngineFailure) as failure:
            await session.generate(prompt_of(2), sampling())
        assert failure.value.kind == "busy"
        assert len((await running).token_ids) == 5
        session.close()
        with pytest.raises(EngineFailure) as failure:
            await session.generate(prompt_of(2), sampling())
        assert failure.value.kind == "closed"


async def test_a_pass_that_fails_fails_the_waiting_turns_and_the_engine_goes_on(model: TinyModel, gate: Gate) -> None:
    gate.error = RuntimeError("out of memory")
    async with running_engine(model) as engine:
        failures = await asyncio.gather(
            *(converse(engine, prompt_of(seed), seed=seed) for seed in range(3)), return_exceptions=True
        )
        assert [failure.kind for failure in failures if isinstance(failure, EngineFailure)] == ["forward"] * 3
        gate.error = None
        assert largest_error(model, [await converse(engine, prompt_of(1), seed=1)]) < 1e-3


async def test_a_policy_that_diverged_fails_turns_instead_of_sampling_nonsense(model: TinyModel) -> None:
    async with running_engine(model) as engine:

        def diverge(target: Forward) -> None:
            target.write("model.norm.weight", torch.tensor(float("nan")))

        await engine.update_weights(diverge, 1)
        with pytest.raises(EngineFailure, match="not finite") as failure:
            await asyncio.wait_for(converse(engine, prompt_of(1)), 20)
        assert failure.value.kind == "forward"


async def test_a_fault_of_the_engine_itself_reaches_the_turns_that_wait_and_those_to_come(
    model: TinyModel, gate: Gate
) -> None:
    gate.error = KeyError("a bug")
    async with running_engine(model) as engine:
        session = await engine.open()
        for _ in range(2):
            with pytest.raises(EngineFailure, match="a bug") as failure:
                await asyncio.wait_for(session.generate(prompt_of(1), sampling()), 20)
            assert failure.value.kind == "broken"
        session.close()
        with pytest.raises(EngineFailure):
            await engine.open()


async def test_closing_the_engine_fails_whoever_waits(model: TinyModel, gate: Gate) -> None:
    async with running_engine(model, slots=1) as engine:
        session = await engine.open()
        turn = asyncio.create_task(session.generate(prompt_of(1), sampling(max_tokens=200)))
        waiting = asyncio.create_task(engine.open())
        await gate.hold()
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        gate.open.set()
        await asyncio.wait_for(closing, 20)
        for task in (turn, waiting):
            with pytest.raises(EngineFailure) as failure:
                await asyncio.wait_for(task, 20)
            assert failure.value.kind == "stopped"
        with pytest.raises(EngineFailure):
            await asyncio.wait_for(session.generate([1], sampling()), 20)
        with pytest.raises(EngineFailure):
            await asyncio.wait_for(engine.open(), 20)
        session.close()


async def test_a_rollout_cancelled_while_its_slot_is_given_passes_it_on(model: TinyModel) -> None:
    async with running_engine(model, slots=1) as engine:
        session = await engine.open()
        cancelled, following = asyncio.create_task(engine.open()), asyncio.create_task(engine.open())
        await asyncio.sleep(0)
        session.close()
        cancelled.cancel()
        (await asyncio.wait_for(following, 20)).close()
        assert cancelled.cancelled()


async def test_no_memory_is_released_under_an_open_session(model: TinyModel) -> None:
    async with running_engine(model) as engine:
        session = await engine.open()
        with pytest.raises(EngineFailure, match="1 sessions are open; close them before the cache is released"):
            await engine.release_memory()
        session.close()
        await engine.release_memory()
