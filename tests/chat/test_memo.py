"""What was asked for lately is not made again."""

from agentrft.chat.memo import Memo


def test_the_last_results_are_kept_and_no_more() -> None:
    made: list[str] = []

    def make(key: str) -> str:
        made.append(key)
        return key.upper()

    memo: Memo[str] = Memo(2)
    for key in ("a", "b", "a", "c", "b", "a"):
        assert memo.get(key, lambda key=key: make(key)) == key.upper()
    assert made == ["a", "b", "c", "a"]
