"""Prices: what is built in, what a file changes, and what no file may say."""

from pathlib import Path

import pytest

from agentrft.errors import UserError
from agentrft.models.gpus import GPUS
from agentrft.planning.prices import BUILT_IN, load_prices


def written(folder: Path, text: str) -> Path:
    path = folder / "prices.yaml"
    path.write_text(text)
    return path


def test_every_gpu_has_a_price_and_this_machine_costs_nothing() -> None:
    assert set(BUILT_IN.gpu_hour) == {*GPUS, "this machine"} and BUILT_IN.gpu_hour["this machine"] == 0
    assert load_prices(None) is BUILT_IN


def test_a_file_replaces_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    text = "date: today\ngpu_hour: {h100: 1.5}\njudges:\n  judge-1: {input: 2, output: 8}\n"
    prices = load_prices(written(tmp_path, text))
    assert (prices.date, prices.gpu_hour["h100"]) == ("today", 1.5)
    assert prices.gpu_hour["h200"] == BUILT_IN.gpu_hour["h200"]
    # Dollars for a million tokens.
    assert prices.of_judge("judge-1", 1_000_000, 500_000) == pytest.approx(2 + 4)
    assert prices.of_judge("judge-2", 1, 1) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "must be a mapping"),
        ("- 1", "must be a mapping"),
        ("gpus: {h100: 1}", "unknown field 'gpus'"),
        ("gpu_hour: 3", "'gpu_hour' must be a mapping"),
        ("gpu_hour: {h100: -1}", "must be a number of dollars"),
        ("gpu_hour: {h100: .nan}", "finite|number"),
        ("gpu_hour: {h100: cheap}", "must be a number of dollars"),
        ("gpu_hour: {h100: true}", "must be a number of dollars"),
        ("judges: {j: {input: 1}}", "input and output, both"),
        ("judges: {j: 3}", "input and output, both"),
    ],
)
def test_odd_prices_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        load_prices(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no file"):
        load_prices(tmp_path / "none.yaml")
