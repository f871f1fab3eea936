"""The site is built without a warning; its links lead somewhere, every page is in its navigation, and nothing of it
comes from another host."""

import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import cache, partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.markdown import ROOT

SITE = ROOT / "build/site"
PAGES = sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))
# Attributes by which a browser loads something while it shows a page; `href` of these elements alone.
LOADS = {"src", "srcset", "poster", "data"}
LOADING_LINKS = {"link", "use", "image"}
# A link tells who reads the page where something is; nothing is loaded before it is followed.
RELATIONS = {"canonical", "prev", "next"}


class Html(HTMLParser):
    """Of a page: its anchors, its links, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.styles.append(given.get("style", ""))
        self.loaded += [value for name, value in given.items() if name in LOADS]
        if "href" in given:
            of_page = tag in LOADING_LINKS and given.get("rel") not in RELATIONS
            (self.loaded if of_page else self.links).append(given["href"])

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles.append(data)


@pytest.fixture(scope="session")
def site() -> Path:
    """The site, built as `make docs` builds it."""
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    said = ended.stdout + ended.stderr
    assert ended.returncode == 0, said
    # What is odd in a docstring is only printed.
    assert not re.search(r"^griffe|warning", said, re.MULTILINE | re.IGNORECASE), said
    return SITE


@cache
def parsed(path: Path) -> Html:
    return Html(path.read_text(encoding="utf-8"))


def html_of(page: str) -> Path:
    return (SITE / page).with_suffix(".html")


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_anchor_of_the_site_leads_somewhere(site: Path, page: str) -> None:
    here = html_of(page)
    for link in (*parsed(here).links, *parsed(here).loaded):
        parts = urlsplit(link)
        if parts.scheme or parts.netloc:
            continue
        target = (here.parent / unquote(parts.path)).resolve() if parts.path else here
        target = target / "index.html" if target.is_dir() else target
        assert target.is_relative_to(site) and target.is_file(), f"{page}: {link}"
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in parsed(target).anchors, f"{page}: {link}"


@pytest.mark.parametrize("page", [*PAGES, "404.html"])
def test_no_page_loads_anything_from_another_host(site: Path, page: str) -> None:
    html = parsed(html_of(page))
    foreign = [one for one in html.loaded if urlsplit(one).netloc or urlsplit(one).scheme not in ("", "data")]
    assert not foreign
    assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", " ".join(html.styles))


def test_no_stylesheet_loads_anything_from_another_host(site: Path) -> None:
    styles = list(site.rglob("*.css"))
    assert styles
    for path in styles:
        assert not re.search(r"url\(\s*['\"]?(https?:)?//|@import", path.read_text(encoding="utf-8")), path.name


def test_every_page_is_in_the_navigation(site: Path) -> None:
    def pages(entries: Any) -> Iterator[str]:
        for entry in entries:
            for value in entry.values() if isinstance(entry, dict) else [entry]:
                yield from [value] if isinstance(value, str) else pages(value)

    configured = list(pages(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
    assert sorted(configured) == PAGES
    shown = {(site / link).resolve() for link in parsed(site / "index.html").links if not urlsplit(link).scheme}
    assert {html_of(page) for page in PAGES} <= {*shown, site / "index.html"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_begins_with_what_its_reader_can_do_afterwards(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    first = re.sub(r"^# .+\n", "", text).lstrip()
    assert first.startswith("After this page you "), first[:200]


@pytest.fixture
def address(site: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of the site: served, or as files."""
    if request.param == "files":
        yield site.as_uri()
        return
    handler = partial(QuietHandler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("address", ["server", "files"], indirect=True)
def test_the_search_finds_and_nothing_leaves_the_site(address: str, scheme: Any, chromium: Any) -> None:
    page = chromium.new_page(color_scheme=scheme)
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{address}/graders.html")
    assert page.evaluate("document.body.getAttribute('data-md-color-scheme')") == (
        "slate" if scheme == "dark" else "default"
    )
    page.keyboard.press("/")
    page.get_by_placeholder("Search").fill("idempotency")
    result = page.locator("a[href*='tools.html']", has_text=re.compile("idempot", re.IGNORECASE)).first
    result.wait_for(timeout=30_000)
    pictures = ROOT / "build/pages"
    pictures.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=pictures / f"docs-{scheme}-{address.partition(':')[0]}.png")
    page.close()
    assert not problems
    assert {url for url in asked if not url.startswith((address, "data:", "about:", "blob:"))} == set()
