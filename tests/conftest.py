"""What holds for every test."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from agentrft.program import collect_less

collect_less()
# How long something takes says nothing here: other tests have the cores as well. The same inputs each time, so that a
# failure is that of a change; `make test-fuzz` and `make test-strangers` take new ones.
settings.register_profile(
    "beside others",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="AGENTRFT_FUZZ_EXAMPLES" not in os.environ,
)
settings.load_profile("beside others")


@pytest.fixture(autouse=True)
def log_levels_of_their_own() -> None:
    """Commands set the package's log level for their process, which here is that of all tests."""
    logging.getLogger("agentrft").setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that calls its tool, trained once for all tests that run whole jobs."""
    # Here, because it imports torch, which most tests do without.
    from tests.job.tiny_job import make_model, one_thread

    with one_thread():
        return make_model(tmp_path_factory.mktemp("tiny-model"))


@pytest.fixture(scope="session")
def thinking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model that thinks before it calls and answers, unless its template is told otherwise."""
    from tests.job.thinking_model import make_thinking_model
    from tests.job.tiny_job import one_thread

    with one_thread():
        return make_thinking_model(tmp_path_factory.mktemp("thinking-model"))
