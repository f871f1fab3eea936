"""The KV cache never takes more than it may, and updates make do with what there is."""

import json
import logging
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.engine.kv_cache import CacheSize, cache_within
from agentrft.errors import UserError
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.memory_budget import MB, cache_for
from agentrft.job.runtime import Runtime
from agentrft.models.cache_shapes import CacheShapes, KeyShape, StateShape
from agentrft.models.packed import PackedModel
from agentrft.spec import load_job
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer, ok

URL = "http://127.0.0.1:9/"


# A page of 64 tokens takes 64 kB of keys and as much of values.
SHAPES = CacheShapes({layer: KeyShape(4, 2, 32, 32) for layer in range(4)})
PAGE = 4 * 2 * (32 + 32) * 4 * 64
fitted = partial(cache_for, SHAPES, itemsize=4, wanted=64)


def test_all_rollouts_run_at_once_whatever_their_longest_context() -> None:
    for max_tokens in (64, 640, 6400):
        size = fitted(budget=100 * PAGE, max_tokens=max_tokens, least=1, in_full=False)
        assert size == CacheSize(sequences=64, pages=min(100, 64 * max_tokens // 64))


def test_a_deterministic_jobs_rollouts_fit_at_their_longest(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert fitted(budget=1000 * PAGE, max_tokens=640, least=16, in_full=True) == CacheSize(64, 640)
    assert not caplog.text
    assert fitted(budget=205 * PAGE, max_tokens=640, least=16, in_full=True) == CacheSize(20, 200)
    assert "20 rollouts at once, not 64" in caplog.text


def test_states_take_no_more_than_leaves_room_for_keys() -> None:
    states = [{("recurrent", 0): StateShape((PAGE // 2 // 4,), torch.float32)}]
    stateful = CacheShapes(SHAPES.keys, states)
    size = cache_for(stateful, budget=100 * PAGE, max_tokens=640, itemsize=4, least=1, wanted=64, in_full=False)
    # A rollout's states, live and kept, take as much as a page.
    assert size == CacheSize(sequences=50, pages=50)
    size = cache_for(stateful, budget=12 * PAGE, max_tokens=640, itemsize=4, least=1, wanted=64, in_full=False)
    assert size == CacheSize(sequences=2, pages=10)


def test_a_model_with_states_alone_takes_no_pages() -> None:
    states = [{("recurrent", 0): StateShape((1000,), torch.float32)}]
    size = cache_within(CacheShapes({}, states), budget=80_000, max_tokens=640, itemsize=4, wanted=64)
    assert size.sequences == 10


def test_a_budget_that_holds_not_even_one_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"16 rollout\(s\) at once take 21 MB .* 20 MB are allowed") as raised:
        fitted(budget=155 * PAGE, max_tokens=640, least=16, in_full=True)
    assert "max_context_tokens" in str(raised.value.remedy)


async def test_a_job_allocates_no_more_than_its_budget(tiny_model: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, tiny_model, URL, engine={"kv_cache_mb": 2, "max_concurrent_rollouts": 64})
    runtime = Runtime(load_job(path))
    try:
        cache = runtime.engine._cache
        assert 1.5 * MB < sum(tensor.nbytes for tensor in (*cache.keys.values(), *cache.values.values())) <= 2 * MB
        # What the engine has to say of it reaches whoever watches the job, and once.
        told: list[tuple[str, str]] = []
        runtime.notices.listen(lambda *event: told.append(event))
        for _ in range(2):
            runtime.engine._schedule._warn_of_full_cache()
        assert [level for level, text in told if "engine.kv_cache_mb" in text] == ["warning"]
    finally:
        await runtime.close()


async def test_an_update_that_memory_cannot_hold_at_once_is_told_and_goes_on_in_smaller_passes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trunk, failed = PackedModel.trunk, Counter[int]()

    def limited(self: PackedModel, ids: Tensor, *args: Any, **options: Any) -> Tensor:
        if torch.is_grad_enabled() and len(ids) > 200:
            failed[len(ids)] += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return trunk(self, ids, *args, **options)

    monkeypatch.setattr(PackedModel, "trunk", limited)
    async with ChaosServer() as server:
        path = write_job(tmp_path, tiny_model, server.url, hyperparameters={"batch_size": 2, "max_steps": 2})
        spec = load_job(path)
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    steps = [row for row in store.metrics(job_id) if row["phase"] == "train"]
    assert len(steps) == 2 and sum(failed.values()) > 0
    told = [event.message for event in store.events(job_id) if "ran out of memory" in event.message]
    assert told and all("tokens from now on" in message for message in told)
    # Whoever optimizes the policy later begins with what is known.
    assert steps[1]["passes_halved"] == 0


async def test_64_rollouts_run_at_once_where_their_longest_contexts_would_leave_room_for_two(
    tiny_model: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 32768}))
    hyperparameters = {"batch_size": 4, "compute_multiplier": 2, "max_steps": 1, "max_context_tokens": 32768}
    async with ChaosServer(default=ok(delay_s=2)) as server:
        path = write_job(
            tmp_path,
            model,
            server.url,
            hyperparameters=hyperparameters,
            tool={"max_concurrency": 64},
            warm_start=None,
            engine={"kv_cache_mb": 32},
        )
        spec = load_job(path)
        store, job_id = create_job(spec)
        await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    (step,) = (row for row in store.metrics(job_id) if row["phase"] == "train")
    assert step["rollouts"] == 64
    # Most call their tool, which takes its time: what called it is open at once.
    assert server.max_in_flight > 32
    assert not [event.message for event in store.events(job_id) if "engine.kv_cache_mb" in event.message]
