"""The plans of published steps: three that it is held to, and all others as far as they went."""

from benchmarks.plan_public import FACTOR, compared
from benchmarks.public_runs import RUNS


def test_three_published_steps_are_planned_within_their_factor() -> None:
    rows = compared()
    main = [row for row in rows if row["main"]]
    assert len(main) == 3 and len(rows) == len(RUNS)
    assert all(row["within"] for row in main), main
    assert FACTOR == 1.5
    for row in rows:
        assert row["factor"] >= 1 and row["within"] == (row["factor"] <= FACTOR)
        assert row["source"] and row["measured_s"] > 0
