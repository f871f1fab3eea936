"""Decoding by CUDA graphs: a pass of one token of each sequence is one launch then, and not thousands.

A graph is a pass with its shapes and addresses, recorded once and replayed with other numbers in the same places. So
there is one for each of a few sizes, to which a pass is filled up: rows of nobody, which write into a page of nobody.
A size is recorded when it has been asked for a few times, and replayed only if that gave the same logits as computing
it, and sooner. Prompts, tool results and rows with adapters of their own are computed as ever.
"""

import functools
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from agentrft.engine.kv_cache import KVCache
from agentrft.engine.pages import PAGE_TOKENS
from agentrft.engine.sequence import PassItem
from agentrft.models.attention import PLAIN, ScoreRules
from agentrft.models.forward import Forward
from agentrft.models.memory import is_out_of_memory
from agentrft.models.recurrence import Mixer

logger = logging.getLogger(__name__)

# So often a size is computed before it is worth recording: that takes as long as a few passes.
USES_BEFORE = 4
REPETITIONS = 3
# Of logits, relative to the largest: kernels may be others for a filled-up size.
ROUNDING = 0.02


class Recording(Protocol):
    """A pass that can be had again."""

    def replay(self) -> None:
        """Compute it anew, from and to where it was recorded."""
        ...


class Recorder(Protocol):
    """Runs a computation and keeps it."""

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
        """The recording, and where its result is after each replay."""
        ...

    def wait(self) -> None:
        """Until everything that was begun is done."""
        ...


