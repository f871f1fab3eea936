"""The KV cache never takes more than it may, and updates make do with what there is."""

import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrft.errors import UserError
from agentrft.job import NoProgress, Stop, create_job, run_job
from agentrft.job.memory_budget import MB, slots_within
from agentrft.job.runtime import Runtime
from agentrft.models.packed import PackedModel
from agentrft.spec import load_job
from tests.job.tiny_job import write_job
from tests.traffic.chaos_server import ChaosServer

URL = "http://127.0.0.1:9/"


def test_as_many_rollouts_run_at_once_as_the_budget_holds(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert slots_within(budget=100 * MB, slot_bytes=MB, least=1, wanted=64) == 64
    assert not caplog.text
    assert slots_within(budget=10 * MB, slot_bytes=MB, least=1, wanted=64) == 10
    assert "10 rollouts at once, not 64" in caplog.text


def test_a_budget_that_holds_not_even_one_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(UserError, match=r"16 rollout\(s\) at once take 32 MB .* 31 MB are allowed") as raised:
        slots_within(budget=31 * MB, slot_bytes=2 * MB, least=16, wanted=64)
    assert "max_context_tokens" in str(raised.value.remedy)


async def test_a_job_allocates_no_more_than_its_budget(tiny_model: Path, tmp_path: Path) -> None:
    path = write_job(tmp_path, tiny_model, URL, engine={"kv_cache_mb": 2, "max_concurrent_rollouts": 64})
    runtime = Runtime(load_job(path))
    try:
        cache = runtime.engine._cache
        assert 1.5 * MB < sum(tensor.nbytes for tensor in (*cache.keys.values(), *cache.values.values())) <= 2 * MB
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
