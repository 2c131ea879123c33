"""The page in Debian's Chromium, by file://: what it asks for, its keys, its links, its colours and who can use it."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import TYPE_CHECKING

import pytest
from report.conftest import Open, Pages, until
from report.made_up import COUNT, FAILED, HOSTILE, NEGATIVE, name_of

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
RULES = {
    "light": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "dark": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}
"""Which of axe-core's rules judge a page: in the dark its colours alone are others."""


def violations(page: Page, place: str = "") -> dict[str, list[object]]:
    """What axe-core finds wrong in each scheme of colours, in the part of a page that is named or in all of it."""
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed: pip install 'cnnviz-cli[dev]'")
    if not page.evaluate("'axe' in window"):
        axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
        page.evaluate(axe + ";undefined")
    found = {}
    for scheme, rules in RULES.items():
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        found[scheme] = page.evaluate(
            """([place, runOnly]) => axe.run(place || document, {runOnly, resultTypes: ['violations'],
              selectors: false})
              .then(found => found.violations.map(v => [v.id, v.nodes.length, v.nodes[0].html.slice(0, 200),
                v.nodes[0].failureSummary.slice(0, 300)]))""",
            [place, rules],
        )
    return found


CLEAN: dict[str, list[object]] = {"light": [], "dark": []}


def wait_for_cells(page: Page) -> None:
    page.locator(".cell canvas").first.wait_for()


def source(page: Page) -> str:
    """Which image is open."""
    found: str = page.evaluate("R.state.open.value")
    return found


def address_of(name: str, **state: object) -> str:
    """The fragment that opens an image."""
    from urllib.parse import urlencode

    return "#" + urlencode({"open": name, **state})


@pytest.mark.parametrize("kind", ["folder", "single"])
def test_it_opens_and_asks_for_nothing_but_files(open_page: Open, pages: Pages, kind: str) -> None:
    page = open_page(getattr(pages, kind))
    wait_for_cells(page)
    assert page.locator("#count").inner_text() == f"{COUNT} images"
    assert page.locator(".cell img").count() >= 10
    if kind == "single":  # which leads nowhere
        assert [path.name for path in pages.single.parent.iterdir()] == ["report.html"]
        page.locator(".cell").first.press("Enter")
        assert page.locator("dialog.detail .evidence canvas").count() == 1
        assert page.locator("dialog.detail a").count() == 0


def test_a_map_of_pixels_is_coloured_in_a_folder_and_in_a_single_file(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder)
    view = page.evaluate("R.views.findIndex(view => view.method === 'gradient' && view.run === 0)")
    where = address_of(name_of(0), view=view)
    folder = open_page(pages.folder, where)
    grey = folder.locator("dialog.detail .coloured")
    grey.wait_for()
    assert "url(" in grey.evaluate("image => getComputedStyle(image).filter")
    assert grey.evaluate("image => image.decode().then(() => image.naturalWidth)") == 72
    single = open_page(pages.single, where)
    canvas = single.locator("dialog.detail .evidence canvas")
    canvas.wait_for()
    colours = """(() => { const canvas = document.querySelector('dialog.detail .evidence canvas');
      return new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size > 20; })()"""
    until(single, colours, True)


def test_the_first_key_of_the_grid_enters_it(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder)
    wait_for_cells(page)
    for key in ("ArrowRight", "ArrowDown", "Enter", "Home"):
        page.evaluate("document.activeElement.blur()")
        assert page.evaluate("document.activeElement === document.body")
        page.keyboard.press(key)
        until(page, "document.activeElement.dataset.at", "0")
        assert page.evaluate("R.state.open.value") == ""
    page.keyboard.press("Enter")
    page.locator("dialog.detail .evidence").first.wait_for()
    assert source(page) == name_of(0)


def test_everything_by_keys_and_the_focus_comes_back(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder)
    wait_for_cells(page)
    page.locator(".cell").first.focus()
    focused = "document.activeElement.dataset.at"
    page.keyboard.press("ArrowRight")
    until(page, focused, "1")
    page.keyboard.press("ArrowDown")
    started = 1 + page.evaluate("R.grid.per")
    until(page, focused, str(started))
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.detail")
    dialog.locator(".evidence").first.wait_for()
    opened = source(page)
    assert opened == name_of(started)
    page.keyboard.press("ArrowRight")
    assert source(page) == name_of(started + 1)
    for key, state, value in (
        ("c", "mode", "side"), ("c", "mode", "slider"), ("c", "mode", "blink"), ("c", "mode", "one"),
        ("t", "role", "true"), ("m", "view", 1), ("p", "palette", "viridis"), ("[", "opacity", 0.7),
        ("]", "opacity", 0.75), ("o", "overlay", False), ("o", "overlay", True),
    ):  # fmt: skip
        page.keyboard.press(key)
        assert page.evaluate(f"R.state.{state}.value") == value
    page.keyboard.press("2")
    chosen = dialog.locator(".pick[aria-pressed=true]")
    assert chosen.locator("kbd").inner_text() == "2"
    page.keyboard.press("?")
    page.locator("dialog.sheet[open]").wait_for()
    page.keyboard.press("Escape")
    assert dialog.is_visible()
    page.keyboard.press("Escape")
    dialog.wait_for(state="hidden")
    until(page, focused, str(started + 1))
    page.keyboard.press("/")
    page.keyboard.type("espresso/")
    found = sum(name_of(number).startswith("espresso/") for number in range(COUNT))
    until(page, "document.getElementById('count').innerText", f"{found} of {COUNT} images")


