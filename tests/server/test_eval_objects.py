"""A rollout as an output item."""

import json
from pathlib import Path
from typing import Any

from agentrft.graders import Grade
from agentrft.rollout import Rollout
from agentrft.server.objects.evals import item_object, samples_of
from tests.job.tiny_job import prompt

RUN: dict[str, Any] = {"id": "evalrun_1", "eval_id": "eval_1", "model": "ft:m", "created_at": 1000}
SHOTS = [*prompt("apple"), {"role": "assistant", "content": "red"}, *prompt("stone")]


def item(sample_id: str, folder: Path, **changes: Any) -> dict[str, Any]:
    messages = [*SHOTS, {"role": "assistant", "content": "grey"}]
    record = (
        Rollout(
            "trace_1", 1, sample_id, 0, 0, "graded", [], messages, grade=Grade(1.0), reward=1.0, started_at=900.5
        ).as_dict()
        | changes
    )
    return item_object(record, RUN, 1.0, samples_of(folder / "rows").get(sample_id))


def test_the_row_is_shown_whole_with_its_own_turns_as_the_prompt(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "lookup"}}]
    row = {"messages": SHOTS, "tools": tools, "word": "stone", "meta": {"n": [1]}}
    (tmp_path / "rows").write_text(json.dumps(row))
    (sample_id,) = samples_of(tmp_path / "rows")
    found = item(sample_id, tmp_path)
    assert found["datasource_item"] == {"sample_id": sample_id, **row}
    assert [one["content"] for one in found["sample"]["output"]] == ["grey"]
    assert (found["created_at"], found["status"], found["datasource_item_id"]) == (900, "pass", 1)


def test_without_its_file_a_row_is_its_prompt_and_an_older_record_has_the_time_of_its_run(
    tmp_path: Path,
) -> None:
    assert samples_of(None) == samples_of(tmp_path / "rows") == {}
    found = item("00001-abcdef01", tmp_path, started_at=0.0)
    assert found["datasource_item"] == {"sample_id": "00001-abcdef01", "messages": prompt("apple")}
    assert found["created_at"] == 1000
