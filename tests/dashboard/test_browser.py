"""The pages as people see them, in Chromium: light and dark, narrow and wide, by keyboard and by pointer, and live."""

import itertools
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route

from agentrft.store import JobStore
from agentrft.store.layout import TRAIN
from tests.dashboard.browsing import drawn, listen, serious_findings, take_picture, until
from tests.dashboard.conftest import Planted
from tests.dashboard.stored_runs import commit, stored_job
from tests.report.why.planted import Run, honest

pytestmark = pytest.mark.browser

NAMES = ("jobs", "overview", "groups", "rollouts", "rollout", "why", "compare", "data", "tools")
LIVE_S = 2.0


@dataclass
class Shown:
    """Pages of a folder that is served, and the paths of its finished job's."""

    url: str
    store: JobStore
    job_id: str

    def path(self, name: str) -> str:
        job = f"/jobs/{self.job_id}"
        paths = {"jobs": "/", "overview": job, "why": f"{job}/why?behaviour=uses+bold+text"}
        paths |= {"compare": f"{job}/compare?sample=v1", "rollout": f"{job}/rollouts/trace_0_2_s2-1_3"}
        return f"{self.url}{paths.get(name, f'{job}/{name}')}"


@pytest.fixture(scope="session")
def shown(planted: Planted) -> Iterator[Shown]:
    store, job_id = planted
    command = [sys.executable, "-m", "agentrft.cli", "dashboard", str(store.output_dir), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert found is not None
        until(lambda: httpx.get(f"{found[0]}/jobs/{job_id}/why.json").json()["steps_missing"] == 0, 60)
        httpx.get(f"{found[0]}/static/vega.js", timeout=120)
        yield Shown(found[0], store, job_id)
        process.terminate()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of 1,280 pixels that may not say anything on its console."""
    with chromium.new_context(viewport={"width": 1280, "height": 900}) as context:
        opened = context.new_page()
        said = listen(opened)
        yield opened
        assert said == []


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", NAMES)
def test_every_page_is_whole_readable_and_as_wide_as_its_window(
    chromium: Browser, shown: Shown, name: str, scheme: str, width: int
) -> None:
    with chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = context.new_page()
        said = listen(page)
        page.goto(shown.path(name))
        drawn(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert serious_findings(page) == [] and said == []
        take_picture(page, f"{name}-{scheme}-{width}")


@pytest.mark.parametrize("name", NAMES)
def test_no_link_of_a_page_is_dead(page: Page, shown: Shown, name: str) -> None:
    page.goto(shown.path(name))
    every = "all => all.map((one) => one.href.baseVal ? new URL(one.href.baseVal, location).href : one.href)"
    links = {one.partition("#")[0] for one in page.eval_on_selector_all("a[href]", every)}
    assert len(links) > 2 or name == "jobs"
    answers = {link: httpx.get(link).status_code for link in links if link.startswith(shown.url)}
    assert set(answers.values()) == {200}, answers
    anchors = page.eval_on_selector_all("a[href^='#']", "all => all.map((one) => one.getAttribute('href').slice(1))")
    assert all(page.locator(f"#{one}").count() == 1 for one in anchors)


def test_a_filter_that_is_filled_in_gives_what_its_address_gives(page: Page, shown: Shown) -> None:
    page.goto(f"{shown.url}/jobs/{shown.job_id}/rollouts")
    page.fill("#filter-behaviour", "uses bold text")
    page.fill("#filter-low", "0.5")
    page.select_option("#filter-sort", "reward")
    page.select_option("#filter-order", "desc")
    page.click("#filter-go")
    wanted = httpx.get(page.url.replace("/rollouts?", "/rollouts.json?")).json()
    assert wanted["filter"]["behaviour"] == "uses bold text" and wanted["filter"]["low"] == 0.5
    rows = page.locator("table tr:has(td)")
    assert rows.count() == min(50, wanted["total"])
    assert all("**" in text for text in page.locator("td.answer").all_inner_texts())
    page.click("#filter-none")
    assert page.url.endswith("/rollouts")


def test_the_step_bar_leads_every_view_and_pages_can_be_gone_through_by_keyboard(page: Page, shown: Shown) -> None:
    page.goto(f"{shown.url}/jobs/{shown.job_id}/groups")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "step-3":
            break
    page.keyboard.press("Enter")
    page.wait_for_url("**/groups?step=3")
    assert page.locator("#step-3").get_attribute("aria-current") == "step"
    page.click("#tab-rollouts")
    page.wait_for_url("**/rollouts?step=3")
    assert {row.split("\t")[1] for row in page.locator("table tr:has(td)").all_inner_texts()} == {"3"}


def test_light_and_dark_are_chosen_once_for_all_pages(page: Page, shown: Shown) -> None:
    page.goto(shown.path("overview"))
    drawn(page)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    after = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.goto(shown.path("why"))
    assert before != after == page.evaluate("getComputedStyle(document.body).backgroundColor")


@pytest.mark.parametrize("by", ["surprise", "advantage", "entropy", "moved"])
def test_tokens_can_be_shaded_by_what_is_known_of_them(page: Page, shown: Shown, by: str) -> None:
    page.goto(shown.path("rollout"))
    page.click(f"#shade-{by}")
    assert page.locator(f"#shade-{by}").get_attribute("aria-pressed") == "true"
    assert page.locator("[data-shade][aria-pressed=true]").count() == 1
    assert page.locator(f".tokens.by-{by}").count() == page.locator(".tokens").count() > 0
    colours = "all => new Set(all.map((one) => getComputedStyle(one).backgroundColor)).size"
    assert page.eval_on_selector_all(".tokens span", colours) > (1 if by in ("entropy", "moved") else 0)
    assert "entropy" in (page.locator(".tokens span").nth(1).get_attribute("title") or "")


def test_a_running_job_is_followed_and_what_is_unfolded_stays_so(page: Page, shown: Shown) -> None:
    steps = Run(honest, seed=3, steps=4).rolled_out()
    job_id = stored_job(shown.store, steps[:2], name="running", status="running", validation=False)
    shown.store.set_total_steps(job_id, 4)
    page.goto(f"{shown.url}/jobs/{job_id}")
    drawn(page)
    page.click("#hyperparameters summary")
    commit(shown.store, job_id, TRAIN, 3, steps[2])
    began = time.monotonic()
    page.wait_for_selector("#step-3", timeout=LIVE_S * 1000 + 1000)
    took = time.monotonic() - began
    assert page.locator("#hyperparameters").get_attribute("open") is not None
    drawn(page)
    assert took <= LIVE_S, f"{took:.1f} s"
    shown.store.set_status(job_id, "succeeded")
    page.wait_for_selector(".status.succeeded", timeout=5000)


class Answers:
    """What a page that is followed asks for, and how it is answered: after so long, by the server or by nobody."""

    def __init__(self, page: Page, url: str) -> None:
        self.delay_s, self.is_down = 0.0, False
        self.asked: list[float] = []
        self.statuses: list[int] = []
        self.open = self.most_open = 0
        page.route(lambda one: one.partition("?")[0] == url, self._answer)

    def _answer(self, route: Route) -> None:
        if route.request.resource_type == "document":
            route.continue_()
            return
        self.asked.append(time.monotonic())
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        if self.is_down:
            route.abort()
        else:
            answer = route.fetch()
            self.statuses.append(answer.status)
            time.sleep(self.delay_s)
            route.fulfill(response=answer)
        self.open -= 1


def running(shown: Shown, name: str) -> str:
    job_id = stored_job(
        shown.store, Run(honest, seed=6, steps=1).rolled_out(), name=name, status="running", validation=False
    )
    until(lambda: httpx.get(f"{shown.url}/jobs/{job_id}/why.json").json()["steps_missing"] == 0, 60)
    return job_id


def test_one_question_at_a_time_is_asked_and_where_nothing_is_new_nothing_is_sent(page: Page, shown: Shown) -> None:
    url = f"{shown.url}/jobs/{running(shown, 'slow')}"
    page.goto(url)
    answers = Answers(page, url)
    answers.delay_s = 2.0
    page.wait_for_timeout(7500)
    assert answers.most_open == 1 and 2 <= len(answers.asked) <= 3
    assert set(answers.statuses) == {304}


def test_a_tab_that_nobody_sees_asks_nothing_until_it_is_seen(page: Page, shown: Shown) -> None:
    job_id = running(shown, "hidden")
    url = f"{shown.url}/jobs/{job_id}"
    page.goto(url)
    page.evaluate("Object.defineProperty(document, 'hidden', { configurable: true, get: () => window.away ?? false })")
    page.evaluate("window.away = true")
    page.wait_for_timeout(1500)
    answers = Answers(page, url)
    page.wait_for_timeout(4000)
    assert answers.asked == []
    shown.store.set_status(job_id, "succeeded")
    page.evaluate("window.away = false; document.dispatchEvent(new Event('visibilitychange'))")
    page.wait_for_selector(".status.succeeded", timeout=5000)


def test_a_server_that_is_gone_is_asked_less_and_less_and_the_page_stays(chromium: Browser, shown: Shown) -> None:
    url = f"{shown.url}/jobs/{running(shown, 'gone')}"
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(url)
        answers = Answers(page, url)
        answers.is_down = True
        page.wait_for_timeout(9500)
        gaps = [after - before for before, after in itertools.pairwise(answers.asked)]
        assert len(gaps) == 2 and gaps[0] > 2 and gaps[1] > 2 * gaps[0] - 1
        assert page.locator("h1").count() == 1


def test_a_page_follows_as_long_as_rollouts_are_being_looked_through(page: Page, shown: Shown) -> None:
    job_id = stored_job(shown.store, Run(honest, seed=4, steps=3).rolled_out(), name="fresh", validation=False)
    page.goto(f"{shown.url}/jobs/{job_id}/why")
    page.wait_for_selector("text=behaviours were found", timeout=30_000)
    assert page.locator("main").get_attribute("data-live") == "no"


def test_an_empty_folder_has_a_page(chromium: Browser, tmp_path: Path) -> None:
    JobStore(tmp_path / "runs").close()
    command = [sys.executable, "-m", "agentrft.cli", "dashboard", str(tmp_path / "runs"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        assert found is not None
        with chromium.new_context() as context:
            page = context.new_page()
            said = listen(page)
            page.goto(found[0])
            assert "There are no jobs here yet" in page.inner_text("main")
            assert said == []
        process.terminate()
