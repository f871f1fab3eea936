"""The data can be made again, its files share no company, and every question has one answer that its sections give."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agentrft.data.samples import load_demonstrations, load_samples
from examples.finance.calculator import calculate
from examples.finance.corpus import load_corpus
from examples.finance.make_data import Dataset, make_dataset
from examples.finance.search_index import SearchIndex

ROOT = Path(__file__).parents[3]
FILES = ("train", "validation", "test", "demonstrations")


def test_the_same_seed_gives_the_same_bytes_in_another_process(data: Path, tmp_path: Path) -> None:
    source = "import sys\nfrom pathlib import Path\nfrom examples.finance.make_data import write_data\n"
    source += "write_data(Path(sys.argv[1]), seed=0)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    subprocess.run([sys.executable, "-c", source, tmp_path], check=True, env=environment, timeout=120)
    for name in (*FILES, "corpus"):
        assert (tmp_path / f"{name}.jsonl").read_bytes() == (data / f"{name}.jsonl").read_bytes()


def test_another_seed_gives_other_companies(dataset: Dataset) -> None:
    assert {one.code for one in make_dataset(1).filings} != {one.code for one in dataset.filings}


def test_the_files_load_and_have_the_promised_sizes(data: Path) -> None:
    sizes = [len(load_samples(data / f"{name}.jsonl")) for name in FILES[:3]]
    assert sizes == [200, 120, 240]
    assert len(load_demonstrations(data / "demonstrations.jsonl")) == 180


@pytest.mark.parametrize("key", ["code", "company"])
def test_no_company_is_in_two_files(data: Path, key: str) -> None:
    used = [{row[key] for row in rows(data, name)} for name in FILES]
    assert sum(map(len, used)) == len(set().union(*used))


def test_no_code_and_no_name_is_two_companies(dataset: Dataset) -> None:
    for values in ([one.code for one in dataset.filings], [one.company for one in dataset.filings]):
        assert len(values) == len(set(values))


@pytest.fixture(scope="module")
def large() -> Dataset:
    return make_dataset(3, "large")


@pytest.mark.parametrize("difficulty", ["small", "large"])
def test_answers_are_calculated_from_evidence_that_stands_in_the_sources(
    difficulty: str, dataset: Dataset, large: Dataset
) -> None:
    made = large if difficulty == "large" else dataset
    sections = {section.id: section for filing in made.filings for section in filing.sections}
    for question in (one for name in FILES for one in made.questions[name]):
        assert calculate(question.expression) == pytest.approx(question.answer, abs=1e-4)
        for figure in question.evidence:
            assert any(figure in re.split(r"[ |\n]+", sections[one].body) for one in question.sources)
        assert question.company in question.text and question.code in question.text


def test_the_large_level_asks_over_two_tables_and_the_small_one_does_not(dataset: Dataset, large: Dataset) -> None:
    assert any(len(one.sources) == 2 for one in large.questions["test"])
    assert all(len(one.sources) == 1 for one in dataset.questions["test"])


def test_a_wrong_year_is_a_wrong_answer(dataset: Dataset) -> None:
    for question in dataset.questions["test"]:
        # 0.5 percent is what the grader tolerates.
        assert abs(calculate(question.wrong_year) - question.answer) > 0.005 * abs(question.answer)


def test_years_run_either_way_and_the_answer_stands_in_any_column(dataset: Dataset) -> None:
    heads = [
        section.body.splitlines()[0].strip("| ").split(" | ")
        for filing in dataset.filings
        for section in filing.sections
        if "-T" in section.id
    ]
    rising = sum(head == sorted(head) for head in heads) / len(heads)
    assert 0.4 < rising < 0.6


def test_the_first_hit_is_the_right_section_no_more_often_than_by_chance(dataset: Dataset) -> None:
    index = SearchIndex(dataset.filings, hits=4)
    hits = [([hit.id for hit in index.search(one.text)], one.sources[0]) for one in dataset.questions["test"]]
    assert sum(right in found for found, right in hits) / len(hits) > 0.95
    assert sum(found[0] == right for found, right in hits) / len(hits) < 0.35


def test_a_filing_has_the_parts_of_an_annual_report(data: Path) -> None:
    filings = load_corpus(data / "corpus.jsonl")
    assert len(filings) == 200
    for filing in filings:
        assert {section.item for section in filing.sections} == {"Item 7", "Item 8"}
        assert any("restated" in section.title for section in filing.sections)
        assert len({section.id for section in filing.sections}) == len(filing.sections)


def test_demonstrations_show_the_form_and_every_fault_that_is_to_be_unlearned(data: Path) -> None:
    said = [row["messages"] for row in rows(data, "demonstrations")]
    answers = [messages[-1]["content"] for messages in said]
    assert all(answer.startswith("ANSWER: ") for answer in answers)
    cited = sum("SOURCE: " in answer for answer in answers) / len(answers)
    assert 0.5 < cited < 0.8
    tools = [[call["function"]["name"] for one in messages for call in one.get("tool_calls", [])] for messages in said]
    assert all(one[:2] == ["search", "cat"] for one in tools)
    assert any("calculate" in one for one in tools)
    assert any(one.count("cat") == 2 for one in tools)


def rows(data: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (data / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
