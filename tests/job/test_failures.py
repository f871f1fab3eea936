"""Whole jobs on broken infrastructure: what failed is counted, and never trained on."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentrft.errors import EndpointError, JobFailedError, NotTrainableError
from agentrft.job import NoProgress, Stop, create_job, resume_job, run_job
from agentrft.job.training_data import training_group
from agentrft.learner import Learner, TrainingGroup, TrainingRow, UpdatePlan
from agentrft.rollout import Rollout
from agentrft.spec import load_job
from agentrft.store import JobStore, read_rollouts
from agentrft.traffic import endpoint as endpoint_module
from agentrft.traffic import waiting
from tests.job.tiny_job import TRAIN_WORDS, tool_calls, write_job
from tests.traffic.chaos_server import Behaviour, ChaosServer, hang, ok, status

ONE_STEP = {"max_steps": 1, "batch_size": 1, "temperature": 0.3}
NO_VALIDATION: dict[str, Any] = {"validation_file": None, "warm_start": None}


class Updates(list[list[TrainingGroup]]):
    """What the learner was given, update by update."""


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> Updates:
    seen = Updates()
    original = Learner.plan

    def plan(self: Learner, groups: Sequence[TrainingGroup], replay: Sequence[TrainingRow] = ()) -> UpdatePlan:
        seen.append(list(groups))
        return original(self, groups, replay)

    monkeypatch.setattr(Learner, "plan", plan)
    return seen


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_module, "BACKOFF_S", 0.02)


async def run_new(job_file: Path) -> tuple[JobStore, str]:
    spec = load_job(job_file)
    store, job_id = create_job(spec, source=job_file)
    await run_job(spec, store, job_id, progress=NoProgress(), stop=Stop())
    return store, job_id


def stored_rollouts(store: JobStore, job_id: str) -> dict[tuple[str, int], list[Rollout]]:
    by_step: dict[tuple[str, int], list[Rollout]] = defaultdict(list)
    for path in sorted((store.job_folder(job_id) / "rollouts").glob("*.parquet")):
        for row in read_rollouts(path):
            by_step[row["phase"], row["step"]].append(Rollout.from_dict(row["record"]))
    return by_step


def expected_groups(rollouts: list[Rollout]) -> list[TrainingGroup]:
    """What may be trained on: of each sample, the rollouts with a reward, if there are two or more."""
    by_sample: dict[str, list[Rollout]] = defaultdict(list)
    for rollout in rollouts:
        by_sample[rollout.sample_id] += [rollout] if rollout.outcome != "infra_failed" else []
    return [training_group(kept) for kept in by_sample.values() if len(kept) >= 2]


class Chaos(ChaosServer):
    """A fifth of all requests gets 500 and some hang. Of every second training word, the first rollout that calls
    gets nothing but 500; of the others, the first one's first request hangs."""

    def __init__(self) -> None:
        super().__init__(mix=[(0.2, status(500)), (0.02, hang())])
        self.first: dict[str, str] = {}
        self.faults: dict[str, Counter[str]] = defaultdict(Counter)

    def _behaviour(self, key: str) -> Behaviour:
        """Chooses one, and keeps by trace id what the client must take it for if it is a fault."""
        body = self.received[-1].body
        behaviour = self._chosen(key, body)
        if behaviour.kind == "hang" or behaviour.status == 500:
            self.faults[body.get("trace_id")]["timeout" if behaviour.kind == "hang" else "server_error"] += 1
        return behaviour

    def _chosen(self, key: str, body: dict[str, Any]) -> Behaviour:
        word = body.get("item", {}).get("word")
        if word in TRAIN_WORDS:
            is_new = word not in self.first
            is_first = self.first.setdefault(word, body["trace_id"]) == body["trace_id"]
            if is_first and word in TRAIN_WORDS[::2]:
                return status(500)
            if is_new:
                return hang()
        return super()._behaviour(key)

    @property
    def doomed(self) -> set[str]:
        return {trace_id for word, trace_id in self.first.items() if word in TRAIN_WORDS[::2]}


