"""The systemd unit is one, and starts what there is."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import run_here
from tests.docs.markdown import ROOT

UNIT = (ROOT / "deploy/agentrft.service").read_text()


def test_its_command_is_one_that_parses_and_keeps_its_data_where_the_service_may_write() -> None:
    (command,) = re.findall(r"^ExecStart=(.+)$", UNIT, re.MULTILINE)
    program, *arguments = command.split()
    assert program == "/opt/agentrft/bin/agentrft"
    assert run_here(*arguments, "--help").code == 0
    assert arguments[arguments.index("--data-dir") + 1] == "/var/lib/agentrft"
    assert "\nStateDirectory=agentrft\n" in UNIT


def test_it_is_given_more_time_to_stop_than_the_server_takes() -> None:
    from agentrft.server.serve import GRACE_S

    (seconds,) = re.findall(r"^TimeoutStopSec=(\d+)$", UNIT, re.MULTILINE)
    assert int(seconds) > 2 * GRACE_S


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="the unit is checked by systemd, which agentrft does not need"
)
def test_systemd_finds_no_fault_in_it(tmp_path: Path) -> None:
    unit = tmp_path / "agentrft.service"
    # The program of the unit is not installed where tests run.
    unit.write_text(UNIT.replace("/opt/agentrft/bin/agentrft", shutil.which("true") or "/bin/true"))
    told = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True)
    faults = [line for line in told.stderr.splitlines() if "agentrft" in line]
    assert faults == []
    assert told.returncode == 0, told.stderr
