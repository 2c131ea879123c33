"""What a page opens on, what its dialogs leave out, and what fits on a screen."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from report.conftest import Open, Pages
from report.made_up import name_of
from report.test_browser_grid import Data, data, dreams, tampered, wait

pytestmark = pytest.mark.browser

__all__ = ["data"]  # a fixture


def test_a_dialog_that_closes_is_not_opened_anew(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    """The browser tells that a dialog is closed when its turn comes; here late, with a frame drawn in between."""
    path = tampered(pages, tmp_path, tabs={"dreams": dreams(), "evaluation": None, "findings": None})
    page = open_page(path, "#tab=dreams")
    page.locator(".tile").first.press("Enter")
    page.get_by_role("dialog").wait_for()
    opened = page.evaluate("""async () => {
      const dialog = document.querySelector('dialog[open]');
      const held = event => event.stopImmediatePropagation();
      dialog.addEventListener('close', held, {capture: true});
      dialog.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
      dialog.close();
      for (let n = 0; n < 4; n++) await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
      const opened = dialog.open;
      dialog.removeEventListener('close', held, {capture: true});
      dialog.dispatchEvent(new Event('close'));
      return opened;
    }""")
    assert not opened
    page.locator('.tile[data-at="1"]:focus').wait_for()


def test_a_page_opens_on_a_map_of_a_layer(open_page: Open, pages: Pages, data: Data, tmp_path: Path) -> None:
    kinds = [("figure", None), ("pixels", None), ("map", None), ("map", "conv")]
    whole = data.index["views"]
    for count, expected in ((4, 3), (3, 2), (2, 1), (1, 0)):
        drawn = kinds[:count] + [("figure", None)] * (len(whole) - count)
        views = [view | {"kind": kind, "layer": layer} for view, (kind, layer) in zip(whole, drawn, strict=True)]
        page = wait(open_page(tampered(pages, tmp_path, views=views)))
        assert page.evaluate("R.usual('view')") == expected


def test_a_run_without_images_is_left_out_beside_an_image(
    open_page: Open, pages: Pages, data: Data, tmp_path: Path
) -> None:
    runs = [*data.index["runs"], data.index["runs"][0] | {"name": "dream", "images": 0}]
    page = open_page(tampered(pages, tmp_path, runs=runs), f"#open={quote(data.index['sources'][1], safe='')}")
    facts = page.locator("dialog.detail .facts")
    facts.wait_for()
    assert "This run does not have the image." not in (facts.text_content() or "")


def test_the_opacity_is_said_as_it_is_drawn(open_page: Open, pages: Pages, data: Data) -> None:
    """A map of pixels is opaque where a map of a layer has three quarters, as in the figures."""
    views = data.index["views"]
    for kind, words in (("map", "75 %"), ("pixels", "100 %")):
        number = next(at for at, view in enumerate(views) if view["kind"] == kind)
        page = wait(open_page(pages.folder, f"#view={number}"))
        assert page.locator(".toolbar .pair output").inner_text() == words


def test_the_words_of_a_command_are_not_broken(open_page: Open, pages: Pages) -> None:
    page = open_page(pages.folder, "#" + urlencode({"open": name_of(0)}))
    command = page.locator("dialog.detail .command code")
    command.wait_for()
    tall = command.locator(".word").evaluate_all("words => words.map(word => word.getClientRects().length)")
    assert len(tall) > 3
    assert set(tall) == {1}
    record = page.evaluate("R.record(0).then(record => record.maps[0].command)")
    assert command.text_content() == record


def test_the_bar_of_one_run_is_one_line(open_page: Open, pages: Pages, data: Data, tmp_path: Path) -> None:
    runs = data.index["runs"][:1]
    page = wait(open_page(tampered(pages, tmp_path, runs=runs), width=1440))
    middles = page.locator(".toolbar .field").evaluate_all(
        "all => all.map(one => { const box = one.getBoundingClientRect(); return (box.top + box.bottom) / 2; })"
    )
    assert len(middles) >= 6
    assert max(middles) - min(middles) < 10


def test_what_another_run_was_told_is_known(open_page: Open, pages: Pages, data: Data, tmp_path: Path) -> None:
    unknown = next(i for i in data.everything if data.column("truth")[i] is None and data.column("outcome.0")[i] == 2)
    address = f"#open={quote(data.index['sources'][unknown], safe='')}"
    told = {"kind": "u1", "data": base64.b64encode(bytes(data.index["n"])).decode()}
    for columns, count in ((data.index["columns"], 1), (data.index["columns"] | {"truth.0": told}, 0)):
        runs = [data.index["runs"][0], data.index["runs"][1] | {"images": 0}]
        page = open_page(tampered(pages, tmp_path, columns=columns, runs=runs), address)
        page.locator("dialog.detail .facts .bars").first.wait_for()
        assert page.get_by_text("What is true is not known.").count() == count
