"""Whole jobs here are as small as those of tests/job."""

from collections.abc import Iterator

import pytest

from tests.job.tiny_job import one_thread


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    with one_thread():
        yield
