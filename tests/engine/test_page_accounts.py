"""Whatever sessions do, with too few pages for them: every page is accounted for, and every token is the right one."""

import asyncio
from typing import Any

import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor
from transformers import LlamaConfig

from agentrft.engine import EngineFailure
from agentrft.engine.embedded import EmbeddedEngine, EmbeddedSession
from agentrft.engine.limits import EngineLimits
from agentrft.models.attention import ContextPlan
from agentrft.models.cache_shapes import CacheShapes, KeyShape
from tests.engine.sessions import sampling

VOCABULARY, WIDTH, CONTEXT, SLOTS, PAGES = 11, 8, 256, 4, 6
SOURCE = torch.Generator().manual_seed(0)
VALUES = torch.randn(VOCABULARY, CONTEXT, WIDTH, generator=SOURCE)
HEAD = torch.randn(WIDTH, VOCABULARY, generator=SOURCE)


class MeanForward:
    """A model of one layer that tells its next token from the mean over its context of what each token is at its place:
    so that a single key or value that is another's gives another token, or another log-probability.
    """

    config: Any = LlamaConfig()
    dtype, device = torch.float32, torch.device("cpu")
    cache_shapes = CacheShapes({0: KeyShape(1, 1, WIDTH, WIDTH)})

    def __call__(
        self, token_ids: Tensor, position_ids: Tensor, keep: Tensor, plan: ContextPlan, adapters: object = None
    ) -> Tensor:
        value = VALUES[token_ids, position_ids].unsqueeze(0)
        mean = plan.attend(0, torch.zeros_like(value), value.clone(), value, 1.0)
        return mean[keep, 0] @ HEAD * len(HEAD)


def expected(tokens: list[int]) -> Tensor:
    """Log-probabilities of the next token."""
    mean = VALUES[torch.tensor(tokens), torch.arange(len(tokens))].mean(dim=0)
    return (mean @ HEAD * len(HEAD)).log_softmax(dim=-1)


class Accounts(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        limits = EngineLimits(CONTEXT, SLOTS, max_batch_size=3, prefill_tokens_per_step=80, cache_pages=PAGES)
        forward: Any = MeanForward()
        self.engine = EmbeddedEngine(forward, limits)
        self.sessions: list[tuple[EmbeddedSession, list[int]]] = []

    @precondition(lambda self: len(self.sessions) < SLOTS)
    @rule()
    def open(self) -> None:
        self.sessions.append((self.runner.run(asyncio.wait_for(self.engine.open(), 20)), []))

    def _new_tokens(self, data: st.DataObject, seen: list[int], sampled: int) -> list[int]:
        room = CONTEXT - sampled - len(seen)
        count = data.draw(st.integers(1, max(1, min(room, 150))))
        # Beginnings that others have too.
        kind = data.draw(st.integers(0, 2))
        return [(kind + index // 7) % VOCABULARY for index in range(count)]

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def generate(self, data: st.DataObject) -> None:
        """Some of them at once."""
        chosen = data.draw(st.lists(st.sampled_from(range(len(self.sessions))), min_size=1, unique=True))
        self.runner.run(self._turns(data, chosen))

    async def _turns(self, data: st.DataObject, chosen: list[int]) -> None:
        turns = []
        for index in chosen:
            session, seen = self.sessions[index]
            sampled = data.draw(st.integers(1, 70))
            if len(seen) + sampled >= CONTEXT:
                session.restart()
                seen.clear()
            turns.append(self._turn(session, seen, self._new_tokens(data, seen, sampled), sampled))
        await asyncio.wait_for(asyncio.gather(*turns), 60)

    async def _turn(self, session: EmbeddedSession, seen: list[int], new: list[int], sampled: int) -> None:
        seen += new
        generation = await session.generate(new, sampling(max_tokens=sampled, temperature=0.0))
        for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True):
            # Of tokens that are nearly as probable either may be said.
            logprobs = expected(seen)
            assert abs(float(logprobs[token]) - logprob) < 1e-3
            assert float(logprobs.max()) - float(logprobs[token]) < 1e-3
            seen.append(token)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), passes=st.integers(0, 5), closes=st.booleans())
    def break_off(self, data: st.DataObject, passes: int, closes: bool) -> None:
        """In the middle of a turn."""
        index = data.draw(st.sampled_from(range(len(self.sessions))))
        session, seen = self.sessions[index]
        if len(seen) > CONTEXT - 100:
            session.restart()
            seen.clear()
        self.runner.run(self._break_off(session, self._new_tokens(data, seen, 60), passes, closes))
        if closes:
            del self.sessions[index]
        else:
            session.restart()
            seen.clear()

    async def _break_off(self, session: EmbeddedSession, new: list[int], passes: int, closes: bool) -> None:
        turn = asyncio.create_task(session.generate(new, sampling(max_tokens=60)))
        for _ in range(3 * passes):
            await asyncio.sleep(0.0003)
        if closes:
            session.close()
        else:
            turn.cancel()
        await asyncio.gather(turn, return_exceptions=True)

    @precondition(lambda self: self.sessions)
    @rule(data=st.data())
    def spoil(self, data: st.DataObject) -> None:
        """Something that is no number gets into a page, and fails the turn that meets it."""
        session, seen = self.sessions[data.draw(st.sampled_from(range(len(self.sessions))))]
        if not session._sequence.pages or len(seen) > CONTEXT - 3:
            return
        page = data.draw(st.sampled_from(session._sequence.pages))
        self.engine._cache.values[0][page] = float("nan")
        try:
            self.runner.run(session.generate([0], sampling(max_tokens=1)))
        except EngineFailure as failure:
            assert failure.kind == "forward"
        session.restart()
        seen.clear()

    @precondition(lambda self: self.sessions)
    @rule(data=st.data(), restarts=st.booleans())
    def end(self, data: st.DataObject, restarts: bool) -> None:
        session, seen = self.sessions[data.draw(st.sampled_from(range(len(self.sessions))))]
        if restarts:
            session.restart()
            seen.clear()
        else:
            session.close()
            self.sessions = [one for one in self.sessions if one[0] is not session]

    @precondition(lambda self: not self.sessions)
    @rule()
    def release(self) -> None:
        self.runner.run(self.engine.release_memory())
        assert self.engine.pages_taken == 0

    @invariant()
    def every_page_has_as_many_holders_as_hold_it(self) -> None:
        slots = self.engine._slots
        counts = [0] * PAGES
        for one in (*slots.open.values(), *slots._retained.values()):
            assert len(set(one.pages)) == len(one.pages)
            for page in one.pages:
                counts[page] += 1
        assert slots.pool._holders == counts
        assert sorted(slots.pool._free) == [page for page, count in enumerate(counts) if not count]

    def teardown(self) -> None:
        for session, _ in self.sessions:
            session.close()
        self.runner.run(self.engine.release_memory())
        assert self.engine.pages_taken == 0
        self.runner.run(self.engine.close())
        self.runner.close()


TestAccounts = Accounts.TestCase
TestAccounts.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)