def test_a_file_opens_by_a_key(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder, address_of(name_of(0)))
    page.locator("dialog.detail .evidence").wait_for()
    with page.context.expect_page() as opened:
        page.keyboard.press("f")
    assert opened.value.url == (pages.runs[0] / "000" / page.evaluate("R.record(0).then(one => one.maps[0].figure)")
                                .rsplit("/", 1)[-1]).as_uri()  # fmt: skip
    opened.value.close()


def test_the_matrix_filters_and_its_link_opens_the_same(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder)
    cell = page.locator("table button:not([disabled])").nth(1)
    found = int(re.sub(r"\D", "", cell.inner_text()))
    cell.click()
    until(page, "document.getElementById('count').innerText", f"{found} of {COUNT} images")
    until(page, "location.hash.includes('truth=')", True)
    assert "said=" in page.url
    again = open_page(pages.folder, "#" + page.url.split("#")[1])
    assert again.locator("#count").inner_text() == f"{found} of {COUNT} images"


def test_palette_and_opacity_change_the_pixels(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder)
    wait_for_cells(page)
    total = """() => { const canvas = document.querySelector('.cell canvas'), sum = [0, 0, 0, 0];
      if (!canvas) return sum;
      const {data} = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      data.forEach((value, k) => { sum[k % 4] += value; });
      return sum; }"""
    usual = page.evaluate(total)
    page.keyboard.press("p")
    until(page, f"({total})()[0] !== {usual[0]}", True)
    assert page.evaluate(total)[3] == usual[3]
    page.keyboard.press("[")
    until(page, f"({total})()[3] < {usual[3]}", True)
    page.keyboard.press("o")
    until(page, f"({total})()[3]", 0)


def test_nobody_is_shut_out(open_page: Open, pages: Pages) -> None:
    """axe-core's rules of WCAG 2.2 AA and its best practices, in light and dark, in the grid and in the dialog."""
    page = open_page(pages.folder)
    wait_for_cells(page)
    page.evaluate("R.setNote(R.source(0), 'a note')")
    assert violations(page) == CLEAN
    page.evaluate(f"R.openDetail({NEGATIVE}); R.set({{mode: 'side'}})")
    page.locator("dialog.detail .pane").nth(1).wait_for()
    assert violations(page, "dialog.detail") == CLEAN


def test_hostile_names_and_classes_stay_text(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder)
    wait_for_cells(page)
    for number in range(5, 5 + len(HOSTILE)):
        page.evaluate(f"R.openDetail({number})")
        page.locator("dialog.detail .facts").wait_for()
        assert page.locator("#detail-title").inner_text() == page.evaluate(f"R.source({number})")
        page.keyboard.press("Escape")
    assert page.evaluate("window.BAD") is None
    assert page.locator("#app script, #app iframe, #app [onclick], #app [onerror]").count() == 0
    again = open_page(pages.folder, address_of("a#b%41?c&d.png"))
    again.locator("dialog.detail .evidence .photo").wait_for()
    assert again.locator("#detail-title").inner_text() == "a#b%41?c&d.png"
    assert again.locator("dialog.detail .photo").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0


def test_a_frame_without_storage_shows_it(open_page: Open, pages: Pages) -> None:
    """As MLflow frames what it is given."""
    frame = pages.single.parent.parent / "frame.html"
    frame.write_text('<iframe sandbox="allow-scripts" src="mail/report.html" width="900" height="600"></iframe>')
    page = open_page(frame)
    inside = page.frame_locator("iframe")
    inside.locator(".cell canvas").first.wait_for()
    assert inside.locator("#count").inner_text() == f"{COUNT} images"
    inside.locator(".cell").first.press("Enter")
    inside.locator("dialog.detail .evidence").wait_for()


def test_what_is_filtered_is_printed(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.single)
    wait_for_cells(page)
    whole = page.pdf(format="A4")
    page.evaluate("R.set({outcome: 'wrong'})")
    part = page.pdf(format="A4")
    pages_of = re.compile(rb"/Type\s*/Page\b")
    assert len(pages_of.findall(whole)) > len(pages_of.findall(part)) >= 1
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    wrong = page.evaluate("R.order.value.length")
    assert page.locator(".printed .cell").count() == wrong
    assert page.locator(".printed .cell img").count() == wrong


def test_an_open_image_is_printed_by_itself(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder, address_of(name_of(0)))
    page.locator("dialog.detail .evidence canvas").wait_for()
    page.emulate_media(media="print")
    page.locator("dialog.detail .evidence canvas").wait_for()
    assert page.locator("dialog.detail .bars").first.is_visible()
    for gone in (".grid", "header.head", "dialog.detail .bar button", "dialog.detail textarea"):
        assert not page.locator(gone).first.is_visible(), gone


def test_a_narrow_screen_needs_no_scrolling_sideways(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder, width=320, height=640)
    wait_for_cells(page)
    overflow = "document.documentElement.scrollWidth - innerWidth"
    assert page.evaluate(overflow) <= 0
    page.locator(".cell").first.click()
    dialog = page.locator("dialog.detail")
    dialog.locator(".evidence").wait_for()
    for mode in ("one", "side", "slider", "blink"):
        page.evaluate(f"R.set({{mode: '{mode}'}})")
        assert dialog.evaluate("box => box.scrollWidth - box.clientWidth") <= 0, mode
        assert dialog.locator(".evidence").first.bounding_box()["width"] >= 90, mode


def test_an_image_that_failed_says_why(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder, address_of(page_source(FAILED)))
    assert "the file is cut off" in page.locator("dialog.detail .facts").inner_text()


def page_source(number: int) -> str:
    """A source as the page shows it: a character that turns the direction of writing is escaped."""
    return name_of(number).replace("\u202e", "\\u202e")
