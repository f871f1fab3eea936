"""A token tree holds each distinct prefix of its rows once, and every row can be read back from it."""

from hypothesis import given
from hypothesis import strategies as st

from agentrft.learner import TrainingRow
from agentrft.learner.token_tree import TokenTree, build_token_tree

ROWS = st.lists(st.lists(st.integers(0, 2), max_size=12), min_size=1, max_size=8)


def tree_of(rows: list[list[int]]) -> TokenTree:
    return build_token_tree([TrainingRow(tokens, [], [], index) for index, tokens in enumerate(rows)])


@given(ROWS)
def test_every_row_is_read_back_along_its_layout(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    assert [[tree.token_ids[i] for i in layout] for layout in tree.row_layout] == rows
    assert tree.total_tokens == sum(map(len, rows))


@given(ROWS)
def test_a_tokens_position_is_its_depth_in_every_row_that_has_it(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    for layout in tree.row_layout:
        assert [tree.position_ids[i] for i in layout] == list(range(len(layout)))


@given(ROWS)
def test_there_are_as_many_tokens_as_distinct_prefixes(rows: list[list[int]]) -> None:
    prefixes = {tuple(tokens[: end + 1]) for tokens in rows for end in range(len(tokens))}
    assert tree_of(rows).unique_tokens == len(prefixes)


@given(ROWS)
def test_segments_cover_the_layout_in_order(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    covered = [i for segment in tree.segments for i in range(segment.start, segment.end)]
    assert covered == list(range(tree.unique_tokens))


@given(ROWS)
def test_a_token_sees_exactly_its_path_from_the_root(rows: list[list[int]]) -> None:
    tree = tree_of(rows)
    seen = {}
    for segment in tree.segments:
        above = [i for start, end in segment.ancestors for i in range(start, end)]
        for index in range(segment.start, segment.end):
            seen[index] = [*above, *range(segment.start, index + 1)]
    for layout in tree.row_layout:
        for depth, index in enumerate(layout):
            assert seen[index] == layout[: depth + 1]


@given(ROWS)
def test_adjacent_ancestors_are_one_range(rows: list[list[int]]) -> None:
    for segment in tree_of(rows).segments:
        for left, right in zip(segment.ancestors, segment.ancestors[1:], strict=False):
            assert left[1] < right[0]


def test_branches_follow_the_order_of_the_rows() -> None:
    tree = tree_of([[5, 6, 7], [5, 6, 8, 9], [5, 1]])
    assert tree.token_ids == [5, 6, 7, 8, 9, 1]
    assert tree.position_ids == [0, 1, 2, 2, 3, 1]
    assert [segment.ancestors for segment in tree.segments] == [(), ((0, 1),), ((0, 2),), ((0, 2),), ((0, 1),)]
