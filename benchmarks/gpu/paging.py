"""Attention of single tokens over pages where they stand, against grouped products over gathered pages: one layer."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from agentrft.engine.kv_cache import KVCache
from agentrft.engine.pages import pages_of
from agentrft.engine.pass_plan import Chunk, SingleTokens
from agentrft.models.attention import PLAIN
from agentrft.models.cache_shapes import CacheShapes, KeyShape
from benchmarks.gpu.facts import copy_rate
from benchmarks.gpu.findings import Findings, Setting
from benchmarks.gpu.models import shape

REPETITIONS = 20
# Of the results, in the type that is measured, relative to their largest number.
ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 2e-2}


@dataclass(frozen=True)
class Load:
    sequences: int
    context: int


LOADS = [Load(64, 1024), Load(64, 8192), Load(4, 8192)]
SMALL = [Load(8, 128), Load(2, 1024)]


def run(setting: Setting, findings: Findings) -> None:
    """All loads, at the heads of the setting's model."""
    assert setting.model is not None
    config = shape(setting.model)
    heads = KeyShape(config.num_attention_heads, config.num_key_value_heads, config.head_dim, config.head_dim)
    bandwidth = copy_rate(setting)
    for load in SMALL if setting.small else LOADS:
        _measure(load, heads, bandwidth, setting, findings)


def _measure(load: Load, heads: KeyShape, bandwidth: float, setting: Setting, findings: Findings) -> None:
    name, each = f"{load.sequences} x {load.context}", pages_of(load.context)
    cache = KVCache(
        CacheShapes({0: heads}),
        pages=load.sequences * each,
        max_tokens=load.context,
        dtype=setting.dtype,
        device=setting.device,
    )
    keys, values, in_place = cache.keys[0], cache.values[0], cache.decode[0]
    for part in (keys, values):
        part.normal_()
    pages = list(range(load.sequences * each))
    random.Random(0).shuffle(pages)
    tables = [pages[row * each : (row + 1) * each] for row in range(load.sequences)]
    chunks = [Chunk(row, row, 1, load.context - 1, table) for row, table in enumerate(tables)]
    table = torch.tensor(tables, device=setting.device)
    lengths = torch.full((load.sequences,), load.context, device=setting.device)
    query = torch.randn(load.sequences, heads.heads, heads.key_dim, device=setting.device).to(setting.dtype)
    scaling = heads.key_dim**-0.5
    gathering = SingleTokens(chunks, table, 1 if setting.device.type == "cpu" else each)
    ways: dict[str, Callable[[], Tensor]] = {
        "gathered": lambda: gathering.attend(query.transpose(0, 1), keys, values, scaling, PLAIN)
    }
    if in_place is not None:
        ways["in_place"] = lambda: in_place(query, keys, values, table, lengths, scaling)
    # What is read at least: every key and value once.
    size = 2 * load.sequences * load.context * heads.kv_heads * heads.key_dim * setting.dtype.itemsize
    results = {}
    for way, attend in ways.items():
        results[way] = attend()
        seconds = _best(attend, setting)
        share = size / seconds / bandwidth
        findings.note(**{name: {f"{way}_ms": 1000 * seconds, f"{way}_share_of_bandwidth": share}})
    if "in_place" not in results:
        # A CPU without a compiler is what it is; a GPU without Triton is not as it should be.
        if setting.device.type == "cuda":
            findings.fail(f"{name}: attention in place", RuntimeError("there is no kernel for it here"))
        return
    found, expected = (results[way].float() for way in ("in_place", "gathered"))
    error = float((found - expected).abs().max() / expected.abs().max())
    findings.check(f"{name}: difference of the two, relative", error, at_most=ROUNDING[setting.dtype])


def _best(attend: Callable[[], Tensor], setting: Setting) -> float:
    best = float("inf")
    for _ in range(3 if setting.small else REPETITIONS):
        setting.wait()
        started = time.perf_counter()
        attend()
        setting.wait()
        best = min(best, time.perf_counter() - started)
    return best
