"""The data can be made again, hold nothing of each other, and are notes of the promised kind."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentrft.data.samples import load_demonstrations, load_samples
from examples.medical_notes.codes import CodeSet, category, sex_of
from examples.medical_notes.difficulty import DIFFICULTIES
from examples.medical_notes.make_data import SIZES, read_rows, write_data
from tests.examples.medical_notes.conftest import CATEGORIES

ROOT = Path(__file__).parents[3]
FILES = tuple(SIZES)


def rows_of(data: Path) -> list[dict[str, Any]]:
    return [row for name in FILES for row in read_rows(data / f"{name}.jsonl")]


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    small_data: Path, tmp_path: Path, codes: CodeSet
) -> None:
    for seed in (0, 1):
        write_data(tmp_path / str(seed), seed, "small", codes)
    for name in FILES:
        written = (small_data / f"{name}.jsonl").read_bytes()
        assert (tmp_path / "0" / f"{name}.jsonl").read_bytes() == written
        assert (tmp_path / "1" / f"{name}.jsonl").read_bytes() != written


@pytest.mark.slow  # loads the code set once more
def test_the_same_seed_gives_the_same_bytes_in_another_process(small_data: Path, tmp_path: Path) -> None:
    source = (
        "import sys\nfrom pathlib import Path\n"
        "from examples.medical_notes.codes import load_codes\nfrom examples.medical_notes.make_data import write_data\n"
        "write_data(Path(sys.argv[1]), 0, 'small', load_codes(sys.argv[2:]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    command = [sys.executable, "-c", source, tmp_path, *sorted(CATEGORIES)]
    subprocess.run(command, check=True, env=environment, timeout=120)
    for name in FILES:
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (small_data / f"{name}.jsonl").read_bytes()


def test_the_files_load_and_have_the_promised_sizes(data: Path) -> None:
    assert len(load_samples(data / "train.jsonl")) == 200
    assert len(load_samples(data / "validation.jsonl")) >= 100
    assert len(load_samples(data / "test.jsonl")) >= 200
    assert len(load_demonstrations(data / "demonstrations.jsonl")) == SIZES["demonstrations"]


def test_no_category_of_codes_is_in_two_files_coded_or_not(data: Path) -> None:
    used = [
        {category(finding["code"]) for row in read_rows(data / f"{name}.jsonl") for finding in row["findings"]}
        for name in FILES
    ]
    assert sum(len(categories) for categories in used) == len(set().union(*used))


def test_a_note_names_each_finding_once_and_gives_no_code_away(data: Path) -> None:
    for row in rows_of(data):
        note = row["messages"][1]["content"]
        for finding in row["findings"]:
            assert note.count(finding["sentence"]) == 1
            assert finding["term"].lower() in finding["sentence"].lower()
            assert finding["code"] not in note


def test_exactly_what_the_patient_has_now_is_the_answer(data: Path) -> None:
    for row in rows_of(data):
        assert row["answer"] == [finding["code"] for finding in row["findings"] if finding["kind"] == "now"]


def test_no_credit_for_a_close_code_can_come_from_a_finding_that_is_not_coded(data: Path) -> None:
    for row in rows_of(data):
        categories = [category(finding["code"]) for finding in row["findings"]]
        assert len(categories) == len(set(categories))


def test_notes_have_as_many_findings_as_their_difficulty_says(data: Path, difficulty: str) -> None:
    level = DIFFICULTIES[difficulty]
    rows = rows_of(data)
    counts = {len(row["answer"]) for row in rows}
    assert (min(counts), max(counts)) == level.n_now
    others = {len(row["findings"]) - len(row["answer"]) for row in rows}
    assert (min(others), max(others)) == level.n_not_coded
    assert {finding["kind"] for row in rows for finding in row["findings"]} == {"now", *level.not_coded}


def test_the_place_in_the_note_does_not_say_whether_a_finding_is_coded(small_data: Path) -> None:
    for place in (0, -1):
        kinds = [row["findings"][place]["kind"] for row in rows_of(small_data)]
        assert 0.2 < kinds.count("now") / len(kinds) < 0.95


def test_a_name_whose_words_describe_another_disease_is_not_used(codes: CodeSet) -> None:
    def words(text: str) -> set[str]:
        return set(re.findall(r"[a-z']+", text.lower()))

    described = {hit.code: words(hit.description) for hit in codes.hits}
    for name in codes.names:
        meant = words(name.term)
        others = [code for code, said in described.items() if meant <= said and category(code) != category(name.code)]
        assert not others or meant <= described[name.code], f"{name}: {others}"


def test_nobody_has_a_diagnosis_of_the_other_sex(data: Path, codes: CodeSet) -> None:
    sexes = {name.term: sex_of(name) for name in codes.names}
    assert {"man", "woman"} <= set(sexes.values())
    for row in rows_of(data):
        patient = row["messages"][1]["content"].split("-year-old ")[1].split(".")[0]
        assert all(sexes[finding["term"]] in (None, patient) for finding in row["findings"])


def test_demonstrations_are_right_in_form_and_leave_something_to_find_out(small_data: Path) -> None:
    rows = read_rows(small_data / "demonstrations.jsonl")
    calls = [[len(m["tool_calls"]) for m in row["messages"] if "tool_calls" in m] for row in rows]
    assert all(row["messages"][-1]["content"] for row in rows)
    assert {1, 2} == {n for turns in calls for n in turns}, "some search side by side, most do not"
    assert sum(max(turns) == 1 for turns in calls) > len(rows) / 2
    answers = [set(row["messages"][-1]["content"].split()) for row in rows]
    not_coded = [{f["code"] for f in row["findings"] if f["kind"] != "now"} for row in rows]
    assert any(answer == set(row["answer"]) for answer, row in zip(answers, rows, strict=True))
    assert any(answer & wrong for answer, wrong in zip(answers, not_coded, strict=True))


def test_a_level_that_there_is_not_is_refused(tmp_path: Path, codes: CodeSet) -> None:
    with pytest.raises(KeyError, match="huge"):
        write_data(tmp_path, 0, "huge", codes)
