"""A browser, if one is here, and pages of made-up runs opened in it by file://."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report.made_up import TITLES, make_run

from cnnviz_cli.config.command_line import figure_commands
from cnnviz_cli.report import ReportOptions, write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


@cache
def missing() -> str:
    """What is not here of what a browser test needs, in words; nothing if all is."""
    if find_spec("playwright") is None:
        return "playwright is not installed: pip install 'cnnviz-cli[dev]'"
    return "" if CHROMIUM else "no Chromium is here: apt-get install --no-install-recommends chromium"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("browser") and missing():
            item.add_marker(pytest.mark.skip(reason=missing()))


@dataclass(frozen=True)
class Pages:
    """Where the pages of the two runs are."""

    folder: Path
    single: Path
    photos: Path
    runs: tuple[Path, Path]


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Pages:
    """One page of two runs with its data beside it, and one that holds all of it."""
    root = tmp_path_factory.mktemp("report")
    photos = root / "photos"
    runs = make_run(root / "real", photos, weights="trained"), make_run(root / "control", photos, weights="random:1")
    options = {"photos": (photos,), "titles": TITLES, "commands": figure_commands}
    folder = write_report(runs, ReportOptions(**options, title="Two checkpoints")).path  # type: ignore[arg-type]
    single = root / "mail" / "report.html"
    write_report(runs, ReportOptions(**options, output=single, single_file=True))  # type: ignore[arg-type]
    return Pages(folder, single, photos, runs)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu"],
        )
        yield opened
        opened.close()


@dataclass
class Tabs:
    """Pages of one profile without a network. They are used again: a new one costs a process.

    Attributes:
        said: what consoles say that they should not, and what is asked for that is no file.
    """

    context: BrowserContext
    said: list[str] = field(default_factory=list)
    kept: list[Page] = field(default_factory=list)

    def take(self, number: int) -> Page:
        """The page of this number, from 0."""
        if number == len(self.kept):
            page = self.context.new_page()
            page.on("pageerror", lambda error: self.said.append(str(error)))
            page.on("console", self._tell)
            page.on("request", self._ask)
            self.kept.append(page)
        return self.kept[number]

    def _tell(self, message: Any) -> None:
        # Tests read pixels of canvases, which the page does not; Chromium says that this could be faster.
        if message.type in ("error", "warning") and "willReadFrequently" not in message.text:
            self.said.append(message.text)

    def _ask(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:", "about:blank")):
            self.said.append(f"asked for {request.url}")


@pytest.fixture(scope="session")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A profile without a network."""
    made = browser.new_context(viewport={"width": 1280, "height": 800}, offline=True, reduced_motion="reduce")
    made.set_default_timeout(60_000)
    yield made
    made.close()


@pytest.fixture(scope="session")
def tabs(context: BrowserContext) -> Tabs:
    return Tabs(context)


Open = Callable[..., "Page"]


def until(page: Page, expression: str, wanted: Any) -> None:
    """Wait for what an expression gives: the page draws when its turn comes, on a busy machine later."""
    for _ in range(200):
        if page.evaluate(expression) == wanted:
            return
        page.wait_for_timeout(50)
    assert page.evaluate(expression) == wanted


@pytest.fixture
def open_page(tabs: Tabs) -> Iterator[Open]:
    """Opens a page at an address. At the end no page may have said anything in its console, or asked for anything that
    is not a file."""
    count = 0

    def open_one(path: Path, address: str = "", *, width: int = 1280, height: int = 800) -> Page:
        nonlocal count
        page = tabs.take(count)
        count += 1
        page.bring_to_front()  # one behind another draws once a second
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="light", media="screen", reduced_motion="reduce")
        page.goto(path.as_uri() + address)
        return page

    tabs.said.clear()
    yield open_one
    for page in tabs.kept[:count]:
        page.goto("about:blank")  # from there any address is loaded, a new fragment too
    assert tabs.said == []
