"""The pages of a server as people use them, in Chromium: jobs are created, steered and cloned, graders tried, models
talked to; behind a key, which the browser sends as a password.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import OpenAI
from playwright.sync_api import Browser, Page, expect

from agentrft.server.records import Records
from tests.dashboard.browsing import listen, serious_findings, take_picture
from tests.job.tiny_job import serving
from tests.server.live import MODEL, QUICK, Live, live, method, open_store, upload, wait_for
from tests.traffic.chaos_server import ChaosServer

pytestmark = pytest.mark.browser

SECRET = "Bearer only-the-tool-may-see-this"
HEADERS = {"Authorization": SECRET}
SHORTER = "def grade(sample, item):\n    return 1.0 - min(1.0, len(sample['output_text']) / 20)\n"
SHORTER_IS_BETTER = {"type": "python", "name": "length", "trusted": True, "source": SHORTER}


@dataclass
class Served:
    """A server with a key, a job of it that has ended, and the tool that its jobs call."""

    server: Live
    client: OpenAI
    key: str
    tools: ChaosServer
    files: dict[str, str]
    job_id: str

    @property
    def url(self) -> str:
        return f"{self.server.url.removesuffix('/v1')}/dashboard"


def asked_for(tools: ChaosServer, **changes: Any) -> dict[str, Any]:
    """A method whose tool has a secret."""
    made = method(tools.url, **changes)
    made["reinforcement"]["tools"][0]["headers"] = HEADERS
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    with serving(ChaosServer()) as tools, live(folder / "data", tiny_model) as server:
        with open_store(server) as store:
            _, key = Records(store).create_key("team")
        client = server.client(key)
        files = upload(client, folder / "rows")
        job = client.fine_tuning.jobs.create(
            model=MODEL,
            training_file=files["train"],
            validation_file=files["validation"],
            suffix="first",
            method=asked_for(tools),  # type: ignore[arg-type]
            extra_body=QUICK,
        )
        wait_for(client, job.id, "succeeded")
        yield Served(server, client, key, tools, files, job.id)


@pytest.fixture
def page(chromium: Browser, served: Served) -> Iterator[Page]:
    credentials: Any = {"username": "me", "password": served.key}
    with chromium.new_context(viewport={"width": 1280, "height": 900}, http_credentials=credentials) as context:
        opened = context.new_page()
        opened.set_default_timeout(60_000)
        said = listen(opened)
        yield opened
        # A refused request is an answer that the page shows; the browser notes it, too.
        assert [one for one in said if "the server responded with a status of 4" not in one] == []


def write(page: Page, request: dict[str, Any] | str) -> None:
    page.fill("#new-text", request if isinstance(request, str) else yaml.safe_dump(request))


def test_a_job_is_created_from_pasted_yaml_paused_resumed_and_cancelled(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/")
    page.click("#new-job-link")
    write(page, "model: [")
    expect(page.locator("#new-said")).to_contain_text("not valid YAML")
    request: dict[str, Any] = {"model": MODEL, "training_file": served.files["train"], **QUICK}
    request["method"] = asked_for(served.tools, hyperparameters={"max_steps": 400, "batch": 2})
    write(page, request)
    expect(page.locator("#new-said")).to_contain_text("batch")
    expect(page.locator("#new-create")).to_be_disabled()
    del request["method"]["reinforcement"]["hyperparameters"]["batch"]
    write(page, request)
    expect(page.locator("#new-create")).to_be_enabled()
    page.select_option("#new-validation_file", served.files["validation"])
    page.fill("#new-suffix", "second")
    expect(page.locator("#new-text")).to_have_value(
        re.compile(rf"^validation_file: {served.files['validation']}$", re.M)
    )
    expect(page.locator("#new-create")).to_be_enabled()
    page.click("#new-create")
    page.wait_for_url("**/jobs/ftjob-*")
    job_id = page.url.rpartition("/")[2]
    created = served.client.fine_tuning.jobs.retrieve(job_id)
    assert (
        created.to_dict()["user_provided_suffix"] == "second" and created.validation_file == served.files["validation"]
    )
    wait_for(served.client, job_id, "running")
    page.click(f"#pause-{job_id}")
    expect(page.locator(f"#resume-{job_id}")).to_be_visible()
    wait_for(served.client, job_id, "paused")
    expect(page.locator("#where .status")).to_have_text("paused")
    page.click(f"#resume-{job_id}")
    wait_for(served.client, job_id, "running")
    # By keyboard, and only when it was meant.
    page.goto(f"{served.url}/")
    page.focus(f"#cancel-{job_id}")
    page.keyboard.press("Enter")
    expect(page.locator(f"#cancel-{job_id}")).to_have_text("cancel for good?")
    assert served.client.fine_tuning.jobs.retrieve(job_id).status == "running"
    page.keyboard.press("Enter")
    wait_for(served.client, job_id, "cancelled")
    expect(page.locator(f"tr:has(#{job_id}) .status")).to_have_text("cancelled")
    expect(page.locator(f"#cancel-{job_id}")).to_have_count(0)


def test_an_uploaded_file_becomes_the_training_file(page: Page, served: Served, tmp_path: Path) -> None:
    rows = tmp_path / "mine.jsonl"
    rows.write_text('{"messages": [{"role": "user", "content": "Colour of sand?"}], "word": "sand"}\n')
    page.goto(f"{served.url}/new")
    page.set_input_files("#new-upload", rows)
    expect(page.locator("#new-text")).to_have_value(re.compile(r"^training_file: file-\w+$", re.M))
    expect(page.locator("#new-training_file")).to_have_value(re.compile(r"file-\w+"))
    (stored,) = (one for one in served.client.files.list() if one.filename == "mine.jsonl")
    assert served.client.files.content(stored.id).text == rows.read_text()


def test_a_clone_is_the_same_job_with_the_secrets_of_the_first(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/jobs/{served.job_id}")
    page.click(f"#clone-{served.job_id}")
    text = page.locator("#new-text").input_value()
    assert SECRET not in text and "***" in text and f"secrets_from: {served.job_id}" in text
    page.wait_for_selector("#new-create:enabled")
    before = len(served.tools.received)
    page.click("#new-create")
    page.wait_for_url("**/jobs/ftjob-*")
    job_id = page.url.rpartition("/")[2]
    assert job_id != served.job_id
    first, second = (served.client.fine_tuning.jobs.retrieve(one) for one in (served.job_id, job_id))
    assert second.method == first.method and second.to_dict()["user_provided_suffix"] == "first"
    wait_for(served.client, job_id, "succeeded")
    sent = {one.headers.get("Authorization") for one in served.tools.received[before:]}
    assert sent == {SECRET}


def test_a_tool_is_called_an_answer_graded_and_a_changed_grader_tried(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/jobs/{served.job_id}/playground")
    expect(page.locator("#try-tool")).to_have_value("lookup")
    page.fill("#try-arguments", '{"word": "sand"}')
    page.click("#try-call")
    expect(page.locator("#try-called")).to_contain_text("fine")
    last = served.tools.received[-1]
    assert last.headers["Authorization"] == SECRET and last.body["item"]["word"]
    page.fill("#try-answer", "x" * 10)
    page.click("#try-grade")
    expect(page.locator("#try-graded")).to_contain_text("Score 0.5")
    page.click("#try-regrade")
    summary = page.locator("#try-regraded")
    expect(summary).to_contain_text("; 0 of ")
    page.fill("#try-grader", yaml.safe_dump(SHORTER_IS_BETTER))
    page.click("#try-regrade")
    expect(summary).not_to_contain_text("; 0 of ")
    row = page.locator("#try-rollouts tr[data-trace]").first
    assert float(row.locator(".now").inner_text()) == pytest.approx(
        1 - float(row.get_attribute("data-before") or 0), abs=2e-3
    )
    page.fill("#try-grader", "type: python\nsource: 'def grade(sample, item): return 1 / 0'\n")
    page.click("#try-grade")
    expect(page.locator("#try-graded")).to_contain_text("ZeroDivisionError")
    page.fill("#try-grader", "type: nothing")
    page.click("#try-regrade")
    expect(summary).to_have_class("bad")


def test_two_checkpoints_are_talked_to_with_the_jobs_tool(page: Page, served: Served) -> None:
    page.goto(f"{served.url}/jobs/{served.job_id}/chat")
    assert (
        page.locator("#filter-a").input_value()
        == served.client.fine_tuning.jobs.retrieve(served.job_id).fine_tuned_model
    )
    assert page.locator("#filter-b").input_value() == MODEL
    expect(page.locator("#chat-text")).to_have_value(re.compile("Colour of"))
    before = len(served.tools.received)
    page.click("#chat-send")
    expect(page.locator("#chat-said")).to_have_text("Both have answered.", timeout=120_000)
    for side in ("a", "b"):
        log = page.locator(f"#chat-{side} .said-by")
        expect(log.locator(".tool").first).to_contain_text("fine")
        assert log.locator(".assistant").last.inner_text().strip()
    assert {one.headers["Authorization"] for one in served.tools.received[before:]} == {SECRET}
    page.click("#chat-anew")
    expect(page.locator("#chat-a .said-by .one")).to_have_count(0)


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["new", "jobs-of-a-server", "playground", "chat"])
def test_pages_with_controls_are_readable_and_as_wide_as_their_window(
    chromium: Browser, served: Served, name: str, scheme: Any, width: int
) -> None:
    paths = {"new": f"new?from={served.job_id}", "jobs-of-a-server": ""}
    credentials: Any = {"username": "me", "password": served.key}
    with chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, http_credentials=credentials
    ) as context:
        page = context.new_page()
        said = listen(page)
        page.goto(f"{served.url}/{paths.get(name, f'jobs/{served.job_id}/{name}')}")
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == [] and said == []
        take_picture(page, f"{name}-{scheme}-{width}")
