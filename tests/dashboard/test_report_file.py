"""A job in one file: it says what the pages say, and loads nothing."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

from agentrft.dashboard.report_file import report_html, report_of, write_charts
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
