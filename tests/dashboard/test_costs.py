"""What a job took, how long it waited and for what: numbers of the pages against the records that they are of."""

import itertools

import numpy as np
import pytest
from fastapi.testclient import TestClient

from agentrft.dashboard.runs import Runs
from agentrft.dashboard.views.concurrency import at_once
from agentrft.dashboard.views.cost import Prices, cost
from agentrft.dashboard.views.tools import tools
from agentrft.store import JobStore, read_rollouts
from agentrft.store.layout import TRAIN, rollouts_file
from agentrft.traffic.breaker import FAILURES_TO_OPEN, Breaker, outage_of
from agentrft.traffic.retry import CREDENTIAL_REFUSED, Fault
from agentrft.traffic.waiting import Caller
from tests.dashboard.conftest import Planted


def test_shares_over_a_threshold_are_those_of_the_records(client: TestClient, planted: Planted) -> None:
    store, job_id = planted
    rows = read_rollouts(rollouts_file(store.job_folder(job_id), TRAIN, 3))
    calls = [call["latency_s"] for row in rows for turn in row["record"]["turns"] for call in turn["tool_calls"]]
    found = client.get(f"/jobs/{job_id}.json?step=3&rollout_over=0.5&call_over=0.05").json()
    lines = {(line["of"], line["step"]): line for line in found["latency"]["lines"]}
    assert lines.keys() == {(of, step) for of in ("rollouts", "tool calls") for step in (3, None)}
    assert lines["tool calls", 3]["count"] == len(calls) and lines["rollouts", None]["count"] == 6 * 64
    assert lines["tool calls", 3]["over_share"] == lines["rollouts", 3]["over_share"] == 1.0
    assert lines["tool calls", 3]["p95_s"] == pytest.approx(0.1)
    assert {row["series"] for row in found["charts"]["over"]} == {"rollouts over 0.5 s", "tool calls over 0.05 s"}
    page = client.get(f"/jobs/{job_id}?step=3&rollout_over=2").text
    assert "0 % over 2 s" in page and "0 % over 5 s" in page and 'name="step" value="3"' in page


@pytest.mark.parametrize("query", ["rollout_over=x", "call_over=nan", "price_hour=inf"])
def test_a_threshold_or_price_that_is_no_number_is_refused(client: TestClient, planted: Planted, query: str) -> None:
    assert client.get(f"/jobs/{planted[1]}?{query}").status_code == 400


def test_costs_are_sums_over_all_steps_and_money_is_told_only_by_prices(client: TestClient, planted: Planted) -> None:
    store, job_id = planted
    records = [
        row["record"]
        for path in (store.job_folder(job_id) / "rollouts").glob("*.parquet")
        for row in read_rollouts(path)
    ]
    turns = [turn for record in records for turn in record["turns"]]
    found = client.get(f"/jobs/{job_id}.json").json()["job"]["cost"]
    assert found["prompt_tokens"] == sum(len(turn["prompt_ids"]) for turn in turns)
    assert found["sampled_tokens"] == sum(len(turn["sampled_ids"]) for turn in turns)
    assert found["tool_calls"] == sum(len(turn["tool_calls"]) for turn in turns)
    assert found["unique_tokens"] == 6 * 4000 and found["hours"] == pytest.approx(6 * 8.5 / 3600)
    assert found["money"] is None and "in money" not in client.get("/").text
    priced = client.get(f"/jobs/{job_id}.json?price_hour=7200").json()["job"]["cost"]
    assert priced["money"] == pytest.approx(6 * 8.5 * 2) and "102.00 in money" in client.get("/?price_hour=7200").text


def test_judges_cost_their_tokens_whether_they_say_a_sum_or_its_parts() -> None:
    usage = {"prompt_tokens": 900, "completion_tokens": 100}
    judge = {"grades": 8, "usage": usage}
    rows = [
        {"graders": {"judge": judge, "exact": {"grades": 8, "usage": {}}}, "judge_tokens": usage},
        {"graders": {"judge": judge}, "judge_tokens": {**usage, "total_tokens": 1000}},
    ]
    found = cost(rows, Prices(judge_tokens=3.0))
    assert (found["judge_calls"], found["judge_tokens"], found["money"]) == (16, 2000, pytest.approx(0.006))


def test_how_much_ran_at_once_is_the_time_worked_over_the_time_passed() -> None:
    draw = np.random.default_rng(0)
    start, seconds = 1.7e9 + draw.uniform(0, 100, 500), draw.exponential(3.0, 500)
    edges = np.linspace(start.min(), (start + seconds).max(), 41)
    found = at_once(start, seconds, edges)
    wanted = [
        np.clip(np.minimum(start + seconds, after) - np.maximum(start, before), 0, None).sum() / (after - before)
        for before, after in itertools.pairwise(edges)
    ]
    assert found == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("kind", ["connection", CREDENTIAL_REFUSED])
async def test_what_is_told_of_an_outage_is_read_again(kind: str) -> None:
    told: list[str] = []
    breaker = Breaker("tool 'search' at host:80", lambda level, text: told.append(text))
    fault = Fault(kind, "no", transient=True, is_outage=kind == "connection")
    for number in range(FAILURES_TO_OPEN):
        breaker.failed(fault, Caller(lambda number=number: number), sent_at=float(number))
    if not told:
        breaker._tell(fault)
    breaker.answered(sent_at=1e12)
    assert [outage_of(text) for text in told] == [
        ("tool 'search' at host:80", True),
        ("tool 'search' at host:80", False),
    ]
    assert outage_of("step 3: rollouts left their groups because infrastructure failed: 2 x tool:connection") is None


def test_tools_show_what_ran_at_once_what_was_down_and_what_was_refused(planted: Planted) -> None:
    store, job_id = planted
    found = tools(Runs(store).job(job_id))
    assert {row["series"] for row in found["charts"]["running"]} == {"rollouts", "tool calls"}
    assert max(row["value"] for row in found["charts"]["running"]) > 10
    assert "outages" not in found["charts"] and found["outages"] == {}


def test_outages_and_429s_are_counted(tmp_path) -> None:
    with JobStore(tmp_path / "runs") as store:
        job_id = store.create_job({"job": {}}, model="smollm2-135m", seed=0)
        store.set_status(job_id, "running")
        where = "tool 'search' at host:80"
        for text in (
            f"{where} is down (connection); calls to it wait until it answers",
            f"{where} answers again after 3 s",
        ):
            store.add_event(job_id, "warning", text)
        usage = {"total_tokens": 70}
        store.commit_step(
            job_id,
            TRAIN,
            1,
            {"faults": {"tool:rate_limited": 5, "tool:timeout": 1}, "graders": {"j": {"usage": usage}}},
        )
        found = tools(Runs(store).job(job_id))
    assert found["outages"] == {where: 1}
    assert [row["value"] for row in found["charts"]["outages"]] == [0, 1, 0]
    assert found["charts"]["limited"] == [{"step": 1, "series": "tools", "value": 5}]
    assert found["charts"]["judges"] == [{"step": 1, "series": "j", "value": 70}]
