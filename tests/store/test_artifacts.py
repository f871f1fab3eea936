from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agentrft.errors import UserError
from agentrft.graders.base import Grade
from agentrft.rollout.record import Rollout, ToolCallRecord, Turn
from agentrft.store import read_rollouts, rollout_row, write_rollouts


def _graded() -> Rollout:
    call = ToolCallRecord("call_1", "search", '{"query": "é"}', "two hits", "ok", 0.25, 1)
    return Rollout(
        trace_id="trace_1",
        attempt=0,
        sample_id="00001-ab",
        step=3,
        index=5,
        outcome="graded",
        turns=[
            Turn([1, 2], [3, 4, 5], [-0.1, -0.2, -0.30000000000000004], "stop", 3, tool_calls=[call, call]),
            Turn([6], [7], [-1.5], "stop", 3),
        ],
        messages=[{"role": "user", "content": "naïve 🙂"}],
        output_text="E11.9",
        grade=Grade(0.5, {"code": 0.5}, "near"),
        reward=0.75,
        latency_s=2.5,
    )


def _failed() -> Rollout:
    return Rollout("trace_2", 1, "00002-cd", 3, 0, "infra_failed", [], [], failure_kind="tool:timeout")


def test_rollouts_come_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [rollout_row(rollout.as_dict(), phase="train") for rollout in (_graded(), _failed())]
    path = tmp_path / "rollouts" / "train-0003.parquet"
    write_rollouts(path, rows)
    assert read_rollouts(path) == rows
    assert [Rollout.from_dict(row["record"]) for row in read_rollouts(path)] == [_graded(), _failed()]


def test_the_columns_can_be_read_without_the_records(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.parquet"
    write_rollouts(path, [rollout_row(rollout.as_dict(), phase="validation") for rollout in (_graded(), _failed())])
    columns = ["phase", "outcome", "reward", "score", "tool_calls", "sampled_tokens", "failure_kind"]
    assert pq.read_table(path, columns=columns).to_pylist() == [
        dict(zip(columns, ["validation", "graded", 0.75, 0.5, 2, 4, None], strict=True)),
        dict(zip(columns, ["validation", "infra_failed", None, None, 0, 0, "tool:timeout"], strict=True)),
    ]


def test_no_rollouts_make_an_empty_file_with_the_same_columns(tmp_path: Path) -> None:
    write_rollouts(tmp_path / "none.parquet", [])
    assert read_rollouts(tmp_path / "none.parquet") == []
    assert "record" in pq.read_schema(tmp_path / "none.parquet").names


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.parquet"
    rows = [rollout_row(_graded().as_dict(), phase="train")]
    write_rollouts(path, rows)
    with pytest.raises(TypeError):
        write_rollouts(path, [{**rows[0], "record": {"not JSON": object()}}])
    assert read_rollouts(path) == rows
    assert [file.name for file in tmp_path.iterdir()] == ["rollouts.parquet"]


def test_rollouts_can_be_written_to_a_url() -> None:
    rows = [rollout_row(_graded().as_dict(), phase="train")]
    write_rollouts("memory://bucket/run/rollouts.parquet", rows)
    assert read_rollouts("memory://bucket/run/rollouts.parquet") == rows


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no Parquet at all"])
def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rollouts.parquet"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no Parquet file"):
        read_rollouts(path)


@pytest.mark.parametrize("record", [None, "[1]", "{bad", '{"turns": []}'])
def test_a_row_without_a_record_is_named(tmp_path: Path, record: str | None) -> None:
    path = tmp_path / "rollouts.parquet"
    pq.write_table(pa.table({"record": pa.array([record], pa.string())}), path)
    with pytest.raises(UserError, match="row 0: no record of a rollout"):
        read_rollouts(path)
