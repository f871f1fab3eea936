"""What changed between two models on the same samples, kept as JSON and told as a table."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentrft.rollout import Rollout
from agentrft.rollout.record import Turn
from examples.common import tables
from examples.common.measuring import changes
from examples.common.system import Measure, System, Values


def length(rollout: Rollout, item: Mapping[str, Any]) -> Values:
    return {"length": len(rollout.output_text) - item["extra"], "seconds": rollout.latency_s, "never": None}


LENGTH, SECONDS = Measure("length", "length of answers", "lower"), Measure("seconds", "seconds", "lower", "median")
NEVER = Measure("never", "never measured", "lower")
SYSTEM = System("toy", "toy_key", "A toy", lambda out, seed, difficulty: None, length, (LENGTH, SECONDS, NEVER))
ITEMS = {"a": {"extra": 0}, "b": {"extra": 1}, "c": {"extra": 0}}


def rollout(sample: str, answer: str, seconds: float = 1.0, outcome: Any = "graded") -> Rollout:
    turns = [Turn([1], [2], [0.0], "stop", 0)]
    reward = None if outcome == "infra_failed" else 0.5
    return Rollout("trace_1", 1, sample, 0, 0, outcome, turns, [], output_text=answer, reward=reward, latency_s=seconds)


def test_a_change_is_paired_by_sample() -> None:
    before = [rollout("a", "1234"), rollout("a", "12"), rollout("b", "12345"), rollout("c", "1234")]
    after = [rollout("a", "12"), rollout("b", "1234"), rollout("c", "1"), rollout("c", "", outcome="infra_failed")]
    found = changes(SYSTEM, before, after, ITEMS)["length"]
    assert (found.before, found.after, found.samples) == (pytest.approx(11 / 3), 2.0, 3)
    assert found.low is not None and found.high is not None
    assert found.low < 2.0 - 11 / 3 < found.high


def test_a_sample_that_one_of_them_lacks_is_left_out() -> None:
    found = changes(SYSTEM, [rollout("a", "1"), rollout("b", "123456")], [rollout("a", "123")], ITEMS)["length"]
    assert (found.before, found.after, found.low, found.samples) == (1.0, 3.0, None, 1)


def test_slow_is_what_takes_longer_than_nine_of_ten_did_before() -> None:
    before = [rollout("a", "1", seconds) for seconds in range(1, 101)]
    after = [rollout("a", "1", seconds / 2) for seconds in range(1, 101)]
    found = changes(SYSTEM, before, after, ITEMS)
    assert (found["slow"].before, found["slow"].after) == (pytest.approx(0.1, abs=0.011), 0.0)
    assert (found["seconds"].before, found["seconds"].after) == (50.5, 25.25)


def test_results_are_kept_and_told_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("examples.common.system.ROOT", tmp_path)
    SYSTEM.folder.mkdir(parents=True)
    found = changes(SYSTEM, [rollout("a", "123"), rollout("c", "1")], [rollout("a", "1"), rollout("c", "1")], ITEMS)
    result = {"changes": {name: change.as_dict() for name, change in found.items()}}
    for seed in (10, 0):
        tables.keep(SYSTEM, seed, result)
    page = tmp_path / "page.md"
    page.write_text(f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n", encoding="utf-8")
    tables.write_table(page, [SYSTEM])
    text = page.read_text(encoding="utf-8")
    assert text.startswith("above\n") and text.endswith("below\n") and "old" not in text
    assert "| | seed 0 | seed 10 |" in text
    assert text.count("2.00 → 1.00 (-") == 2
    assert "| never measured |  |  |" in text
    tables.write_table(page, [SYSTEM])
    assert page.read_text(encoding="utf-8") == text
    assert tables.summary(SYSTEM, result)["trained"] == 1.0
    with pytest.raises(ValueError, match="has no"):
        tables.write_table(Path(__file__), [])
