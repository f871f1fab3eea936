"""What holds for every test."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from agentrft.program import collect_less

if TYPE_CHECKING:
    from playwright.sync_api import Browser

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
def chromium() -> "Iterator[Browser]":
    """The browser of all tests of pages: Playwright can be started once in a process."""
    from playwright.sync_api import sync_playwright

    from tests.dashboard.browsing import CHROMIUM

    if CHROMIUM is None:
        pytest.skip("there is no Chromium; scripts/system.sh installs it")
    with sync_playwright() as playwright:
        flags = ["--disable-gpu", "--disable-background-networking", *(["--no-sandbox"] if os.getuid() == 0 else [])]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


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
