"""A job in one file: it says what the pages say, and loads nothing."""

import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pypdf import PdfReader

from agentrft.dashboard.report_file import report_html, report_of, report_pdf, write_charts
from tests.cli.commands import run_here
from tests.dashboard.conftest import Planted


class Loads(HTMLParser):
    """Addresses that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href") and value and value[:1] != "#"]


def test_a_report_is_one_file_with_words_numbers_and_charts(planted: Planted, tmp_path: Path) -> None:
    store, job_id = planted
    values = report_of(store, store.get_job(job_id))
    html = report_html(values)
    page = Loads()
    page.feed(re.sub(r"<script>.*?</script>", "", html, flags=re.S))
    assert page.found == []
    assert "uses bold text" in html and "the grader pays for it" in html and "beyond chance" in html
    specs = [json.loads(one) for one in re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)]
    assert len(specs) >= 8 and all(one["data"]["values"] for one in specs)
    written = write_charts(values, tmp_path / "charts")
    assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in written) and len(written) == len(specs)


def test_the_command_writes_it_beside_the_job_and_names_suspects(planted: Planted) -> None:
    store, job_id = planted
    told = run_here("report", "latest", "--output-dir", str(store.output_dir), "--json").answer
    assert told["job"] == job_id and told["suspects"] == ["uses bold text"]
    assert Path(told["file"]) == store.job_folder(job_id) / "report.html" and Path(told["file"]).is_file()


def folder_of(planted: Planted) -> dict[str, int]:
    store, job_id = planted
    return {str(path): path.stat().st_mtime_ns for path in store.job_folder(job_id).rglob("*")}


def report(planted: Planted, *options: str):
    store, job_id = planted
    return run_here("report", job_id, "--output-dir", str(store.output_dir), "--json", *options)


def test_a_report_elsewhere_leaves_the_jobs_folder_as_it_is(planted: Planted, tmp_path: Path) -> None:
    before = folder_of(planted)
    told = report(planted, "--out", str(tmp_path / "there" / "report.html")).answer
    assert told["suspects"] == ["uses bold text"] and Path(told["file"]).is_file()
    assert folder_of(planted) == before


def test_a_job_that_may_only_be_read_has_a_report(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = folder_of(planted)
    monkeypatch.setattr("agentrft.dashboard.runs.access", lambda path, mode: False)
    assert report(planted, "--out", str(tmp_path / "report.html")).answer["suspects"] == ["uses bold text"]
    store, job_id = planted
    assert report_of(store, store.get_job(job_id))["why"]["looked_at"] > 20
    assert folder_of(planted) == before


@pytest.mark.parametrize(("paper", "size"), [("A4", (595, 842)), ("letter", (612, 792))])
def test_a_report_as_pdf_has_all_words_on_pages_of_its_size(
    planted: Planted, tmp_path: Path, paper: str, size: tuple[int, int]
) -> None:
    told = report(planted, "--paper", paper, "--out", str(tmp_path / "report.pdf")).answer
    pdf = PdfReader(told["file"])
    assert 3 <= len(pdf.pages) <= 12
    assert {(round(page.mediabox.width), round(page.mediabox.height)) for page in pdf.pages} == {size}
    texts = [" ".join(page.extract_text().split()) for page in pdf.pages]
    text = " ".join(texts)
    for words in (
        "How it went",
        "Before and after",
        "uses bold text",
        "the grader pays for it",
        "Reward",
        "How to do it again",
    ):
        assert words in text
    assert all(f"{number} / {len(texts)}" in one for number, one in enumerate(texts, 1))
    assert "Light or dark" not in text
    # Whole pages of text, and none that a table or a chart runs out of.
    assert all(len(one) > 40 for one in texts)


def test_a_pdf_loads_nothing_whatever_an_answer_says(planted: Planted, tmp_path: Path) -> None:
    store, job_id = planted
    values = report_of(store, store.get_job(job_id))
    values["overview"]["failures"] = {"max_turns": 1}
    values["overview"]["failure_examples"] = {"max_turns": '<img src="file:///etc/hostname"><script>x</script>'}
    text = " ".join(page.extract_text() for page in PdfReader(io.BytesIO(report_pdf(values, "A4"))).pages)
    assert "file:///etc/hostname" in "".join(text.split())


def test_what_a_pdf_lacks_is_named_with_its_remedy(planted: Planted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weasyprint", None)
    failed = report(planted, "--pdf")
    assert failed.code == 2 and "pip install 'agentrft[pdf]'" in failed.answer["error"]["remedy"]


def test_a_chart_that_cannot_be_drawn_is_named(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> bytes:
        raise ValueError("Vega-Lite to PNG conversion failed:\nand much more")

    monkeypatch.setattr("vl_convert.vegalite_to_png", broken)
    failed = report(planted, "--charts", str(tmp_path / "charts"))
    assert failed.code == 2 and "the chart '" in failed.answer["error"]["cause"]


def test_where_charts_scripts_cannot_be_kept_the_command_says_what_to_do(
    planted: Planted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AGENTRFT_CACHE", str(tmp_path / "file" / "cache"))
    failed = report(planted, "--out", str(tmp_path / "report.html"))
    assert failed.code == 2 and "AGENTRFT_CACHE" in failed.answer["error"]["remedy"]
