"""Programs that use hosted fine-tuning's API as published notebooks, scripts and dashboards do, with only
OPENAI_BASE_URL changed, in an environment that has the SDK and nothing of ours.

`make test` runs them with the SDK that is installed, on SQLite; `make test-clients` with the newest and an old one, on
SQLite and PostgreSQL. The programs of one SDK share a server, and the model that the first of them trains.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.clients import sdk
from tests.clients.checks import PROGRAMS, all_checks
from tests.clients.endpoints import endpoints
from tests.server.live import Live

pytestmark = pytest.mark.skipif(
    shutil.which("bwrap") is None, reason="there is no bubblewrap; scripts/system.sh installs it"
)
# What a notebook calls its model; the server has weights for that name.
MODEL = "o4-mini-2025-04-16"
TIMEOUT_S = 900
CHECKS = [one.id for one in all_checks() if sdk.LONG or not one.takes_long]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Live]:
    data_dir = tmp_path_factory.mktemp("clients") / "data"
    data_dir.mkdir()
    (data_dir / "models.yaml").write_text(yaml.safe_dump({MODEL: str(tiny_model)}))
    started = Live(data_dir, ["--max-running-jobs", "2"])
    try:
        yield started.start()
    finally:
        started.stop()


@pytest.fixture(scope="module")
def outcomes(server: Live) -> Callable[[str], dict[str, Any]]:
    """What each check of the programs came to in an environment, by the check's id."""

    @cache
    def run(name: str) -> dict[str, Any]:
        given = {"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "unused", "PYTHONPATH": str(sdk.ROOT)}
        with endpoints() as url:
            world = {"model": MODEL, "endpoints": url, "seed": sdk.NAMES.index(name), "long": sdk.LONG}
            ended = subprocess.run(
                [sdk.python_of(name), "-m", "tests.clients.run", json.dumps(world)],
                env={"PATH": os.environ["PATH"], **given},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
            )
        assert ended.returncode == 0, ended.stderr
        found = {one["id"]: one for one in map(json.loads, ended.stdout.splitlines())}
        tell(name, found)
        return found

    return run


def tell(name: str, found: dict[str, Any]) -> None:
    """One line for each program, for whoever looks with `-s`."""
    database = "PostgreSQL" if os.environ.get("AGENTRFT_TEST_DATABASE") else "SQLite"
    print(f"\nopenai {sdk.version_of(name)} on {database}")
    for program in PROGRAMS:
        of_it = [one for id, one in found.items() if id.startswith(f"{program}-")]
        passed, seconds = sum(one["error"] is None for one in of_it), sum(one["seconds"] for one in of_it)
        print(f"  {program:15} {passed} of {len(of_it)} checks, {seconds:.0f} s")


@pytest.mark.parametrize("sdk_name", sdk.NAMES)
@pytest.mark.parametrize("check", CHECKS)
def test_a_client_finds_what_it_expects(outcomes: Callable[[str], dict[str, Any]], sdk_name: str, check: str) -> None:
    error = outcomes(sdk_name)[check]["error"]
    assert error is None, f"with openai {sdk.version_of(sdk_name)}:\n{error}"
