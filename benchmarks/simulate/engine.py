"""vLLM servers that are not there: continuous batching at a GPU's speed, machines that are lost, weights that travel.

The engine that asks them, `agentrft.engine.vllm`, is the real one. A token id of a simulated turn stands for as many
tokens as its number says, so that rollouts of thousands of tokens are as quick to simulate as those of ten.
"""

import asyncio
import heapq
import random
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import Any

from agentrft.engine.vllm import Client
from benchmarks.simulate.clock import Clock, until
from benchmarks.simulate.costs import Costs
from benchmarks.simulate.work import Bucket, Gpu, Work

MODEL = "simulated"
# Ids below this number stand for so many tokens. A turn ends with this id if it answers, and with a larger one of its
# own if it calls.
ANSWERS = 1_000_000
# Until a connection to a machine that is gone is refused.
REFUSED_AFTER_S = 1.0
COUNTERS = "vllm:generation_tokens_total {}\n"


class BucketTraffic:
    """The object store: what is fetched from it, one after another at its own rate."""

    def __init__(self, bucket: Bucket, clock: Clock) -> None:
        self._bucket, self._clock = bucket, clock
        self._free_at_s = 0.0
        self.read_bytes = 0.0
        self.most_wait_s = 0.0

    async def fetch_adapter(self) -> None:
        """One machine reads a policy version."""
        size = self._bucket.adapter_bytes
        now, self.read_bytes = self._clock.now_s, self.read_bytes + size
        self._free_at_s = max(now, self._free_at_s) + size / self._bucket.bytes_per_s
        wait_s = max(self._free_at_s - now, size / self._bucket.machine_bytes_per_s)
        self.most_wait_s = max(self.most_wait_s, wait_s)
        await asyncio.sleep(wait_s)


class Sequence:
    """One turn that a GPU generates."""

    __slots__ = ("answer", "ends_at", "new", "prefill", "tokens")

    def __init__(self, new: int, prefill: int, tokens: int, answer: "asyncio.Future[bool]") -> None:
        self.new = new
        self.prefill = prefill
        self.tokens = tokens
        self.answer = answer
        self.ends_at = 0.0

    def __lt__(self, other: "Sequence") -> bool:
        return self.ends_at < other.ends_at