async def test_training_goes_on_with_a_failing_tool_and_every_request_is_counted(
    tiny_model: Path, tmp_path: Path, updates: Updates
) -> None:
    async with Chaos() as server:
        store, job_id = await run_new(write_job(tmp_path, tiny_model, server.url, tool={"timeout_s": 1.0}))
    requests = Counter(call["trace_id"] for call in tool_calls(server))
    with store:
        assert store.get_job(job_id).status == "succeeded"
        rollouts = stored_rollouts(store, job_id)
        metrics = {(row["phase"], row["step"]): row for row in store.metrics(job_id)}
        warnings = [event.message for event in store.events(job_id) if event.level == "warning"]

    everyone = {rollout.trace_id: rollout for of_step in rollouts.values() for rollout in of_step}
    broken = {trace_id for trace_id, rollout in everyone.items() if rollout.outcome == "infra_failed"}
    assert len(server.doomed) == 3 and server.doomed <= broken
    # Where enough of them fail at once the endpoint counts as down, and a call may end as waited out.
    assert {everyone[trace_id].failure_kind for trace_id in server.doomed} <= {"tool:server_error", "tool:outage"}
    assert all(everyone[trace_id].reward is None for trace_id in broken)
    assert any("tool:server_error" in warning for warning in warnings)

    assert {trace_id: rollout.tool_requests for trace_id, rollout in everyone.items()} == {
        trace_id: requests[trace_id] for trace_id in everyone
    }
    assert set(requests) <= set(everyone)
    for place, of_step in rollouts.items():
        row = metrics[place]
        assert row["rollouts"] == len(of_step)
        assert row["tool_requests"] == sum(requests[rollout.trace_id] for rollout in of_step)
        faults = sum((server.faults[rollout.trace_id] for rollout in of_step), start=Counter[str]())
        assert row["faults"] == {f"tool:{kind}": count for kind, count in faults.items()}
        given_up = Counter(kind for rollout in of_step for kind in rollout.given_up)
        assert row["repeated_rollouts"] == dict(given_up)
        assert given_up.total() == sum(rollout.attempt - 1 for rollout in of_step)
        assert row["outcomes"] == dict(Counter(rollout.outcome for rollout in of_step))
        assert row["failures"] == dict(Counter(rollout.failure_kind for rollout in of_step if rollout.failure_kind))

    assert len(updates) == 3
    for step, groups in enumerate(updates, start=1):
        assert groups == expected_groups(rollouts["train", step])
        assert metrics["train", step]["groups_dropped"] == 2 - len(groups)


async def test_rollouts_that_the_grader_fails_on_are_counted_and_never_trained_on(
    tiny_model: Path, tmp_path: Path, updates: Updates
) -> None:
    source = (
        "def grade(sample, item):\n"
        "    if item['word'] == 'stone':\n"
        "        raise ValueError('no grade for stones')\n"
        "    return len(sample['output_text']) / 20\n"
    )
    grader = {"type": "python", "trusted": True, "name": "length", "source": source}
    async with ChaosServer() as server:
        store, job_id = await run_new(write_job(tmp_path, tiny_model, server.url, grader=grader, **NO_VALIDATION))
    with store:
        rollouts = stored_rollouts(store, job_id)
        metrics = {row["step"]: row for row in store.metrics(job_id)}
        warnings = [event.message for event in store.events(job_id) if event.level == "warning"]
    stones = [r for of_step in rollouts.values() for r in of_step if r.messages[0]["content"] == "Colour of stone?"]
    answered = [rollout for rollout in stones if rollout.outcome != "model_failed"]
    assert len(answered) >= 3
    assert {(r.outcome, r.reward, r.failure_kind) for r in answered} == {("infra_failed", None, "grader:exception")}
    assert all("no grade for stones" in (rollout.failure_message or "") for rollout in answered)
    (step,) = {rollout.step for rollout in stones}
    assert metrics[step]["failures"]["grader:exception"] == len(answered)
    assert metrics[step]["groups_dropped"] == 1
    assert [metrics[other]["groups_dropped"] for other in metrics if other != step] == [0, 0]
    assert len(warnings) == 3 and "grader:exception" in warnings[0]
    assert "at their first attempt: " in warnings[1] and "x grader:exception" in warnings[1]
    assert "50% of the rollouts got no reward because infrastructure broke" in warnings[2]
    for number, groups in enumerate(updates, start=1):
        assert groups == expected_groups(rollouts["train", number])


