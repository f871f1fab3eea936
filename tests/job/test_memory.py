"""The KV cache never takes more than it may."""

import logging
from pathlib import Path

import pytest

from agentrft.errors import UserError
from agentrft.job.memory_budget import MB, slots_within
from agentrft.job.runtime import Runtime
from agentrft.spec import load_job
from tests.job.tiny_job import write_job

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
