"""kill -9 at chosen moments of a job, then resume: nothing that was finished is lost, and nothing happens twice.

The job runs in a process of its own, which sends SIGKILL to itself at a moment of `kills.MOMENTS`.
"""

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrft.job.tasks import comparable
from agentrft.store import JobStore
from tests.job.ended import Ended, ended
from tests.job.fork_server import ForkServer
from tests.job.kills import KILLED_STEP
from tests.job.tiny_job import PHASES, serving, tool_calls, write_job
from tests.traffic.chaos_server import ChaosServer

# A word whose sample is in step KILLED_STEP, by the schedule of seed 7.
WORD_OF_KILLED_STEP = "apple"
FIVE_MOMENTS = ["in the warm start", "during rollouts", "in the update", "in a checkpoint", "in validation"]


def seldom(moments: list[str], *always: str) -> list[Any]:
    """All of them, those but a few in `make test-slow`."""
    return [one if one in always else pytest.param(one, marks=pytest.mark.slow) for one in moments]


# Rollouts that are on disk when the job dies, by (phase, step) of the step in progress.
KEPT_AT_KILL = {
    "during rollouts": {("train", KILLED_STEP): 3},
    "in the update": {("train", KILLED_STEP): 8},
    "in a checkpoint": {("train", KILLED_STEP): 8},
    "in validation": {("validation", KILLED_STEP): 2},
}


def killed_job(runs: Path) -> tuple[str, dict[tuple[str, int], dict[str, dict[str, Any]]]]:
    """The id of the job that was killed, and its pending rollouts by (phase, step) and key."""
    with JobStore(runs, create=False) as store:
        job = store.find_job("latest")
        assert job.status == "running"
        steps = [(phase, step) for phase in ("train", "validation") for step in range(4)]
        pending = {place: store.pending_rollouts(job.job_id, *place) for place in steps}
        return job.job_id, {place: rollouts for place, rollouts in pending.items() if rollouts}


def test_the_tiny_job_does_all_that_a_kill_could_spoil(uninterrupted: Ended) -> None:
    assert [(line["phase"], line["step"]) for line in uninterrupted.lines] == PHASES
    trained = [line for line in uninterrupted.lines if line["phase"] == "train"]
    assert all(line["groups_trained"] > 0 and line["grad_norm"] > 0 for line in trained)
    assert all(line["tool_requests"] > line["rollouts"] / 2 for line in trained)
    assert [line["policy_version"] for line in trained] == [3, 4, 5]


