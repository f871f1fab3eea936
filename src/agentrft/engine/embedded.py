"""The embedded engine: continuous batching in process, on one model, with a KV cache that nobody fills twice.

Each pass of the model takes the next token of every sequence that is sampling, and chunks of the new tokens of
those that are not there yet (prompts, tool results), up to a budget. Keys and values are in pages that are taken as
tokens come. A sequence whose rollout waits for a tool is in no pass and keeps its pages; only where there are too few
of them does it lose some, which are computed again (`SlotTable`). A prompt that begins like another one shares that
one's, and waits if they are still being computed: a group's prompt is computed once. Sequences of different LoRA
adapters, and of the model alone, are in the same passes.

Weights change between two passes, under open sessions. All keys and values are then computed anew by the new weights,
so that the log-probability of each token is that of one version (as in AReaL: Fu et al. 2025, arXiv:2505.24298); a turn
that was under way goes on behind the tokens that it has.
"""

import asyncio
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from agentrft.engine.base import EngineFailure, Generation, Sampling
from agentrft.engine.graphs import CudaRecorder, DecodeGraphs, Recorder
from agentrft.engine.kv_cache import KVCache
from agentrft.engine.limits import EngineLimits
from agentrft.engine.pages import pages_of
from agentrft.engine.passes import Pass, Sampled
from agentrft.engine.schedule import PassSchedule
from agentrft.engine.sequence import PassItem, Sequence, TurnRequest
from agentrft.engine.slots import SlotTable
from agentrft.engine.state_cache import StateCache
from agentrft.models.forward import Forward
from agentrft.models.lora import LoraAdapter

logger = logging.getLogger(__name__)


class EmbeddedSession:
    """One rollout's sequence in the engine."""

    def __init__(self, engine: "EmbeddedEngine", sequence: Sequence) -> None:
        self._engine = engine
        self._sequence = sequence
        self._closed = False

    async def generate(self, new_ids: list[int], sampling: Sampling) -> Generation:
        """See `Session.generate`. Cancelling the call takes the turn out of the engine."""
        if self._closed:
            raise EngineFailure("closed", "this session was closed")
        return await self._engine._run_turn(self._sequence, new_ids, sampling)

    def restart(self) -> None:
        if not self._closed:
            self._engine._slots.restart(self._sequence)

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._engine._release(self._sequence)


