"""Replay: which successes are kept, and which of them are drawn."""

from collections import Counter

from agentrft.job.replay import CAPACITY, Replay
from agentrft.rollout import Rollout, form_group
from agentrft.rollout.record import ToolCallRecord, Turn


def group(sample: int, rewards: list[float | None], step: int = 1) -> list[Rollout]:
    return [
        Rollout(
            f"trace_{step}_{sample}_{index}",
            1,
            str(sample),
            step,
            index,
            "infra_failed" if reward is None else "graded",
            [Turn([1, 2], [100 + sample, 7 + index], [-1.0, -2.0], "stop", 0)],
            [],
            reward=reward,
        )
        for index, reward in enumerate(rewards)
    ]


def drawn(replay: Replay, step: int, count: int) -> list[int]:
    """The samples of what is replayed."""
    return [row.token_ids[2] - 100 for row in replay.rows(step, count)]


def test_only_successes_are_kept_whole_and_as_they_were_sampled() -> None:
    replay = Replay(1.0, seed=0)
    replay.note(1, [*group(0, [0.5, 0.9]), *group(1, [0.0, 1.0, None]), *group(2, [None, None])])
    (row,) = replay.rows(2, 8)
    assert row.token_ids == [1, 2, 101, 8]
    assert (row.sampled_positions, row.sampling_logprobs) == ([2, 3], [-1.0, -2.0])
    assert Replay(0.9, seed=0).rows(1, 8) == []


def test_what_a_holdout_takes_for_gamed_is_not_replayed() -> None:
    some = group(0, [1.0, 1.0, 0.0])
    for one, score in zip(some, (0.3, 0.6, 0.3), strict=True):
        one.holdout_scores = {"judge": score}
    with_threshold = {0.2: {7, 8}, 0.5: {8}, 0.7: set[int]()}
    for threshold, kept in with_threshold.items():
        found = set()
        for seed in range(20):
            replay = Replay(1.0, seed=seed, holdouts={"judge": threshold})
            replay.note(1, some)
            found |= {row.token_ids[3] for row in replay.rows(2, 8)}
        assert found == kept
    # Without a threshold it is held against the sample's other rollouts.
    replay = Replay(1.0, seed=0, holdouts={"judge": None})
    replay.note(1, some)
    assert [row.token_ids[3] for row in replay.rows(2, 8)] == [8]


def test_a_gamed_success_counts_as_one_where_rarity_is_told_and_learns_nothing_of_others() -> None:
    """A sample that is always right stays common, whatever a holdout says of half of it."""
    easy, rare = group(0, [1.0] * 8), group(1, [1.0] + [0.0] * 7)
    for index, one in enumerate(easy):
        one.holdout_scores = {"judge": float(index % 2)}
    replay = Replay(1.0, seed=0, holdouts={"judge": None})
    replay.note(1, [*easy, *rare])
    first = Counter(drawn(replay, step, 1)[0] for step in range(2, 202))
    assert first[1] > 5 * first[0]
    rollouts = [
        searched(0, 0, "B", 1.0, "A x\nB y"),
        searched(0, 1, "B", 1.0, "A x\nB y\nC z"),
        searched(0, 2, "A", 0.0, "A x\nB y"),
    ]
    rollouts[0].holdout_scores, rollouts[1].holdout_scores = {"judge": 1.0}, {"judge": 0.0}
    lessons = Replay(1.0, seed=0, borrows=True, holdouts={"judge": 0.5}).lessons(1, [form_group("0", rollouts)])["0"]
    assert [row.token_ids[2] for row in lessons] == [52]


def test_a_later_success_takes_the_place_of_an_earlier_one_of_its_sample() -> None:
    replay = Replay(1.0, seed=0)
    replay.note(1, group(0, [1.0, 0.0]))
    replay.note(2, group(0, [0.0, 0.0]))
    replay.note(3, group(0, [0.0, 1.0], step=3))
    (row,) = replay.rows(4, 8)
    assert row.token_ids[3] == 8


def test_what_is_rare_for_its_sample_comes_first_and_what_is_old_last() -> None:
    replay = Replay(1.0, seed=0)
    replay.note(1, [*group(0, [1.0] + [0.0] * 7), *group(1, [1.0] * 7 + [0.0]), *group(2, [1.0] * 8)])
    often = Counter(drawn(replay, step, 1)[0] for step in range(2, 202))
    assert often[0] > 3 * often[1] > 3 * often[2] > 0
    replay = Replay(1.0, seed=0)
    replay.note(1, group(0, [1.0, 0.0]))
    replay.note(31, group(1, [1.0, 0.0]))
    late = Counter(sample for seed in range(100) for sample in _first_of(seed))
    assert late[1] > 3 * late[0]


