"""What a page opens on, and what its dialogs leave out."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from report.conftest import Open, Pages
from report.test_browser_grid import Data, data, dreams, tampered, wait

pytestmark = pytest.mark.browser

__all__ = ["data"]  # a fixture


def test_a_dialog_that_closes_is_not_opened_anew(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    """The browser tells that a dialog is closed when its turn comes; here late, with a frame drawn in between."""
    path = tampered(pages, tmp_path, tabs={"dreams": dreams(), "evaluation": None, "concepts": None})
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