async def test_a_step_without_any_group_fails_the_job_and_names_the_cause(
    tiny_model: Path, tmp_path: Path, updates: Updates
) -> None:
    grader = {
        "type": "python",
        "trusted": True,
        "name": "length",
        "source": "def grade(sample, item):\n    return item['missing']\n",
    }
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tiny_model, server.url, grader=grader, hyperparameters=ONE_STEP, **NO_VALIDATION)
        with pytest.raises(JobFailedError, match=r"(?s)train, step 1: .*grader 'length': exception: KeyError.*missing"):
            await run_new(job_file)
    assert updates == []
    with JobStore(tmp_path / "runs") as store:
        job = store.find_job("latest")
        assert (job.status, job.step) == ("failed", 0)
        assert "KeyError" in (job.error or "")
        assert store.metrics(job.job_id) == []


async def test_a_job_that_failed_on_a_broken_tool_goes_on_once_the_tool_is_mended(
    tiny_model: Path, tmp_path: Path, updates: Updates
) -> None:
    async with ChaosServer() as server:
        job_file = write_job(
            tmp_path, tiny_model, server.url, tool={"retries": 0}, hyperparameters=ONE_STEP, **NO_VALIDATION
        )
        server.default = status(503)
        with pytest.raises(JobFailedError, match="HTTP 503"):
            await run_new(job_file)
        server.default = ok()
        with JobStore(tmp_path / "runs") as store:
            job_id = store.find_job("latest").job_id
            await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
            assert store.get_job(job_id).status == "succeeded"
            (row,) = store.metrics(job_id)
            rollouts = stored_rollouts(store, job_id)
    assert row["outcomes"].get("infra_failed", 0) == 0
    assert [groups == expected_groups(rollouts["train", 1]) for groups in updates] == [True]


async def test_a_baseline_on_a_broken_tool_is_called_broken_and_not_bad(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer(default=status(503)) as server:
        job_file = write_job(
            tmp_path, tiny_model, server.url, tool={"retries": 0}, hyperparameters={"temperature": 0.1}, warm_start=None
        )
        with pytest.raises(JobFailedError, match=r"validation, step 0: infrastructure failures left no rollout"):
            await run_new(job_file)


async def test_a_tool_that_is_not_there_stops_the_job_before_it_generates(tiny_model: Path, tmp_path: Path) -> None:
    async with ChaosServer() as server:
        url = server.url
    job_file = write_job(tmp_path, tiny_model, url)
    with pytest.raises(EndpointError, match="lookup"):
        await run_new(job_file)
    with JobStore(tmp_path / "runs") as store:
        job = store.find_job("latest")
        assert job.status == "failed"
        assert json.loads(json.dumps(store.metrics(job.job_id))) == []


async def test_a_baseline_that_cannot_be_trained_says_so_again_on_resuming(tiny_model: Path, tmp_path: Path) -> None:
    grader = {"type": "python", "trusted": True, "source": "def grade(sample, item):\n    return 0.0\n"}
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tiny_model, server.url, grader=grader, warm_start=None)
        with pytest.raises(NotTrainableError, match="every reward is 0"):
            await run_new(job_file)
        with JobStore(tmp_path / "runs") as store:
            job_id = store.find_job("latest").job_id
            with pytest.raises(NotTrainableError, match="every reward is 0"):
                await run_job(resume_job(store, job_id), store, job_id, progress=NoProgress(), stop=Stop())
            assert [row["phase"] for row in store.metrics(job_id)] == ["validation"]


async def test_holdout_graders_score_and_never_train_and_their_failures_cost_nothing(
    tiny_model: Path, tmp_path: Path, updates: Updates
) -> None:
    holdouts = {
        "short": {
            "type": "python",
            "trusted": True,
            "source": "def grade(sample, item):\n    return 1 - len(sample['output_text']) / 100\n",
        },
        "broken": {"type": "python", "trusted": True, "source": "def grade(sample, item):\n    return 1 / 0\n"},
    }
    async with ChaosServer() as server:
        job_file = write_job(tmp_path, tiny_model, server.url, holdout_graders=holdouts, **NO_VALIDATION)
        store, job_id = await run_new(job_file)
    with store:
        rollouts = stored_rollouts(store, job_id)
        metrics = {row["step"]: row for row in store.metrics(job_id)}
    for (_, step), of_step in rollouts.items():
        graded = [rollout for rollout in of_step if rollout.outcome == "graded"]
        assert all(
            rollout.holdout_scores == {"short": pytest.approx(1 - len(rollout.output_text) / 100)} for rollout in graded
        )
        assert metrics[step]["holdout_scores"].keys() == ({"short"} if graded else set())
        assert metrics[step]["faults"].get("holdout:exception", 0) == len(graded)
        assert updates[step - 1] == expected_groups(of_step)


