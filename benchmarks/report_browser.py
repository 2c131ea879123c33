"""What a page of many images costs whoever looks at it: seconds of a core in a browser's main thread, and its heap.

Chromium counts them itself (``Performance.getMetrics``), so that a busy machine matters less than to a stop-watch.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium")

BUDGETS: dict[int, dict[str, int]] = {
    10_000: {"cells": 500, "filter": 50, "sort": 50, "screen": 500, "frame": 20, "recolour": 16, "heap": 150},
    100_000: {"cells": 1000, "filter": 250, "sort": 250, "screen": 1000, "frame": 20, "recolour": 16, "heap": 300},
}
"""Milliseconds of the main thread, and megabytes: until cells show, to filter, to sort, for a screen after a sort that
loses locality, for a frame of scrolling, for a new palette, and the heap after all of it."""

WORDS = {
    "cells": "cells on screen after {} ms",
    "filter": "filtering {} ms",
    "sort": "sorting {} ms",
    "screen": "the screen after it {} ms",
    "frame": "a frame at 14,400 pixels a second {} ms",
    "recolour": "another palette {} ms",
    "heap": "heap at the end {} MB",
}

_FULL = """() => { const cells = [...document.querySelectorAll('.grid .cell')];
  return cells.length > 0 && cells.every(cell => cell.querySelector('img')); }"""
_SCROLL = """async () => { const box = document.querySelector('.grid');
  for (let k = 0; k < 120; k++) { box.scrollTop += 240; await new Promise(requestAnimationFrame); } }"""
_PALETTES = """async () => { for (let k = 0; k < 10; k++) { R.set({palette: k % 2 ? 'inferno' : 'viridis'});
  await new Promise(requestAnimationFrame); await new Promise(requestAnimationFrame); } }"""


def browse(page: Path, count: int) -> list[str]:
    """The costs of a page of `count` images in words, each with its budget; why there are none, where no browser is."""
    if CHROMIUM is None or find_spec("playwright") is None:
        return [f"a page of {count:,} images was not opened: playwright or Chromium is not here"]
    found = _measured(page)
    parts = [
        f"{WORDS[name].format(f'{found[name]:.0f}')} (at most {most:.0f})" for name, most in BUDGETS[count].items()
    ]
    return [f"a page of {count:,} images in Chromium, of a core: {', '.join(parts)}"]


def _measured(path: Path) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        found: dict[str, float] = {}
        found["cells"] = _spent(session, page, lambda: page.goto(path.as_uri(), wait_until="commit", timeout=120_000))
        found["frame"] = _spent(session, page, lambda: page.evaluate(_SCROLL)) / 120
        found["filter"] = page.evaluate(_timed("outcome", "wrong"))
        found["sort"] = page.evaluate(_timed("sort", "gravest"))
        found["screen"] = _spent(session, page, lambda: page.evaluate("R.set({sort: 'gravest'})"))
        found["recolour"] = _spent(session, page, lambda: page.evaluate(_PALETTES)) / 10
        found["heap"] = _metrics(session)["JSHeapUsedSize"] / 1e6
        browser.close()
    return found


def _timed(key: str, value: str) -> str:
    """Milliseconds until the images are in another order; nothing is drawn meanwhile. The quickest of seven: what else
    the machine does only adds to them."""
    return f"""() => {{ const usual = R.state.{key}.value, taken = [];
      for (let k = 0; k < 7; k++) {{
        const start = performance.now();
        R.set({{{key}: '{value}'}});
        R.order.value;
        taken.push(performance.now() - start);
        R.set({{{key}: usual}});
        R.order.value;
      }}
      return Math.min(...taken); }}"""


def _spent(session: CDPSession, page: Page, act: Callable[[], Any]) -> float:
    """Milliseconds of the main thread until the screen is full again."""
    before = _metrics(session)["ThreadTime"]
    act()
    while not page.evaluate(_FULL):
        page.wait_for_timeout(20)
    return 1000 * (_metrics(session)["ThreadTime"] - before)


def _metrics(session: CDPSession) -> dict[str, float]:
    return {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
