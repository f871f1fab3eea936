"""What holds for every test."""

import logging

import pytest


@pytest.fixture(autouse=True)
def log_levels_of_their_own() -> None:
    """Commands set the package's log level for their process, which here is that of all tests."""
    logging.getLogger("agentrft").setLevel(logging.NOTSET)
