import json
from pathlib import Path

import pytest

from agentrft.data import load_demonstrations, load_samples
from agentrft.errors import UserError

USER = {"role": "user", "content": "Find the code."}
ASSISTANT = {"role": "assistant", "content": "It is E11."}


def write(path: Path, *lines: bytes | dict, newline: bytes = b"\n") -> Path:
    path.write_bytes(newline.join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines))
    return path


def test_the_item_is_the_whole_row_as_its_file_has_it(tmp_path: Path) -> None:
    tools = [{"type": "function", "function": {"name": "search"}}]
    parts = {
        "role": "user",
        "content": [{"type": "text", "text": "Find"}, {"type": "text", "text": "it."}],
        "name": None,
    }
    row = {"messages": [parts], "tools": tools, "parallel_tool_calls": False, "answer": "E11", "extra": {"deep": [1]}}
    (sample,) = load_samples(write(tmp_path / "train.jsonl", row))
    assert sample.messages == [{"role": "user", "content": "Find\nit."}]
    assert sample.tools == tools
    assert sample.item == row
    assert sample.own_keys == {"answer": "E11", "extra": {"deep": [1]}}


def test_a_demonstrations_item_is_the_whole_row_too(tmp_path: Path) -> None:
    row = {"messages": [USER, ASSISTANT], "answer": "E11"}
    (sample,) = load_demonstrations(write(tmp_path / "demonstrations.jsonl", row))
    assert sample.item == row


def test_windows_line_ends_and_blank_lines_are_accepted(tmp_path: Path) -> None:
    rows = [{"messages": [USER], "answer": str(number)} for number in range(3)]
    path = write(tmp_path / "train.jsonl", rows[0], b"", rows[1], b"   ", rows[2], b"", newline=b"\r\n")
    samples = load_samples(path)
    assert [sample.item["answer"] for sample in samples] == ["0", "1", "2"]
    assert [sample.sample_id[:5] for sample in samples] == ["00001", "00003", "00005"]


def test_a_sample_id_does_not_depend_on_the_line_ends(tmp_path: Path) -> None:
    rows = [{"messages": [USER], "answer": "a"}, {"messages": [USER], "answer": "b"}]
    unix = load_samples(write(tmp_path / "unix.jsonl", *rows))
    windows = load_samples(write(tmp_path / "windows.jsonl", *rows, newline=b"\r\n"))
    assert [sample.sample_id for sample in unix] == [sample.sample_id for sample in windows]
    assert len({sample.sample_id for sample in unix}) == 2


def test_all_faulty_lines_are_reported_at_once_with_line_and_field(tmp_path: Path) -> None:
    path = write(
        tmp_path / "train.jsonl",
        {"messages": [USER]},
        b"{not json",
        {"answer": "no messages"},
        {"messages": [{"role": "robot", "content": "hi"}]},
        b"[1, 2]",
        {"messages": [USER], "tools": [{"function": {}}]},
        {"messages": [{"role": "user"}, ASSISTANT]},
        {"messages": [USER, ASSISTANT]},
    )
    with pytest.raises(UserError) as error:
        load_samples(path)
    cause = error.value.cause
    assert "line 1:" not in cause
    assert "line 2: not valid JSON" in cause
    assert "line 3: messages:" in cause
    assert "line 4: messages[0].role:" in cause and "'robot'" in cause
    assert "line 5: expected a JSON object" in cause
    assert "line 6: tools[0].function.name:" in cause
    assert "line 7: messages[0].content:" in cause
    assert "line 8: messages: the last message" in cause


def test_a_line_that_is_not_utf8_is_reported_with_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", {"messages": [USER]}, b'{"messages": "\xff\xfe"}')
    with pytest.raises(UserError, match="line 2: not UTF-8 .byte 0xff at position 14.; save it as UTF-8"):
        load_samples(path)


def test_many_faults_are_counted_and_the_first_are_shown(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="50 fault") as error:
        load_samples(write(tmp_path / "train.jsonl", *[b"{"] * 50))
    assert "and 30 more" in error.value.cause


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\r\n  \r\n"])
def test_an_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match="no rows"):
        load_samples(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent.jsonl"):
        load_samples(tmp_path / "absent.jsonl")


def test_a_demonstration_must_end_in_an_assistants_message(tmp_path: Path) -> None:
    assert len(load_demonstrations(write(tmp_path / "good.jsonl", {"messages": [USER, ASSISTANT]}))) == 1
    with pytest.raises(UserError, match="line 1: messages: a demonstration must end"):
        load_demonstrations(write(tmp_path / "bad.jsonl", {"messages": [USER]}))


def test_tool_calls_in_demonstrations_are_checked(tmp_path: Path) -> None:
    call = {"role": "assistant", "tool_calls": [{"function": {"name": "search"}}]}
    with pytest.raises(UserError, match=r"messages\[1\]\.tool_calls\[0\]\.function\.arguments"):
        load_demonstrations(write(tmp_path / "bad.jsonl", {"messages": [USER, call, ASSISTANT]}))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"messages": [], "n": ' + b"9" * 5000 + b"}", "n: a number of 5000 digits; at most 300"),
        (b'{"deep": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested more than 100 deep"),
        (b'{"price": NaN}', "price: NaN is not a finite number"),
        (b'{"price": 1e999}', "price: 1e999 is too large for a number"),
        (b'{"messages": [{"role": "user", "content": "\\ud83d "}]}', "messages[0].content: half of a surrogate pair"),
        (b'{"answer": 1, "answer": 2}', "answer: the key is there twice"),
        ('{"answer": "é"}'.encode("latin-1"), "not UTF-8"),
        ('{"answer": 1}'.encode("utf-16"), "the text is UTF-16"),
    ],
)
def test_what_could_not_be_sent_or_stored_is_a_fault_of_its_line(tmp_path: Path, line: bytes, problem: str) -> None:
    with pytest.raises(UserError) as error:
        load_samples(write(tmp_path / "train.jsonl", line))
    assert f"line 1: {problem}" in error.value.cause


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "train.jsonl", {"messages": [USER]}, {"messages": [USER]})
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(load_samples(path)) == 2
