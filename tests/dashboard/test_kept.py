"""What the pages keep of a job, and when it is made again: facts, findings, choices, comparisons, tokenizers."""

import json
import os
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from agentrft.dashboard.facts_files import Setting
from agentrft.dashboard.findings_file import NAME
from agentrft.dashboard.indexing import look_through
from agentrft.dashboard.runs import Runs
from agentrft.dashboard.standalone import own_pages
from agentrft.dashboard.step_files import step_files
from agentrft.dashboard.token_texts import token_texts
from agentrft.dashboard.views import data
from agentrft.store import JobStore
from agentrft.store.layout import TRAIN, rollouts_file
from tests.dashboard.conftest import Planted
from tests.dashboard.stored_runs import planted_runs, until_looked_through
from tests.dashboard.test_pages import TABS, rollout_ids


@pytest.mark.parametrize("damage", [b"", b"PAR1 no more", None])
def test_facts_that_are_damaged_are_left_out_and_made_again(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    store, job_id = planted_runs(tmp_path / "runs", steps=3)
    folder = store.job_folder(job_id)
    runs = Runs(store)
    look_through(folder, Setting(["search"]), runs.facts_folder(folder))
    one = next(one for one in step_files(folder) if (one.phase, one.step) == (TRAIN, 2))
    whole = one.facts.read_bytes()
    # Also one whose end is whole, which says what is in it.
    one.facts.write_bytes(
        whole[:4] + b"x" * (len(whole) // 2) + whole[4 + len(whole) // 2 :] if damage is None else damage
    )
    one.mark(one.facts, one.state())
    (folder / "facts" / NAME).write_bytes(b"{")
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        for tab in TABS:
            assert client.get(f"/jobs/{job_id}{tab}").status_code == 200
        until_looked_through(client, job_id)
        assert client.get(f"/jobs/{job_id}/rollouts.json").json()["total"] == 3 * 64
        assert client.get(f"/jobs/{job_id}/why.json").json()["looked_at"] > 20
    assert "is made again" in caplog.text
    runs.close()
    store.close()


def test_a_step_whose_rollouts_are_damaged_later_says_so(tmp_path: Path) -> None:
    store, job_id = planted_runs(tmp_path / "runs", steps=2)
    trace_id = rollout_ids(store, job_id)[0]
    runs = Runs(store)
    look_through(store.job_folder(job_id), Setting(["search"]), runs.facts_folder(store.job_folder(job_id)))
    path = rollouts_file(store.job_folder(job_id), TRAIN, 1)
    state = path.stat().st_mtime_ns
    path.write_bytes(b"PAR1 no more")
    os.utime(path, ns=(state, state))
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        answer = client.get(f"/jobs/{job_id}/rollouts/{trace_id}")
    assert answer.status_code == 503 and "cannot be read" in answer.text and "Traceback" not in answer.text
    runs.close()
    store.close()


def test_choices_are_of_the_facts_as_they_are(planted: Planted) -> None:
    store, job_id = planted
    runs, folder = Runs(store), store.job_folder(job_id)
    look_through(folder, Setting(["search"]), runs.facts_folder(folder))
    offered = runs.job(job_id).choices
    assert runs.job(job_id).choices is offered
    one = step_files(store.job_folder(job_id))[0]
    one.facts.write_bytes(one.facts.read_bytes())
    one.mark(one.facts, one.state())
    assert runs.job(job_id).choices is not offered
    runs.close()


def test_rows_of_the_data_are_compared_once_for_as_long_as_the_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"what is the code of number {n} in the list of all"}]} for n in "ab"
    ]
    for name in ("train", "validation"):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {f"{name}_file": str(tmp_path / f"{name}.jsonl") for name in ("training", "validation")}
    files["training_file"] = str(tmp_path / "train.jsonl")
    looked: list[Path] = []
    whole = data._texts
    monkeypatch.setattr(data, "_texts", lambda path: (looked.append(path), whole(path))[1])
    with JobStore(tmp_path / "runs") as store:
        job_id = store.create_job({"job": files}, model="smollm2-135m", seed=0)
        runs = Runs(store)
        pairs = [len(data.data(runs.job(job_id))["duplicates"]["pairs"]) for _ in range(3)]
        assert pairs == [2, 2, 2] and len(looked) == 2
        (tmp_path / "validation.jsonl").write_text(json.dumps(rows[0]) + "\n")
        assert len(data.data(runs.job(job_id))["duplicates"]["pairs"]) == 1 and len(looked) == 4
        runs.close()


def test_a_tokenizer_that_comes_later_is_found(tmp_path: Path) -> None:
    assert token_texts(str(tmp_path), [1, 2]) is None
    (tmp_path / "config.json").write_text("{}")
    Tokenizer(WordLevel({"a": 1, "b": 2, "?": 0}, unk_token="?")).save(str(tmp_path / "tokenizer.json"))
    assert token_texts(str(tmp_path), [1, 2]) is not None


def test_behaviours_of_a_validation_rollout_lead_to_those_of_validations(client: TestClient, planted: Planted) -> None:
    row = client.get(f"/jobs/{planted[1]}/rollouts.json?phase=validation").json()["rollouts"][0]
    page = client.get(f"/jobs/{planted[1]}/rollouts/{row['trace_id']}")
    assert "?phase=validation&amp;behaviour=" in page.text and 'id="shade-advantage"' not in page.text
    assert row["advantage"] is None and row["left_out"] is None


def test_where_facts_may_not_be_written_they_go_with_the_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, job_id = planted_runs(tmp_path / "runs", steps=2)
    monkeypatch.setattr("agentrft.dashboard.runs.access", lambda path, mode: False)
    runs = Runs(store)
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        until_looked_through(client, job_id)
        assert client.get(f"/jobs/{job_id}/rollouts.json").json()["total"] == 2 * 64
    place = runs.facts_folder(store.job_folder(job_id))
    assert list(place.glob("*.parquet")) and not (store.job_folder(job_id) / "facts").exists()
    runs.close()
    assert not place.parent.exists()
    store.close()


def test_charts_that_cannot_be_drawn_are_told_in_words(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "file" / "cache"))
    answer = client.get("/static/vega.js")
    assert answer.status_code == 503 and "AGENTRFT_CACHE" in answer.text