async def test_a_grader_that_breaks_on_a_third_of_the_answers_rings_though_most_are_sampled_again(
    tiny_model: Path, tmp_path: Path, updates: Updates
) -> None:
    source = (
        "def grade(sample, item):\n"
        "    if len(sample['output_text']) in (3, 5):\n"
        "        raise ValueError('too short a colour')\n"
        "    return len(sample['output_text']) / 20\n"
    )
    grader = {"type": "python", "trusted": True, "name": "length", "source": source}
    async with ChaosServer() as server:
        job = write_job(tmp_path, tiny_model, server.url, grader=grader, **NO_VALIDATION)
        store, job_id = await run_new(job)
    with store:
        rollouts = [one for of_step in stored_rollouts(store, job_id).values() for one in of_step]
        trained = [row for row in store.metrics(job_id) if row["phase"] == "train"]
        told = [event.data for event in store.events(job_id) if "alarm" in event.data]
    first = [one for one in rollouts if one.first_attempt_failure == "grader:exception"]
    twice = [one for one in first if one.outcome == "infra_failed"]
    assert len(first) > len(twice)
    assert sum(row["first_attempt_failures"].get("grader:exception", 0) for row in trained) == len(first)
    assert sum(row["failures"].get("grader:exception", 0) for row in trained) == len(twice)
    rang = [data for data in told if data["alarm"] == "first_attempt_failure_share"]
    assert rang and set(rang[0]["trace_ids"]) <= {one.trace_id for one in first}


class Expiring(ChaosServer):
    """Its token expires at the sixth call, for all that is asked of it until it is renewed, a few calls at least."""

    renewed_after_s = 0.5
    renews_at: float | None = None
    refused = 0

    def _behaviour(self, key: str) -> Behaviour:
        if self.renews_at is None and len(self.executed) > 5:
            self.renews_at = time.monotonic() + self.renewed_after_s
        # A slow machine may call but once in half a second.
        expired = self.renews_at is not None and (time.monotonic() < self.renews_at or self.refused < 12)
        self.refused += expired
        return status(401, "the token has expired") if expired else ok()


@pytest.mark.parametrize("is_renewed", [True, False])
async def test_a_token_that_expires_in_mid_job_is_never_read_by_the_model(
    tiny_model: Path, tmp_path: Path, updates: Updates, monkeypatch: pytest.MonkeyPatch, is_renewed: bool
) -> None:
    monkeypatch.setattr(waiting, "FIRST_INTERVAL_S", 0.05)
    monkeypatch.setattr(waiting, "MAX_INTERVAL_S", 0.2)
    async with Expiring() as server:
        server.renewed_after_s = 0.5 if is_renewed else 3600.0
        tool = {"outage_deadline_s": 20.0 if is_renewed else 0.2, "headers": {"Authorization": "Bearer sk-expiring"}}
        job = load_job(write_job(tmp_path, tiny_model, server.url, tool=tool, **NO_VALIDATION))
        store, job_id = create_job(job)
        with store:
            # Where the token is not waited for, a step may be left without any group.
            with suppress(JobFailedError):
                await run_job(job, store, job_id, progress=NoProgress(), stop=Stop())
            rollouts = [one for of_step in stored_rollouts(store, job_id).values() for one in of_step]
            events = [event.message for event in store.events(job_id)]
    kinds = {one.failure_kind for one in rollouts if one.outcome == "infra_failed"}
    assert kinds == (set() if is_renewed else {"tool:credential_refused"})
    assert all("expired" not in json.dumps(one.messages) for one in rollouts)
    assert "client_error" not in {call.status for one in rollouts for call in one.tool_calls}
    assert any("tool 'lookup' at 127.0.0.1:" in text and "refuses its credential" in text for text in events)
    assert not is_renewed or any("takes its credential again" in text for text in events)
    assert not any("sk-expiring" in text for text in events)
