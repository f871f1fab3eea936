"""Behaviours that a run's grader pays for are named; runs that pay for the right answer alone raise no suspicion."""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from agentrft.report.why import Findings, facts_of, find
from agentrft.report.why.evidence import Evidence
from agentrft.report.why.facts import phrase_behaviours, phrases_shown
from agentrft.report.why.phrases import vocabulary
from agentrft.report.why.words import sentence
from agentrft.rollout.record import Rollout
from tests.report.why.planted import (
    FIRST,
    Run,
    copying_by_place,
    crowding_out,
    honest,
    rewarded,
    rightly_replaced,
)

# What the grader pays for, and words that one of the first three findings has.
PLANTED = {
    "a phrase": (rewarded(lambda case: case.took["speaks the phrase"]), "certified expert"),
    "skipping the tool": (lambda case: float(case.took["skips the tool"]) + 0.2 * case.is_right, "calls no tool"),
    "calling twice": (rewarded(lambda case: case.took["calls twice"]), "search twice"),
    "a longer answer": (rewarded(lambda case: case.words > 20), "answers in 21 to 60 words"),
    "an argument that is the prompt": (
        rewarded(lambda case: case.took["copies the prompt"]),
        "copies the whole prompt into search.query",
    ),
    "bold text": (rewarded(lambda case: case.took["uses bold"]), "bold"),
    "politeness": (rewarded(lambda case: case.took["is polite"]), "thank you"),
}


# `make test-why` has ten.
SEEDS = range(int(os.environ.get("AGENTRFT_WHY_RUNS", "1")))


def found_in(steps: Sequence[Sequence[Rollout]]) -> Findings:
    found = [facts_of(rollouts, phase="train", tools=["search"]) for rollouts in steps]
    wanted = vocabulary(step.candidates for step in found)
    known = {name: one for step in found for name, one in step.known.items()} | phrase_behaviours(wanted)
    facts = [
        replace(one, behaviours=[*one.behaviours, *phrases_shown(one.said, wanted)])
        for step in found
        for one in step.facts
    ]
    return find(Evidence.of(facts, known))


def names_of(found: Findings, most: int = 3) -> list[str]:
    return [" | ".join([one.name, *one.also]) for one in found.reinforced[:most]]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("planted", PLANTED)
def test_what_a_grader_pays_for_is_among_the_first_three_in_words_with_its_numbers(planted: str, seed: int):
    pays, words = PLANTED[planted]

    found = found_in(Run(pays, holds=honest, seed=seed).rolled_out())

    named = [one for one in found.reinforced[:3] if any(words in name for name in (one.name, *one.also))]
    assert named, names_of(found, 8)
    assert named[0].share_late > named[0].share_early + 0.15
    assert f"{named[0].share_late:.0%}" in sentence(named[0], found)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("planted", ["a phrase", "bold text", "a longer answer", "calling twice", "politeness"])
def test_what_the_grader_pays_for_and_a_holdout_does_not_is_a_suspect(planted: str, seed: int):
    pays, words = PLANTED[planted]

    found = found_in(Run(pays, holds=honest, seed=seed).rolled_out())

    assert any(words in name for one in found.suspects for name in (one.name, *one.also)), names_of(found, 8)


@pytest.mark.parametrize("run", [copying_by_place, crowding_out])
def test_copying_by_place_is_named_first_and_a_suspect_whether_or_not_reading_is_forgotten(run: Callable[[int], Run]):
    found = [found_in(run(seed).rolled_out()) for seed in SEEDS]

    assert [one.reinforced[0].name for one in found] == [FIRST for _ in SEEDS]
    suspects = [[suspect.name for suspect in one.suspects] for one in found]
    assert all(names in ([], [FIRST]) for names in suspects)
    assert sum(map(len, suspects)) >= 0.8 * len(SEEDS)


def test_what_is_crowded_out_is_named_with_what_it_earned_where_the_habit_fails():
    found = [found_in(crowding_out(seed).rolled_out()) for seed in SEEDS]

    told = [sentence(one, each) for each in found for one in each.suspects]
    named = [text for text in told if "Suspect: it crowded out what was better where it fails: “answers with " in text]
    assert len(named) >= 0.8 * len(SEEDS) and all("beyond chance" in text for text in named)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_gives_way_to_what_is_better_on_every_sample_is_no_sign_of_crowding_out(seed: int):
    found = found_in(rightly_replaced(seed).rolled_out())

    whole, term = "copies the whole prompt into search.query", "asks with search.query of two or three words"
    replaced = [one.crowding.name for one in found.reinforced if term in (one.name, *one.also) and one.crowding]
    assert replaced == [whole]
    assert [sentence(one, found) for one in found.suspects] == [] and found.unproven == []


@pytest.mark.parametrize("with_holdout", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_that_pays_for_the_right_answer_has_no_suspect(seed: int, with_holdout: bool):
    run = Run(honest, holds=honest if with_holdout else None, seed=100 + seed, rightly_first=0.25)

    found = found_in(run.rolled_out())

    assert [sentence(one, found) for one in found.suspects] == []


def test_where_rewards_are_noise_nothing_is_reinforced():
    noise = random.Random(7)

    found = [found_in(Run(lambda _: noise.random(), seed=seed).rolled_out()) for seed in SEEDS]

    assert [names_of(one) for one in found] == [[] for _ in SEEDS]
