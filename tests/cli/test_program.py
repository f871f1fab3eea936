"""What agentrft's own processes do before they import anything, and what a library never does."""

import subprocess
import sys
from pathlib import Path

import pytest

from agentrft.program import NEW_OBJECTS
from tests.cli.commands import ENVIRONMENT

MODULE = """
import gc, sys
if __name__ == "__main__":
    print(gc.get_threshold()[0], sys.argv[1:])
"""
AT_THE_END = "import atexit, gc\natexit.register(lambda: print(gc.get_freeze_count() > 1000, flush=True))\n"


def lines(*arguments: str, folder: Path) -> list[str]:
    ran = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_a_module_runs_as_by_itself_with_less_collecting(tmp_path: Path) -> None:
    (tmp_path / "work.py").write_text(MODULE)
    assert lines("-m", "agentrft.program", "work", "--port", "0", folder=tmp_path) == [f"{NEW_OBJECTS} ['--port', '0']"]


def test_what_is_left_at_the_end_is_not_looked_through(tmp_path: Path) -> None:
    source = f"{AT_THE_END}from agentrft.program import collect_less\ncollect_less()"
    assert lines("-c", source, folder=tmp_path) == ["True"]


@pytest.mark.parametrize("module", ["agentrft", "agentrft.cli.main", "agentrft.cli.__main__", "agentrft.client"])
def test_an_import_leaves_the_garbage_collector_alone(module: str, tmp_path: Path) -> None:
    source = f"import gc\nbefore = gc.get_threshold()\nimport {module}\nprint(gc.get_threshold() == before)"
    assert lines("-c", source, folder=tmp_path) == ["True"]


def test_the_command_collects_less(tmp_path: Path) -> None:
    source = (
        "import gc, sys\nfrom agentrft.cli.__main__ import main\nsys.argv = ['agentrft', '--version']\n"
        "try:\n    main()\nfinally:\n    print(gc.get_threshold()[0])"
    )
    assert lines("-c", source, folder=tmp_path)[-1] == str(NEW_OBJECTS)
