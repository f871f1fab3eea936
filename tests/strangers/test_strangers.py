"""A few inputs through every door; `make test-strangers` sends 20,000 through each."""

from pathlib import Path

import pytest

from tests.strangers.api_doors import API_DOORS
from tests.strangers.doors import DOORS, Door
from tests.strangers.odd_documents import generated

INPUTS = 60


@pytest.mark.parametrize("door", [*DOORS, *API_DOORS], ids=lambda door: door.name)
def test_whatever_comes_in_is_taken_or_refused_in_words(door: Door, tmp_path: Path) -> None:
    faults = door.run(generated(door.inputs, INPUTS, at=7), tmp_path)
    assert not faults, "\n".join(faults[:3])