class EmbeddedEngine:
    """Generates from a model.

    Args:
        forward: the model; its weights change by `update_weights` alone.
        limits: sizes of batches and cache.
        deterministic: run a pass only when every open session waits for one, and forget all prefixes whenever
            no session is open, so that results depend on what is asked and not on when.
        executor: a single thread to compute in, shared with others; None makes one.
        warn: told once, where rollouts have to wait for pages or to be computed again.
        recorder: what keeps passes to replay them; None takes CUDA graphs, where the model is on a GPU.

    Attributes:
        policy_version: of what it samples from.
        counters: since it was made: passes, those of them that were replayed (`passes_replayed`), tokens computed,
            those of them that had been computed before and lost their pages, or were of older weights
            (`tokens_recomputed`), tokens sampled, and those that others had computed (`prefix_tokens_shared`).
        busy_s: seconds that it spent in passes since it was made.
    """

    def __init__(
        self,
        forward: Forward,
        limits: EngineLimits,
        *,
        deterministic: bool = False,
        executor: ThreadPoolExecutor | None = None,
        warn: Callable[[str], None] = logger.warning,
        recorder: Recorder | None = None,
    ) -> None:
        self._forward = forward
        shapes = forward.cache_shapes
        self._deterministic = deterministic
        slots, longest = limits.max_sequences, pages_of(limits.max_context_tokens)
        pages = slots * longest if limits.cache_pages is None else limits.cache_pages
        if pages < (slots if deterministic else 1) * longest:
            raise ValueError(f"{pages} pages are too few for sequences of {longest}")
        if limits.cuda_graphs and not deterministic and recorder is None and forward.device.type == "cuda":
            recorder = CudaRecorder(forward.device)
        longest_tokens, spare = limits.max_context_tokens, int(recorder is not None)
        self._cache = KVCache(
            shapes, pages=pages + spare, max_tokens=longest_tokens, dtype=forward.dtype, device=forward.device
        )
        self._graphs = None
        if recorder is not None and DecodeGraphs.possible(forward, self._cache):
            self._graphs = DecodeGraphs(forward, self._cache, spare_page=pages, record=recorder)
        self._states = StateCache(shapes, slots=slots, device=forward.device)
        self._slots = SlotTable(slots, pages, deterministic=deterministic, stateful=bool(shapes.states))
        self.counters: Counter[str] = Counter()
        self._schedule = PassSchedule(
            self._slots, limits, deterministic=deterministic, counters=self.counters, warn=warn
        )
        self._wake = asyncio.Event()
        # Held while a pass is planned, run and delivered, and while weights change.
        self._between_passes = asyncio.Lock()
        self._loop_task: asyncio.Task[None] | None = None
        self._executor = executor or ThreadPoolExecutor(max_workers=1, thread_name_prefix="agentrft-engine")
        self._owns_executor = executor is None
        self._broken: EngineFailure | None = None
        self._stopping = False
        self.policy_version = 0
        self.busy_s = 0.0

    @property
    def pages_taken(self) -> int:
        """Pages of `PAGE_TOKENS` tokens that hold keys and values of open sequences, or of closed ones' prefixes."""
        return self._slots.pool.taken

    async def open(self, adapter: LoraAdapter | None = None) -> EmbeddedSession:
        """Wait for a free slot of the cache and take it; first come, first served.

        Args:
            adapter: of this engine's model, from `PackedModel.lora`; None for the model alone. Nobody needs to tell the
                engine when an adapter comes or goes: it has an adapter as long as a session of it is open.

        Raises:
            EngineFailure: the engine was closed, or is while this waits.
        """
        if self._broken is not None:
            raise self._broken
        return EmbeddedSession(self, await self._slots.take(adapter))

    async def update_weights(self, change: Callable[[Forward], None], policy_version: int) -> None:
        """Let `change` write the new policy into the model, after the pass under way. Open sessions go on with it.

        Raises:
            EngineFailure: sessions are open in deterministic mode, which has one fixed schedule.
        """
        if self._deterministic:
            self._refuse_open("before the weights change")
        async with self._between_passes:
            self._slots.compute_all_anew()
            self._forget_graphs()
            await asyncio.get_running_loop().run_in_executor(self._executor, change, self._forward)
            self.policy_version = policy_version
        self._wake.set()

    async def prove(self, *, temperature: float, top_p: float, context_tokens: int) -> None:
        """Nothing: see `Engine.prove`."""

    async def release_memory(self) -> None:
        """Forget all prefixes, and give the cache's memory to whatever comes before the next rollout.

        Raises:
            EngineFailure: sessions are open, whose caches these are.
        """
        self._refuse_open("before the cache is released")
        self._slots.forget_prefixes()
        self._forget_graphs()
        self._cache.clear()

    async def close(self) -> None:
        """Stop; whoever still waits, or asks later, fails with kind "stopped"."""
        self._broken = EngineFailure("stopped", "the engine was closed")
        if self._loop_task is not None:
            # Not by cancelling: Python 3.11's wait_for loses a cancellation that meets a wake-up.
            self._stopping = True
            self._wake.set()
            await asyncio.gather(self._loop_task, return_exceptions=True)
        self._fail_all(self._broken)
        self._slots.refuse_waiting(self._broken)
        if self._owns_executor:
            self._executor.shutdown(wait=True)

    def _forget_graphs(self) -> None:
        if self._graphs is not None:
            self._graphs.forget()

    def _refuse_open(self, when: str) -> None:
        if self._slots.open:
            raise EngineFailure("busy", f"{len(self._slots.open)} sessions are open; close them {when}")

    async def _run_turn(self, sequence: Sequence, new_ids: list[int], sampling: Sampling) -> Generation:
        if self._broken is not None:
            raise self._broken
        if sequence.request is not None:
            raise EngineFailure("busy", "a turn of this session is still being generated")
        total = len(sequence.tokens) + len(new_ids) + sampling.max_tokens
        if total > self._cache.max_tokens + 1:
            raise EngineFailure("context", f"{total} tokens do not fit into {self._cache.max_tokens}")
        if not sequence.tokens and not new_ids:
            raise EngineFailure("empty", "a turn needs at least one token of context")
        loop = asyncio.get_running_loop()
        if self._loop_task is None:
            self._loop_task = loop.create_task(self._serve(), name="agentrft-engine")
            self._loop_task.add_done_callback(self._on_loop_end)
        future: asyncio.Future[Generation] = loop.create_future()
        if not sequence.tokens:
            sequence.fork_at = len(new_ids) - 1
        sequence.tokens.extend(new_ids)
        deadline = loop.time() + sampling.deadline_s
        sequence.request = TurnRequest(sampling, future, deadline, random.Random(sampling.seed))
        self._wake.set()
        try:
            return await future
        finally:
            sequence.request = None
            # Others may have waited for it to go on.
            self._wake.set()

    def _release(self, sequence: Sequence) -> None:
        if sequence.request is not None and not sequence.request.future.done():
            sequence.request.future.cancel()
        sequence.request = None
        self._slots.give_back(sequence)
        self._wake.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopping:
            self._wake.clear()
            async with self._between_passes:
                self._expire(loop.time())
                work = self._schedule.next_pass(loop.time())
                if work:
                    await self._pass(loop, work)
            if not work:
                await self._wait_for_work(loop)

    async def _pass(self, loop: asyncio.AbstractEventLoop, work: list[PassItem]) -> None:
        planned = Pass(work, self._slots.take_copies())
        started = time.perf_counter()
        for item in work:
            item.sequence.in_pass = True
        try:
            sampled = await loop.run_in_executor(
                self._executor, planned.run, self._forward, self._cache, self._states, self._graphs
            )
        except (RuntimeError, MemoryError) as error:
            logger.exception("the engine's forward pass failed")
            self._fail_all(EngineFailure("forward", str(error)))
            for item in work:
                # What was to be copied may not have been, and some layers' states may be those after the pass.
                if item.epoch == item.sequence.epoch:
                    self._slots.compute_anew(item.sequence)
            return
        finally:
            self.busy_s += time.perf_counter() - started
            for item in work:
                item.sequence.in_pass = False
        self._deliver(work, sampled)

    async def _wait_for_work(self, loop: asyncio.AbstractEventLoop) -> None:
        turns = [turn for s in self._slots.open.values() if (turn := s.waiting_turn) is not None]
        deadlines = [turn.deadline for turn in turns if turn.starved_since is None]
        timeout = max(0.0, min(deadlines) - loop.time()) if deadlines else None
        try:
            await asyncio.wait_for(self._wake.wait(), timeout)
        except TimeoutError:
            return

    def _expire(self, now: float) -> None:
        for sequence in self._slots.open.values():
            request = sequence.waiting_turn
            if request is not None and request.starved_since is None and now > request.deadline:
                seconds = request.sampling.deadline_s
                request.future.set_exception(EngineFailure("timeout", f"the turn did not end within {seconds} s"))

    def _deliver(self, work: list[PassItem], sampled: Sampled) -> None:
        self.counters["passes"] += 1
        self.counters["passes_replayed"] += sampled.replayed
        for item in work:
            item.sequence.last_pass = self.counters["passes"]
        results = iter(zip(sampled.tokens, sampled.logprobs, strict=True))
        for item in work:
            token, logprob = next(results) if item.samples else (None, 0.0)
            self.counters["tokens_computed"] += item.length
            self.counters["tokens_recomputed"] += item.recomputed
            sequence = item.sequence
            if not math.isfinite(logprob):
                self._discard(item)
                continue
            if item.epoch != sequence.epoch:
                continue
            sequence.computed += item.length
            if item.keeps and self._slots.stateful:
                sequence.kept = sequence.computed
            if token is None:
                continue
            request = item.request
            if sequence.request is not request or request.future.done():
                continue
            request.add(token, logprob, self.policy_version)
            sequence.tokens.append(token)
            self.counters["tokens_sampled"] += 1
            stopped = token in request.sampling.stop_ids
            if stopped or len(request.sampled) >= request.sampling.max_tokens:
                request.future.set_result(request.generation("stop" if stopped else "length"))

    def _discard(self, item: PassItem) -> None:
        """Fail a turn whose logits are no numbers; its keys and values must reach no other sequence."""
        sequence, request = item.sequence, item.request
        if item.epoch == sequence.epoch:
            self._slots.restart(sequence)
        self._slots.spoil(sequence.slot, item.pages)
        if sequence.request is request and not request.future.done():
            what = "policy" if sequence.adapter is None else "adapter"
            message = f"the model's logits are not finite numbers: the {what} has diverged"
            request.future.set_exception(EngineFailure("forward", message))

    def _on_loop_end(self, task: asyncio.Task[None]) -> None:
        """A fault in the engine itself must reach the waiting turns, not leave them waiting."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken = EngineFailure("broken", f"{type(error).__name__}: {error}")
            logger.error("the engine stopped", exc_info=error)
            self._fail_all(self._broken)

    def _fail_all(self, failure: EngineFailure) -> None:
        for sequence in self._slots.open.values():
            if sequence.request is not None and not sequence.request.future.done():
                sequence.request.future.set_exception(failure)
