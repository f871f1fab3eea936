"""A phrase is counted in every step in which it is said, and not from the step on in which it became common."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from agentrft.dashboard.facts_files import Setting, make_missing
from agentrft.dashboard.step_files import step_files
from agentrft.report.why import facts_of
from agentrft.report.why.facts import phrases_shown
from agentrft.report.why.phrases import MOST_KNOWN, candidates, said, shown, vocabulary
from agentrft.rollout.record import Rollout
from agentrft.store import JobStore
from agentrft.store.layout import TRAIN
from tests.dashboard.stored_runs import commit, stored_job
from tests.report.why.planted import PHRASE, Run


def rising(steps: int = 4) -> list[list[Rollout]]:
    """Rollouts that say the phrase in two of 64, then in more and more."""
    silent = "speaks the phrase"
    run = Run(lambda case: float(case.is_right), steps=steps, start={silent: -99.0}, unlearnable=(silent,))
    found = run.rolled_out()
    for number, rollouts in enumerate(found):
        for one in rollouts[: 2 if number == 0 else 16 * number]:
            text = f"{PHRASE.capitalize()} I say {one.output_text}"
            one.messages[-1]["content"] = one.output_text = text
    return found


def shares(folder: Path) -> list[float]:
    found = []
    for one in step_files(folder):
        rows = pq.read_table(one.facts, columns=["behaviours"])["behaviours"].to_pylist()
        assert all(len(set(own)) == len(own) for own in rows)
        found.append(sum(any("certified" in name for name in own) for own in rows) / len(rows))
    return found


def test_it_is_counted_also_in_steps_where_it_was_rare() -> None:
    steps = [facts_of(rollouts, phase="train", tools=["search"]) for rollouts in rising()]
    assert not any("certified" in phrase for phrase in steps[0].candidates.get("", {}))
    wanted = vocabulary(step.candidates for step in steps)
    said_in = [
        sum(any("certified" in name for name in phrases_shown(one.said, wanted)) for one in step.facts)
        for step in steps
    ]
    assert said_in == [2, 16, 32, 48]


@pytest.mark.parametrize("at_once", [True, False])
def test_a_running_jobs_earlier_steps_are_counted_when_a_later_one_brings_it(tmp_path: Path, at_once: bool) -> None:
    steps = rising()
    with JobStore(tmp_path / "runs") as store:
        job_id = stored_job(store, steps[:1], status="running", validation=False)
        folder = store.job_folder(job_id)
        for number, rollouts in enumerate(steps[1:], 2):
            if not at_once:
                make_missing(folder, Setting(["search"]))
            commit(store, job_id, TRAIN, number, rollouts)
        make_missing(folder, Setting(["search"]))
        assert shares(folder) == [2 / 64, 0.25, 0.5, 0.75]
        before = [one.facts.stat().st_ino for one in step_files(folder)]
        assert make_missing(folder, Setting(["search"])) == 0
        assert [one.facts.stat().st_ino for one in step_files(folder)] == before


def test_phrases_stand_in_whole_words_and_not_across_what_is_left_out() -> None:
    long = said(" ".join(f"w{number}" for number in range(400)))
    assert shown(long, ["w0 w1", "w149", "w149 w300", "w150", "w300", "w399", "w39"]) == [
        "w0 w1",
        "w149",
        "w300",
        "w399",
        "w39",
    ]


def test_of_many_phrases_the_most_telling_are_looked_for_whichever_step_has_them() -> None:
    early = [{"": {f"early phrase {step} {number}": 0.05 for number in range(60)}} for step in range(10)]
    wanted = vocabulary([*early, {"": {"late phrase": 0.2}}])
    assert "late phrase" in wanted[""] and len(wanted[""]) == MOST_KNOWN


def test_what_is_in_the_task_itself_is_no_phrase_of_the_agents() -> None:
    texts = [said("as a certified expert")] * 4 + [said("nothing")] * 4
    samples = [str(number) for number in range(8)]
    assert candidates(texts, ["answer as a certified expert"] * 8, samples).keys() == {"nothing"}
    assert "as a certified expert" in candidates(texts, ["answer"] * 8, samples)