class SimulatedGpu:
    """One server. Each sequence of its batch gets a token a pass; a pass takes longer the more there are.

    Attributes:
        is_up: whether there is a machine.
        up_s, busy_s, filled_s: seconds with a machine, with sequences, and their sum over sequences, until `look`.
        losses: machines that were lost.
        done_s: seconds that the turns which ended take of a GPU that is never idle.
    """

    def __init__(self, gpu: Gpu, clock: Clock, source: random.Random) -> None:
        self._gpu, self._clock, self.source = gpu, clock, source
        self._loop = asyncio.get_running_loop()
        self._batch: list[Sequence] = []
        self._queue: deque[Sequence] = deque()
        # Tokens that a sequence would have which was there from the beginning; as of a moment, later by its prefills.
        self._passes = 0.0
        self._at_s = self._looked_s = clock.now_s
        self._timer: asyncio.TimerHandle | None = None
        self._cached: set[int] = set()
        self.adapters: set[str] = set()
        self.is_up = True
        self.up_s = self.busy_s = self.filled_s = 0.0
        self.losses = 0
        self.done_s = 0.0

    def look(self) -> None:
        """Bring all that is counted up to now."""
        now = self._clock.now_s
        passed, self._looked_s = now - self._looked_s, now
        if self.is_up:
            self.up_s += passed
            self.busy_s += passed if self._batch else 0.0
            self.filled_s += passed * len(self._batch)

    async def generate(self, turn: int, before: int, context: int, new: int, tokens: int) -> bool:
        """Whether a turn came to its end; it does not where the machine is lost.

        Args:
            turn: its number; the next one finds its keys and values by that.
            before: number of the turn before, 0 where there was none.
            context: tokens, of which `new` were not there at the turn before.
        """
        answer: asyncio.Future[bool] = self._loop.create_future()
        with self._clock.set_apart():
            is_cached = before in self._cached
            self._cached.discard(before)
            sequence = Sequence(new, new if is_cached else context, tokens, answer)
            self._queue.append(sequence)
            self._go_on()
        try:
            is_done = await answer
        except asyncio.CancelledError:
            with self._clock.set_apart():
                self._drop(sequence)
            raise
        if is_done:
            self._cached.add(turn)
        return is_done

    async def live(self) -> None:
        """Lose its machine now and then, and get another."""
        while True:
            left_s = self._gpu.time_to_loss_s(self.source)
            await asyncio.sleep(until(left_s))
            with self._clock.set_apart():
                self._lose()
            await asyncio.sleep(self._gpu.away_s)
            self.look()
            self.is_up = True
            self._at_s = self._clock.now_s

    def _lose(self) -> None:
        self.look()
        self.is_up = False
        self.losses += 1
        for sequence in (*self._batch, *self._queue):
            if not sequence.answer.done():
                sequence.answer.set_result(False)
        self._batch.clear()
        self._queue.clear()
        self._cached.clear()
        self.adapters.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _drop(self, sequence: Sequence) -> None:
        self._advance()
        if sequence in self._batch:
            self._batch.remove(sequence)
            heapq.heapify(self._batch)
        elif sequence in self._queue:
            self._queue.remove(sequence)
        self._go_on()

    def _advance(self) -> None:
        """Compute up to now."""
        self.look()
        now = self._clock.now_s
        if self._batch and now > self._at_s:
            self._passes += (now - self._at_s) / self._pass_s
        # A prefill that is not done yet ends when it ends.
        self._at_s = max(now, self._at_s)

    @property
    def _pass_s(self) -> float:
        return self._gpu.pass_s + self._gpu.sequence_s * len(self._batch)

    def _go_on(self) -> None:
        self._advance()
        while self._batch and self._batch[0].ends_at <= self._passes + 1e-6:
            ended = heapq.heappop(self._batch)
            self.done_s += self._gpu.gpu_s(ended.tokens, ended.new)
            if not ended.answer.done():
                ended.answer.set_result(True)
        while self._queue and len(self._batch) < self._gpu.places:
            sequence = self._queue.popleft()
            sequence.ends_at = self._passes + sequence.tokens
            self._at_s += sequence.prefill * self._gpu.prefill_s
            heapq.heappush(self._batch, sequence)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._batch:
            left = max(0.0, self._batch[0].ends_at - self._passes)
            self._timer = self._loop.call_at(self._at_s + left * self._pass_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        with self._clock.set_apart():
            self._go_on()


class SimulatedClient(Client):
    """What the real engine asks, in place of HTTP to one server; the requests cost the driver what real ones do.

    Args:
        work: how long turns are, and which one is the last.
        numbers: of turns that call, for all servers.
    """

    def __init__(
        self,
        gpu: SimulatedGpu,
        work: Work,
        bucket: BucketTraffic,
        costs: Costs,
        clock: Clock,
        numbers: Iterator[int],
    ) -> None:
        super().__init__("http://simulated:8000", {})
        self._numbers = numbers
        self.gpu = gpu
        self._work, self._bucket = work, bucket
        self._costs, self._clock = costs, clock
        self.asked: Counter[str] = Counter()

    async def request(self, path: str, body: Mapping[str, Any] | None, timeout_s: float) -> tuple[int, Any]:
        """See `Client.request`."""
        self.asked[path] += 1
        self._clock.charge(self._costs.turn_s if path == "/v1/completions" else self._costs.look_s)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._answer(path, body or {})
        except TimeoutError:
            return 0, "TimeoutError: no answer"

    async def _answer(self, path: str, body: Mapping[str, Any]) -> tuple[int, Any]:
        if not self.gpu.is_up:
            await asyncio.sleep(REFUSED_AFTER_S)
            return 0, "ClientConnectorError: connection refused"
        match path:
            case "/health":
                return 200, ""
            case "/metrics":
                self.gpu.look()
                # It moves whenever something is computed.
                return 200, COUNTERS.format(self.gpu.filled_s)
            case "/v1/load_lora_adapter":
                await self._bucket.fetch_adapter()
                if not self.gpu.is_up:
                    return 0, "ServerDisconnectedError"
                self.gpu.adapters.add(body["lora_name"])
                return 200, "loaded"
            case "/v1/unload_lora_adapter":
                self.gpu.adapters.discard(body["lora_name"])
                return 200, "unloaded"
            case "/v1/completions":
                return await self._complete(body)
            case _:
                return 404, "no such route"

    async def _complete(self, body: Mapping[str, Any]) -> tuple[int, Any]:
        if body["model"] != MODEL and body["model"] not in self.gpu.adapters:
            return 404, "no such model"
        with self._clock.set_apart():
            ids, source = body["prompt"], self.gpu.source
            turns = [place for place, token in enumerate(ids) if token > ANSWERS]
            context = sum(token for token in ids if token < ANSWERS)
            new = sum(ids[turns[-1] + 1 :]) if turns else context
            tokens, is_last = self._work.turn(source), self._work.is_last(len(turns), source)
            number = next(self._numbers)
        before = ids[turns[-1]] if turns else 0
        if not await self.gpu.generate(number, before, context, new, tokens):
            return 0, "ServerDisconnectedError"
        choice = {"token_ids": [tokens, ANSWERS if is_last else number], "logprobs": {"token_logprobs": [-0.5, -0.5]}}
        return 200, {"model": body["model"], "choices": [choice]}
