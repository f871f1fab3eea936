"""What the pages answer, as data and as HTML, without a browser."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from agentrft.dashboard import queries
from agentrft.dashboard.facts_files import Setting, make_missing
from agentrft.dashboard.indexing import look_through
from agentrft.dashboard.queries import Filter
from agentrft.dashboard.runs import Runs
from agentrft.dashboard.standalone import own_pages, runs_of
from agentrft.dashboard.step_files import step_files
from agentrft.store import JobStore, read_rollouts, write_rollouts
from agentrft.store.artifacts import read_rollout
from agentrft.store.layout import TRAIN, rollouts_file
from tests.dashboard.conftest import Planted
from tests.dashboard.stored_runs import planted_runs, stored_job

TABS = ("", "/groups", "/rollouts", "/why", "/compare", "/data", "/tools")


def rows_of(planted: Planted, step: int | None = None) -> list[dict[str, Any]]:
    store, job_id = planted
    steps = range(1, 7) if step is None else [step]
    return [row for one in steps for row in read_rollouts(rollouts_file(store.job_folder(job_id), TRAIN, one))]


@pytest.mark.parametrize("tab", TABS)
def test_every_page_has_its_data_at_the_same_address(client: TestClient, planted: Planted, tab: str) -> None:
    path = f"/jobs/{planted[1]}{tab}"
    page, data = client.get(path), client.get(f"{path}.json")
    assert page.status_code == data.status_code == 200
    assert page.headers["content-type"].startswith("text/html") and data.headers["content-type"] == "application/json"
    assert f'href="{path}.json"' in page.text
    json.loads(data.text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_jobs_are_listed_and_an_empty_folder_says_how_to_start(client: TestClient, empty: TestClient) -> None:
    (job,) = client.get("/index.json").json()["jobs"]
    assert job["status"] == "succeeded" and job["step"] == job["total_steps"] == 6 and job["rollouts"] == 8 * 64
    assert "agentrft train job.yaml" in empty.get("/").text
    assert empty.get("/index.json").json() == {"jobs": []}


@pytest.mark.parametrize(
    "path", ["/jobs/ftjob-none", "/jobs/{}/nothing", "/jobs/{}/rollouts/trace_none", "/static/x.js"]
)
def test_what_is_not_there_is_404(client: TestClient, planted: Planted, path: str) -> None:
    assert client.get(path.format(planted[1])).status_code == 404


def test_the_step_that_is_asked_for_is_shown_with_its_change_since_the_first(
    client: TestClient, planted: Planted
) -> None:
    shown = client.get(f"/jobs/{planted[1]}.json?step=3").json()
    rewards = {row["step"]: row["reward_mean"] for row in planted[0].metrics(planted[1]) if row["phase"] == TRAIN}
    tile = next(one for one in shown["tiles"] if one["name"] == "reward_mean")
    assert shown["shown_step"] == 3
    assert tile["value"] == rewards[3] and tile["change"] == pytest.approx(rewards[3] - rewards[1])


@pytest.mark.parametrize(
    ("query", "fits"),
    [
        ("step=2", lambda row: row["step"] == 2),
        ("low=0.5&high=0.5", lambda row: row["reward"] == 0.5),
        ("sample=s4-1", lambda row: row["sample_id"] == "s4-1"),
        ("outcome=graded", lambda row: row["outcome"] == "graded"),
        ("outcome=infra_failed", lambda row: False),
        ("tool=search", lambda row: row["tool_calls"] > 0),
        ("text=CERTIFIED+expert", lambda row: "certified expert" in row["output_text"].lower()),
        ("behaviour=uses+bold+text", lambda row: "**" in row["output_text"]),
        ("lacks=uses+bold+text", lambda row: "**" not in row["output_text"]),
    ],
)
def test_filters_give_what_the_jobs_own_files_give(client: TestClient, planted: Planted, query: str, fits: Any) -> None:
    found = client.get(f"/jobs/{planted[1]}/rollouts.json?{query}").json()
    wanted = {row["trace_id"] for row in rows_of(planted) if fits(row)}
    seen = {row["trace_id"] for row in found["rollouts"]}
    for page in range(2, found["pages"] + 1):
        seen |= {
            row["trace_id"]
            for row in client.get(f"/jobs/{planted[1]}/rollouts.json?{query}&page={page}").json()["rollouts"]
        }
    assert found["total"] == len(wanted) and seen == wanted


@pytest.mark.parametrize("sort", ["reward", "tokens", "advantage", "calls", "latency"])
@pytest.mark.parametrize("order", ["asc", "desc"])
def test_rollouts_are_sorted(client: TestClient, planted: Planted, sort: str, order: str) -> None:
    rows = client.get(f"/jobs/{planted[1]}/rollouts.json?sort={sort}&order={order}").json()["rollouts"]
    column = {"tokens": "sampled_tokens", "latency": "latency_s"}.get(sort, sort)
    values = [row[column] for row in rows]
    assert values == sorted(values, reverse=order == "desc")


@pytest.mark.parametrize("query", ["low=x", "step=-1", "page=0", "page=99999999999"])
def test_what_is_no_number_is_refused(client: TestClient, planted: Planted, query: str) -> None:
    assert client.get(f"/jobs/{planted[1]}/rollouts?{query}").status_code in (400, 422)


@pytest.mark.parametrize("text", ["'; DROP TABLE x; --", "%", "<script>alert(1)</script>", "\u202e", "a" * 5000])
def test_text_from_outside_is_a_value_and_never_code(client: TestClient, planted: Planted, text: str) -> None:
    page = client.get(f"/jobs/{planted[1]}/rollouts", params={"text": text, "sample": text, "behaviour": text})
    assert page.status_code == 200 and "<script>alert" not in page.text
    assert client.get(f"/jobs/{planted[1]}/rollouts.json").json()["total"] == 6 * 64


def test_a_group_shows_what_the_update_left_out_and_why(client: TestClient, planted: Planted) -> None:
    groups = client.get(f"/jobs/{planted[1]}/groups.json").json()["groups"]
    for group in groups:
        rewards = {one["reward"] for one in group["rollouts"]}
        assert ("alike" in group["left_out"]) == (len(rewards) == 1)


def test_a_rollout_is_shown_token_by_token_with_its_groups_tree(client: TestClient, planted: Planted) -> None:
    store, job_id = planted
    row = rows_of(planted, 2)[5]
    found = client.get(f"/jobs/{job_id}/rollouts/{row['trace_id']}.json").json()
    record = read_rollout(rollouts_file(store.job_folder(job_id), TRAIN, 2), row["trace_id"])
    assert record is not None
    sampled = [[token["id"] for token in turn["tokens"]] for turn in found["turns"]]
    assert sampled == [turn["sampled_ids"] for turn in record["turns"]]
    siblings = [one["record"] for one in rows_of(planted, 2) if one["sample_id"] == row["sample_id"]]
    total = sum(len(turn["prompt_ids"]) + len(turn["sampled_ids"]) for one in siblings for turn in one["turns"])
    assert found["tree"]["total_tokens"] == total and found["tree"]["unique_tokens"] < total / 2
    assert {one["trace_id"] for one in found["tree"]["ends"]} == {one["trace_id"] for one in siblings}
    assert client.get(f"/jobs/{job_id}/rollouts/{row['trace_id']}").status_code == 200


def test_why_names_what_the_grader_pays_for_and_shows_rollouts_before_and_after(
    client: TestClient, planted: Planted
) -> None:
    found = client.get(f"/jobs/{planted[1]}/why.json?behaviour=uses+bold+text").json()
    assert found["reinforced"][0]["name"] == "uses bold text"
    assert [one["name"] for one in found["suspects"]] == ["uses bold text"]
    assert all("**" not in one["answer"] for one in found["chosen"]["rollouts_before"])
    assert all("**" in one["answer"] for one in found["chosen"]["rollouts_after"])
    shares = [one["value"] for one in found["chosen"]["course"] if one["series"] == "share"]
    bold = [sum("**" in row["output_text"] for row in rows_of(planted, step)) / 64 for step in range(1, 7)]
    assert shares == pytest.approx(bold)


def test_compare_counts_wins_and_losses_on_the_same_samples(client: TestClient, planted: Planted) -> None:
    found = client.get(f"/jobs/{planted[1]}/compare.json?phase=validation").json()
    assert found["a"]["step"] == 0 and found["b"]["step"] == 6
    assert found["wins"] + found["losses"] + found["ties"] == found["samples"] == 8
    assert found["rollouts_per_sample"][0] == found["rollouts_per_sample"][1] > 1
    reward = found["measures"][0]
    assert reward["low"] < reward["difference"] < reward["high"]


def test_pages_load_nothing_from_elsewhere_and_stand_in_no_frame(client: TestClient, planted: Planted) -> None:
    page = client.get(f"/jobs/{planted[1]}")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page.text)


def test_a_page_by_another_hosts_name_is_refused(client: TestClient) -> None:
    assert client.get("/", headers={"Host": "evil.example"}).status_code == 400


def test_facts_are_made_anew_where_the_rollouts_changed(planted: Planted) -> None:
    store, job_id = planted
    one = step_files(store.job_folder(job_id))[0]
    state = one.state()
    assert one.is_ready
    os.utime(one.source, ns=(state + 10**9, state + 10**9))
    assert not one.is_ready
    one.mark(one.source, state)
    assert one.is_ready


def test_a_step_that_cannot_be_read_is_left_out_once_and_the_others_are_there(tmp_path: Path) -> None:
    store, job_id = planted_runs(tmp_path / "runs", steps=3)
    folder = store.job_folder(job_id)
    rollouts_file(folder, TRAIN, 2).write_bytes(b"PAR1 no more")
    assert make_missing(folder, Setting(["search"])) == 4
    assert [one.step for one in step_files(folder) if one.is_unreadable] == [2]
    assert make_missing(folder, Setting(["search"])) == 0
    runs = Runs(store)
    job = runs.job(job_id)
    assert job.steps_missing == 0 and job.rollouts.count(Filter()) == 2 * 64
    runs.close()
    store.close()


def test_a_job_that_learns_from_examples_has_its_losses(tmp_path: Path) -> None:
    with JobStore(tmp_path / "runs") as store:
        job_id = store.create_job({"job": {"method": "supervised"}}, model="smollm2-135m", seed=0)
        store.set_status(job_id, "running")
        for step in range(1, 7):
            store.commit_step(job_id, TRAIN, step, {"loss": 3.0 / step, "token_accuracy": 0.5})
    runs = runs_of(tmp_path / "runs")
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        for tab in TABS:
            assert client.get(f"/jobs/{job_id}{tab}").status_code == 200
        data = client.get(f"/jobs/{job_id}.json").json()
    runs.close()
    assert "training loss went from" in data["said"][0]["text"] and data["said"][0]["level"] == "good"
    assert [one["value"] for one in data["charts"]["losses"]] == [3.0 / step for step in range(1, 7)]
    assert "rewards" not in data["charts"]


def test_a_record_of_odd_values_is_shown(tmp_path: Path) -> None:
    store, job_id = planted_runs(tmp_path / "runs", steps=2)
    path = rollouts_file(store.job_folder(job_id), TRAIN, 1)
    rows = read_rollouts(path)
    record = rows[0]["record"]
    record["turns"][0]["sampled_logprobs"][0] = float("nan")
    record["turns"][0]["tool_calls"] = [
        {**call, "arguments": '{"q": "\\ud800"}'} for call in record["turns"][0]["tool_calls"]
    ]
    record["messages"] = [{"role": "assistant", "tool_calls": []}, {"role": "user", "content": [{"type": "text"}]}]
    record["output_text"] = "AB " * 20_000 + "a"
    write_rollouts(path, rows)
    make_missing(store.job_folder(job_id), Setting(["search"]))
    runs = Runs(store)
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        for suffix in ("", ".json"):
            assert client.get(f"/jobs/{job_id}/rollouts/{record['trace_id']}{suffix}").status_code == 200
    runs.close()
    store.close()


def test_where_nothing_has_changed_nothing_is_sent_and_where_something_has_it_is(tmp_path: Path) -> None:
    store, job_id = planted_runs(tmp_path / "runs", steps=2)
    runs = Runs(store)
    with TestClient(own_pages(runs), base_url="http://localhost") as client:
        for tab in (*TABS, f"/rollouts/{rollout_ids(store, job_id)[0]}", "/groups.json"):
            look_through(store.job_folder(job_id), Setting(["search"]), runs.facts_folder(store.job_folder(job_id)))
            url = f"/jobs/{job_id}{tab}"
            tag = client.get(url).headers["etag"]
            if not tab.endswith(".json"):
                assert f'data-tag="{tag.replace(chr(34), "&#34;")}"' in client.get(url).text
            with count_queries() as queries:
                again = client.get(url, headers={"If-None-Match": tag})
            assert (again.status_code, again.content, queries) == (304, b"", [])
            store.add_event(job_id, "info", "something happened")
            assert client.get(url, headers={"If-None-Match": tag}).status_code == 200
        tag = client.get("/").headers["etag"]
        assert client.get("/", headers={"If-None-Match": tag}).status_code == 304
        store.add_event(job_id, "info", "something else happened")
        assert client.get("/index.json", headers={"If-None-Match": tag}).status_code == 200
        both = f"/jobs/{job_id}/compare?with={stored_job(store, [], status='running')}"
        tag = client.get(both).headers["etag"]
        assert client.get(both, headers={"If-None-Match": tag}).status_code == 304
    runs.close()
    store.close()


def rollout_ids(store: JobStore, job_id: str) -> list[str]:
    return [row["trace_id"] for row in read_rollouts(rollouts_file(store.job_folder(job_id), TRAIN, 1))]


@contextmanager
def count_queries() -> Iterator[list[str]]:
    """What is asked of rollouts meanwhile."""
    seen: list[str] = []
    whole = queries._connection

    def noted() -> Any:
        seen.append("asked")
        return whole()

    queries._connection = noted  # type: ignore[assignment]
    try:
        yield seen
    finally:
        queries._connection = whole