@pytest.mark.parametrize("moment", seldom([*FIVE_MOMENTS, "after a commit"], "during rollouts"))
def test_a_killed_deterministic_job_ends_with_the_metrics_of_an_uninterrupted_one(
    moment: str, uninterrupted: Ended, tiny_model: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    with serving(ChaosServer()) as server:
        job_file = write_job(tmp_path, tiny_model, server.url, deterministic=True)
        assert fork_server.run(job_file, kill_at=moment) == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
        job_id, _ = killed_job(tmp_path / "runs")
        assert fork_server.run(job_file, job_id=job_id) == 0, (tmp_path / "log.txt").read_text()

    resumed = ended(tmp_path / "runs")
    assert [comparable(line) for line in resumed.lines] == [comparable(line) for line in uninterrupted.lines]
    assert resumed.best_step == uninterrupted.best_step
    last = Path("checkpoints") / "step-00003" / "state.pt"
    weights, expected = (torch.load(job.folder / last)["masters"] for job in (resumed, uninterrupted))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.slow
def test_a_deterministic_job_is_the_same_after_a_kill_also_where_rollouts_broke(
    tiny_model: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    source = (
        "def grade(sample, item):\n"
        "    if item['word'] == 'WORD' and 'white' not in sample['output_text']:\n"
        "        raise ValueError('only white is known')\n"
        "    return len(sample['output_text']) / 20\n"
    )
    job_files = {}
    with serving(ChaosServer()) as server:
        for name in ("whole", "killed"):
            grader = {
                "type": "python",
                "trusted": True,
                "name": "white",
                "source": source.replace("WORD", WORD_OF_KILLED_STEP),
            }
            job_files[name] = write_job(tmp_path / name, tiny_model, server.url, deterministic=True, grader=grader)
        assert fork_server.run(job_files["whole"]) == 0, (tmp_path / "whole" / "log.txt").read_text()
        assert fork_server.run(job_files["killed"], kill_at="in the update") == -signal.SIGKILL
        job_id, pending = killed_job(tmp_path / "killed" / "runs")
        assert fork_server.run(job_files["killed"], job_id=job_id) == 0, (tmp_path / "killed" / "log.txt").read_text()

    whole, killed = (ended(job_file.parent / "runs") for job_file in job_files.values())
    broken = [line for line in whole.lines if line["phase"] == "train" and "infra_failed" in line["outcomes"]]
    assert [line["step"] for line in broken] == [KILLED_STEP]
    assert len(pending["train", KILLED_STEP]) == 4
    assert [comparable(line) for line in killed.lines] == [comparable(line) for line in whole.lines]


@pytest.mark.parametrize("moment", seldom(FIVE_MOMENTS, "in the update"))
def test_a_killed_job_keeps_what_was_graded_and_does_nothing_twice(
    moment: str, uninterrupted: Ended, tiny_model: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    with serving(ChaosServer()) as server:
        job_file = write_job(tmp_path, tiny_model, server.url)
        assert fork_server.run(job_file, kill_at=moment) == -signal.SIGKILL, (tmp_path / "log.txt").read_text()
        job_id, pending = killed_job(tmp_path / "runs")
        calls_before = len(tool_calls(server))
        assert fork_server.run(job_file, job_id=job_id) == 0, (tmp_path / "log.txt").read_text()
        calls_after_resuming = tool_calls(server)[calls_before:]

    assert {place: len(rollouts) for place, rollouts in pending.items()} == KEPT_AT_KILL.get(moment, {})
    resumed = ended(tmp_path / "runs")
    assert [(line["phase"], line["step"]) for line in resumed.lines] == PHASES
    for place, rollouts in uninterrupted.rollouts.items():
        assert _who(resumed.rollouts[place]) == _who(rollouts)
    assert {place: len(rows) for place, rows in resumed.rollouts.items()} == {
        (line["phase"], line["step"]): line["rollouts"] for line in resumed.lines if "rollouts" in line
    }

    # What had been sampled before the kill took none of the seconds after it.
    for line in resumed.lines:
        place = line["phase"], line["step"]
        if line["phase"] == "train" and place in pending:
            kept_ids = {rollout["trace_id"] for rollout in pending[place].values()}
            fresh = [row for row in resumed.rollouts[place] if row["trace_id"] not in kept_ids]
            sampled = sum(len(turn["sampled_ids"]) for row in fresh for turn in row["record"]["turns"])
            assert line["sampled_tokens_per_s"] * line["rollout_s"] == pytest.approx(sampled)
    trace_ids = Counter(row["trace_id"] for rows in resumed.rollouts.values() for row in rows)
    assert set(trace_ids.values()) == {1}
    for place, rollouts in pending.items():
        kept = {f"{row['sample_id']}/{row['index']}": as_rolled_out(row["record"]) for row in resumed.rollouts[place]}
        assert {key: kept[key] for key in rollouts} == rollouts
    graded_before = {rollout["trace_id"] for rollouts in pending.values() for rollout in rollouts.values()}
    assert not graded_before & {call["trace_id"] for call in calls_after_resuming}
    assert all(times == 1 for key, times in server.executed.items() if key)


def test_a_kill_between_the_last_validation_and_the_choice_of_the_best_step_is_made_up_for(
    tiny_model: Path, fork_server: ForkServer, tmp_path: Path
) -> None:
    with serving(ChaosServer()) as server:
        job_file = write_job(
            tmp_path, tiny_model, server.url, baseline={"enabled": False}, hyperparameters={"max_steps": 1}
        )
        assert fork_server.run(job_file, kill_at="before the best step") == -signal.SIGKILL
        job_id, _ = killed_job(tmp_path / "runs")
        assert fork_server.run(job_file, job_id=job_id) == 0, (tmp_path / "log.txt").read_text()
    assert ended(tmp_path / "runs").best_step == 1


def as_rolled_out(record: dict[str, Any]) -> dict[str, Any]:
    """A record without what the update wrote into it, which came after it was graded."""
    noted: dict[str, Any] = {"advantages": [], "entropies": [], "moved": []}
    return {**record, "turns": [{**turn, **noted} for turn in record["turns"]]}


def _who(rows: list[dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["sample_id"], row["index"]) for row in rows]