class CudaRecorder:
    """CUDA graphs that share their memory: only one is replayed at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def __call__(self, compute: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
        """See `Recorder`."""
        with torch.cuda.device(self._device):
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on with their own work on the card.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                result = compute()
        return graph, result

    def wait(self) -> None:
        """See `Recorder`."""
        torch.cuda.synchronize(self._device)

    @functools.cached_property
    def _pool(self) -> Any:
        # Its type has no public name.
        return torch.cuda.graph_pool_handle()


class _Size(NamedTuple):
    """What a pass is filled up to: rows, and pages of each."""

    rows: int
    pages: int

    @classmethod
    def of(cls, work: Sequence[PassItem]) -> "_Size":
        return cls(_power_of_2(len(work)), _power_of_2(max(len(item.pages) for item in work)))


class _Places:
    """Where a recorded pass reads its numbers; all of them are copied to the device at once.

    Attributes:
        token_ids, positions, page, place, seen: [rows]; page and place are where a row's key and value go, and `seen`
            is how many keys it sees.
        table: [rows, pages].
    """

    def __init__(self, size: _Size, device: torch.device) -> None:
        self._all = torch.zeros(size.rows * (5 + size.pages), dtype=torch.long, device=device)
        *columns, table = self._all.split([size.rows] * 5 + [size.rows * size.pages])
        self.token_ids, self.positions, self.page, self.place, self.seen = columns
        self.table = table.view(size)

    def fill(self, work: Sequence[PassItem], spare_page: int) -> None:
        """Set the numbers: those of the items, and of rows that are nobody's."""
        rows, pages = self.table.shape
        nobody = rows - len(work)
        tables = [item.pages + item.pages[-1:] * (pages - len(item.pages)) for item in work]
        numbers = [item.token_ids[0] for item in work] + [0] * nobody
        numbers += [item.offset for item in work] + [0] * nobody
        numbers += [item.pages[item.offset // PAGE_TOKENS] for item in work] + [spare_page] * nobody
        numbers += [item.offset % PAGE_TOKENS for item in work] + [0] * nobody
        numbers += [item.offset + 1 for item in work] + [1] * nobody
        for table in tables:
            numbers += table
        self._all.copy_(torch.tensor(numbers + [spare_page] * (nobody * pages)))


class _DecodePlan:
    """Context plan of a pass of single tokens, none of whose shapes depends on how long the sequences are."""

    def __init__(self, cache: KVCache, places: _Places) -> None:
        self._cache = cache
        self._places = places

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scaling: float, rules: ScoreRules = PLAIN
    ) -> Tensor:
        """See `ContextPlan.attend`."""
        keys, values, attend = self._cache.keys[layer], self._cache.values[layer], self._cache.decode[layer]
        assert attend is not None and rules.within(self._cache.max_tokens).plain
        places = self._places
        keys[places.page, :, places.place] = key.transpose(0, 1)
        values[places.page, :, places.place] = value.transpose(0, 1)
        return attend(query.transpose(0, 1), keys, values, places.table, places.seen, scaling)

    def recur(self, mixer: Mixer, hidden: Tensor) -> Tensor:
        """See `ContextPlan.recur`."""
        raise AssertionError("models with states are not recorded")


@dataclass(frozen=True)
class _Graph:
    places: _Places
    recording: Recording
    logits: Tensor


class DecodeGraphs:
    """Replayed passes of single tokens of one model.

    Args:
        spare_page: of the cache, that no sequence has.
        record: what keeps passes.
    """

    def __init__(self, forward: Forward, cache: KVCache, *, spare_page: int, record: Recorder) -> None:
        self._forward = forward
        self._cache = cache
        self._spare_page = spare_page
        self._record = record
        self._graphs: dict[_Size, _Graph] = {}
        self._uses: Counter[_Size] = Counter()
        # Whether replaying a size is faster than computing it, once that is known.
        self._pays: dict[_Size, bool] = {}
        self._broken = False

    @staticmethod
    def possible(forward: Forward, cache: KVCache) -> bool:
        """Whether passes of this model can be recorded: every layer attends where keys and values stand."""
        shapes = forward.cache_shapes
        plain = all(key.window is None or key.window >= cache.max_tokens for key in shapes.keys.values())
        in_place = all(attend is not None for attend in cache.decode.values())
        return forward.replayable and plain and in_place and not shapes.states

    def forget(self) -> None:
        """The weights, or where the cache is, may have changed: what was recorded is not to be replayed again."""
        self._graphs.clear()
        self._uses.clear()

    def logits(self, work: Sequence[PassItem]) -> Tensor | None:
        """[items, vocabulary] of a pass, valid until the next one; None where it has to be computed.

        Must be called in the engine's computing thread, in inference mode.
        """
        if self._broken or not all(_is_plain(item) for item in work):
            return None
        size = _Size.of(work)
        self._uses[size] += 1
        if self._uses[size] <= USES_BEFORE or not self._pays.get(size, True):
            return None
        graph = self._graphs.get(size)
        if graph is None:
            graph = self._recorded(size, work)
            if graph is None:
                return None
        else:
            graph.places.fill(work, self._spare_page)
            graph.recording.replay()
        return graph.logits[: len(work)]

    def _recorded(self, size: _Size, work: Sequence[PassItem]) -> _Graph | None:
        """A graph of this size that has been replayed for these items; None where there is to be none."""
        places = _Places(size, self._forward.device)
        places.fill(work, self._spare_page)
        compute = functools.partial(self._compute, places)
        try:
            # Kernels are compiled, and libraries take their memory, before anything is recorded.
            expected = compute()
            if not bool(expected.isfinite().all()):
                return None
            recording, logits = self._record(compute)
            recording.replay()
            right = bool((logits - expected).abs().max() <= ROUNDING * expected.abs().max())
            if right and size not in self._pays:
                replaying, computing = self._seconds(recording.replay), self._seconds(compute)
                self._pays[size] = replaying < computing
        except RuntimeError as error:
            reason = "there is no memory for them" if is_out_of_memory(error) else str(error)
            return self._give_up(reason)
        if not right:
            return self._give_up("a replayed pass gives other numbers")
        if not self._pays[size]:
            logger.info("a pass of %s is computed: it takes no longer than replaying it", size)
            return None
        self._graphs[size] = _Graph(places, recording, logits)
        return self._graphs[size]

    def _compute(self, places: _Places) -> Tensor:
        every = torch.arange(len(places.token_ids), device=self._forward.device)
        return self._forward(places.token_ids, places.positions, every, _DecodePlan(self._cache, places))

    def _seconds(self, run: Callable[[], object]) -> float:
        self._record.wait()
        started = time.perf_counter()
        for _ in range(REPETITIONS):
            run()
        self._record.wait()
        return time.perf_counter() - started

    def _give_up(self, why: str) -> None:
        logger.warning("generation goes on without CUDA graphs, which is slower: %s", why)
        self._broken = True
        self.forget()


def _is_plain(item: PassItem) -> bool:
    """One token of a sequence of the model alone, to sample after it."""
    return item.length == 1 and item.offset > 0 and item.samples and item.sequence.adapter is None


def _power_of_2(number: int) -> int:
    return 1 << (number - 1).bit_length()