def _first_of(seed: int) -> list[int]:
    replay = Replay(1.0, seed=seed)
    replay.note(1, group(0, [1.0, 0.0]))
    replay.note(31, group(1, [1.0, 0.0]))
    return drawn(replay, 32, 1)


def test_what_is_drawn_depends_on_the_past_alone_and_not_on_the_process() -> None:
    def noted(steps: range) -> Replay:
        replay = Replay(1.0, seed=5)
        for step in steps:
            replay.note(step, [*group(step % 7, [1.0, 0.0], step), *group(step % 5 + 10, [0.0, 1.0, 0.0], step)])
        return replay

    through = noted(range(1, 20))
    again = noted(range(1, 20))
    assert drawn(through, 20, 4) == drawn(again, 20, 4)
    assert drawn(through, 20, 4) != drawn(through, 21, 4)
    assert len(drawn(through, 20, 100)) == 12


def test_the_buffer_is_bounded() -> None:
    replay = Replay(1.0, seed=0)
    for sample in range(CAPACITY + 50):
        replay.note(1 + sample, group(sample, [1.0, 0.0]))
    kept = drawn(replay, CAPACITY + 100, 2 * CAPACITY)
    assert len(kept) == CAPACITY
    assert min(kept) == 50


def test_a_kind_of_success_that_is_rare_is_replayed_more_often_than_it_is_met() -> None:
    replay = Replay(1.0, seed=0)
    lines = "A01 x\nB02 y\nC03 z"
    rollouts = []
    for sample in range(48):
        own = group(sample, [1.0, 0.0])
        call = ToolCallRecord("c", "search", "{}", lines, "ok", 0.1, 1)
        own[0].turns[0].tool_calls = [call]
        # Five of six copy the first line.
        own[0].output_text = "C03" if sample % 6 == 5 else "A01"
        rollouts += own
    replay.note(1, rollouts)
    kinds = Counter(
        "later" if sample % 6 == 5 else "first" for step in range(2, 202) for sample in drawn(replay, step, 4)
    )
    # A sixth of what is kept; by the roots of their numbers three tenths.
    assert 0.24 < kinds["later"] / kinds.total() < 0.38


def searched(sample: int, index: int, answer: str, reward: float, lines: str) -> Rollout:
    call = ToolCallRecord("c", "search", "{}", lines, "ok", 0.1, 1)
    turns = [
        Turn([1, 2], [50 + index], [-1.0], "stop", 0, tool_calls=[call]),
        Turn([60 + index], [ord(answer[0]), 9], [-1.0, -2.0], "stop", 0),
    ]
    return Rollout(
        f"t{sample}_{index}", 1, str(sample), 1, index, "graded", turns, [], output_text=answer, reward=reward
    )


def test_an_answer_that_was_right_is_lent_to_those_that_had_it_before_them() -> None:
    rollouts = [
        searched(0, 0, "B", 1.0, "A x\nB y"),
        searched(0, 1, "A", 0.0, "A x\nB y"),
        searched(0, 2, "C", 0.2, "C z\nD w"),
        searched(0, 3, "A", 0.0, "A x\nC z\nB y"),
        searched(0, 4, "A", 0.0, "A x"),
    ]
    lessons = Replay(1.0, seed=0, borrows=True).lessons(1, [form_group("0", rollouts)])["0"]
    # The second and the fourth had it among several, and gave another.
    assert sorted(row.token_ids for row in lessons) == [
        [1, 2, 51, 61, ord("B"), 9],
        [1, 2, 53, 63, ord("B"), 9],
    ]
    assert all(row.sampled_positions == [4, 5] for row in lessons), "the call was its own"
    assert Replay(2.0, seed=0).lessons(1, [form_group("0", rollouts)]) == {}


def test_no_place_is_taught_much_more_often_than_another() -> None:
    groups = []
    for sample in range(12):
        lines = "B y\nA x\nC z" if sample else "A x\nC z\nB y"
        rollouts = [searched(sample, 0, "B", 1.0, lines)]
        rollouts += [searched(sample, index, "A", 0.0, lines) for index in range(1, 8)]
        groups.append(form_group(str(sample), rollouts))
    lessons = Replay(1.0, seed=0, borrows=True).lessons(1, groups)
    assert len(lessons["0"]) == 7
    assert sum(map(len, lessons.values())) == 7 + 14


def test_a_call_is_never_lent() -> None:
    right, wrong = searched(0, 0, "B", 1.0, "A x\nB y"), searched(0, 1, "A", 0.0, "A x\nB y")
    right.turns[-1].tool_calls = right.turns[0].tool_calls
    assert Replay(1.0, seed=0, borrows=True).lessons(1, [form_group("0", [right, wrong])]) == {}
