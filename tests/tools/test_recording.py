"""A folder that calls cannot be recorded in is refused before any is made."""

from pathlib import Path

import pytest

from agentrft.errors import UserError
from agentrft.spec import PythonToolSpec
from agentrft.tools import create_toolbox


def shout(word: str) -> str:
    """Say it loudly."""
    return word.upper()


@pytest.mark.parametrize("folder", ["/dev/null", "/dev/null/calls", "/proc/calls", "x" * 5000])
def test_a_folder_that_cannot_be_made_is_refused_with_the_tools_name(folder: str) -> None:
    with pytest.raises(UserError, match="tool 'shout': record: "):
        create_toolbox([PythonToolSpec(type="python", function=f"{__name__}:shout", record=Path(folder))])


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "calls").write_text("")
    with pytest.raises(UserError, match="tool 'shout': record: "):
        create_toolbox([PythonToolSpec(type="python", function=f"{__name__}:shout", record=tmp_path / "calls")])
