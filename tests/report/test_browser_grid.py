"""The grid of the page against its own data: what is filtered, in which order, what its address and its files say."""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import numpy as np
import pytest
from exports.saved import CAT, DOG, image, output, save
from report.conftest import Open, Pages, until
from report.test_browser import CLEAN, violations

from cnnviz_cli.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

pytestmark = pytest.mark.browser
INDEX = re.compile(r'(<script type="application/json" id="index">)(.*?)(</script>)', re.DOTALL)
KINDS = {"u1": "<u1", "u2": "<u2", "u4": "<u4", "f4": "<f4", "f8": "<f8"}
RIGHT, WRONG = 0, 1


class Data:
    """The index of a page, read without the page's scripts."""

    def __init__(self, page: Path) -> None:
        found = INDEX.search(page.read_text(encoding="utf-8"))
        assert found
        self.index: dict[str, Any] = json.loads(found[2])
        self.everything = list(range(self.index["n"]))

    def column(self, name: str) -> list[Any]:
        """Its values; None where there is none."""
        spec = self.index["columns"][name]
        values = np.frombuffer(base64.b64decode(spec["data"]), KINDS[spec["kind"]])
        none = math.nan if spec["kind"] in ("f4", "f8") else np.iinfo(values.dtype).max
        return [None if value == none or math.isnan(value) else value.item() for value in values]

    def known(self, name: str) -> list[int]:
        values = self.column(name)
        return [i for i in self.everything if values[i] is not None]

    def label(self, name: str) -> int:
        return int(self.index["labels"].index(name))


@pytest.fixture(scope="module")
def data(pages: Pages) -> Data:
    return Data(pages.folder)


def shown(page: Page) -> list[int]:
    found: list[int] = page.evaluate("Array.from(R.order.value)")
    return found


def wait(page: Page) -> Page:
    page.locator(".cell img, .empty").first.wait_for()
    return page


def tampered(pages: Pages, folder: Path, **values: Any) -> Path:
    """The single file with other values in its index."""
    text = pages.single.read_text(encoding="utf-8")
    found = INDEX.search(text)
    assert found
    index = json.dumps({**json.loads(found[2]), **values}).replace("<", "\\u003c")
    path = folder / "report.html"
    path.write_text(text[: found.start(2)] + index + text[found.end(2) :], encoding="utf-8")
    return path


# ---- what is filtered


def test_every_filter_lets_through_what_its_column_says(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder))
    outcome, said, truth = data.column("outcome.0"), data.column("predicted.0"), data.column("truth")
    share, gain, far = data.column("probability.0"), data.column("measure.0"), data.column("disagreement.0")
    cat = data.label("tiger cat")
    cases: list[tuple[dict[str, Any], Callable[[int], bool]]] = [
        ({"outcome": "wrong"}, lambda i: outcome[i] == WRONG),
        ({"outcome": "unknown"}, lambda i: outcome[i] == 2),
        ({"outcome": "failed"}, lambda i: outcome[i] == 3),
        ({"said": str(cat)}, lambda i: said[i] == cat),
        ({"truth": str(cat), "outcome": "right"}, lambda i: truth[i] == cat and outcome[i] == RIGHT),
        ({"lo": 0.5, "hi": 0.8}, lambda i: share[i] is not None and 0.5 <= share[i] <= 0.8),
        ({"measure": "measure.0", "from": "0.25"}, lambda i: gain[i] is not None and gain[i] >= 0.25),
        (
            {"measure": "disagreement.0", "from": "0.9", "to": "1.1"},
            lambda i: far[i] is not None and 0.9 <= far[i] <= 1.1,
        ),
        ({"states": "negative"}, lambda i: data.index["states"][data.column("state.0")[i]] == "negative"),
    ]
    for asked, lets in cases:
        page.evaluate("asked => { R.clear(); R.set(asked); }", asked)
        expected = [i for i in data.everything if lets(i)]
        assert 0 < len(expected) < len(data.everything), asked
        assert shown(page) == expected, asked
        count = page.locator("#count")
        assert count.inner_text() == f"{len(expected)} of {len(data.everything)} images"


def test_what_is_typed_is_looked_for_in_names_and_classes(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder))
    page.keyboard.press("/")
    page.keyboard.type("TIGER")
    said, truth = data.column("predicted.0"), data.column("truth")
    labels = [label.lower() for label in data.index["labels"]]

    def lets(i: int) -> bool:
        words = [data.index["sources"][i], *(labels[k] for k in (said[i], truth[i]) if k is not None)]
        return any("tiger" in word.lower() for word in words)

    assert shown(page) == [i for i in data.everything if lets(i)] != []
    page.keyboard.press("r")  # a letter in a field is a letter
    assert page.locator("#search").input_value() == "TIGERr"
    assert page.evaluate("R.state.outcome.value") == ""


def test_where_nothing_is_left_a_button_clears_the_filters(open_page: Open, pages: Pages) -> None:
    page = wait(open_page(pages.folder, "#q=nothing+is+called+so&outcome=right"))
    assert "No image is like this" in page.locator(".empty").inner_text()
    page.get_by_role("button", name="Clear the filters").click()
    page.locator(".cell").first.wait_for()
    assert page.locator("#count").inner_text() == "60 images"
    assert page.evaluate("document.querySelector('.filtered')") is None


def test_each_active_filter_has_its_own_cross(open_page: Open, pages: Pages) -> None:
    page = wait(open_page(pages.folder, "#outcome=wrong&lo=0.2"))
    page.get_by_role("button", name="Remove the filter wrong").click()
    assert page.evaluate("[R.state.outcome.value, R.state.lo.value]") == ["", 0.2]


def test_shares_are_written_as_the_figures_write_them(open_page: Open, pages: Pages) -> None:
    from cnnviz_cli.core.text import format_percent

    page = wait(open_page(pages.folder))
    ends = [0.0, 1e-50, 0.0004999, 0.0005, 0.0007, 0.0625, 0.1875, 0.3125, 0.9994, 0.9995, 0.9999, 0.99999999, 1.0]
    shares = [*ends, *(n / 7919 for n in range(7920)), *(n / 1600 for n in range(1601))]
    assert page.evaluate("shares => shares.map(R.percent)", shares) == [format_percent(share) for share in shares]


# ---- in which order


def test_mistakes_are_ordered_by_how_grave_they_are_and_unknown_ones_come_last(
    open_page: Open, pages: Pages, data: Data
) -> None:
    page = wait(open_page(pages.folder, "#sort=gravest"))
    outcome, said = data.column("outcome.0"), data.column("probability.0")
    truth = data.column("truth_probability.0")
    order = shown(page)
    wrong = [i for i in order if outcome[i] == WRONG]
    right = [i for i in order if outcome[i] == RIGHT]
    assert order[: len(wrong)] == wrong
    assert order[len(wrong) : len(wrong) + len(right)] == right
    assert len(order) > len(wrong) + len(right)
    gaps = [(said[i] or 0) - (truth[i] or 0) for i in wrong]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > gaps[-1]
    page.evaluate("R.state.reverse.value = true")
    back = shown(page)
    assert back[-(len(order) - len(wrong) - len(right)) :] == order[len(wrong) + len(right) :]
    assert [i for i in back if outcome[i] == WRONG][-1] == wrong[0]


@pytest.mark.parametrize("name", ["probability.0", "measure.0", "disagreement.0"])
def test_a_column_orders_both_ways_and_what_has_no_value_comes_last(
    open_page: Open, pages: Pages, data: Data, name: str
) -> None:
    page = wait(open_page(pages.folder, f"#sort={name.removesuffix('.0') if name.startswith('prob') else name}"))
    values, known = data.column(name), data.known(name)
    down = sorted(known, key=lambda i: (-(values[i] or 0), i))
    up = sorted(known, key=lambda i: (values[i] or 0, i))
    first, second = shown(page), page.evaluate("(R.state.reverse.value = true, Array.from(R.order.value))")
    missing = [i for i in data.everything if values[i] is None]
    assert missing
    assert sorted([first[: len(known)], second[: len(known)]]) == sorted([down, up])
    assert first[len(known) :] == second[len(known) :] == missing
    if not name.startswith("measure"):
        assert first[: len(known)] == down


def test_names_and_classes_order_by_the_alphabet(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder, "#sort=name"))
    names = [data.index["sources"][i].lower() for i in shown(page)]
    assert names == sorted(names, key=lambda name: name.encode("utf-16-be"))
    page.evaluate("R.state.sort.value = 'class'")
    said, order = data.column("predicted.0"), shown(page)
    labels = [data.index["labels"][said[i]].lower() for i in order if said[i] is not None]
    assert labels == sorted(labels)
    assert said[order[-1]] is None


def test_pairs_of_other_maps_of_other_runs_are_offered_nowhere_but_where_chosen(
    open_page: Open, pages: Pages, data: Data
) -> None:
    pairs = data.index["disagreements"]
    mine = [of["column"] for of in pairs if 0 in of["views"] and not of["cross"]]
    crossed = next(of["column"] for of in pairs if of["cross"])
    offered = "name => R.compared(name).map(of => of.column)"
    page = wait(open_page(pages.folder))
    assert page.evaluate(offered, "") == mine
    assert crossed in page.evaluate(offered, crossed)
    measure = page.locator(".side select:has(option[value='measure.0']) option").evaluate_all(
        "all => all.map(o => o.value)"
    )
    assert [name for name in measure if name.startswith("disagreement")] == mine


def test_a_histogram_counts_what_the_other_filters_let_through(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder, "#outcome=wrong"))
    outcome, shares = data.column("outcome.0"), data.column("probability.0")
    bins = {min(23, math.floor(shares[i] * 24)) for i in data.everything if outcome[i] == WRONG}
    everything = {min(23, math.floor(share * 24)) for share in shares if share is not None}
    tall = "bars => bars.flatMap((bar, k) => (bar.getAttribute('height') > 0 ? [k] : []))"
    rects = page.locator(".side .spread rect")
    assert set(rects.evaluate_all(tall)) == bins < everything
    page.evaluate("R.set({outcome: '', lo: 0.5})")  # its own bounds take no bar away
    page.wait_for_function("R.order.value.length > 0 && document.querySelectorAll('.side .spread rect.off').length > 0")
    assert set(rects.evaluate_all(tall)) == everything


# ---- which classes are taken for which


def test_the_matrix_and_the_pairs_count_what_the_columns_say(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder))
    said, truth = data.column("predicted.0"), data.column("truth")
    counts: dict[tuple[int, int], int] = {}
    for i in data.everything:
        if said[i] is not None and truth[i] is not None:
            pair = int(truth[i] or 0), int(said[i] or 0)
            counts[pair] = counts.get(pair, 0) + 1
    table = page.locator(".side table.matrix")
    heads = table.locator("thead th[title]").evaluate_all("heads => heads.map(head => head.title)")
    assert sorted(heads) == sorted(data.index["labels"])
    for (t, p), n in counts.items():
        row, at = heads.index(data.index["labels"][t]), heads.index(data.index["labels"][p])
        assert table.locator("tbody tr").nth(row).locator("td").nth(at).inner_text() == str(n)
    assert table.locator("button").count() == len(counts)
    worst = max((n, pair) for pair, n in counts.items() if pair[0] != pair[1])[0]
    first = page.locator(".side .pairs button").first
    assert int(first.locator(".number").inner_text()) == worst
    first.click()
    assert len(shown(page)) == worst
    assert first.get_attribute("aria-pressed") == "true"
    first.click()
    assert len(shown(page)) == len(data.everything)


def test_classes_that_do_not_exclude_each_other_have_no_matrix(open_page: Open, tmp_path: Path) -> None:
    """A true class with a half or more is right, though another is likelier; none is confused."""
    half = DOG.model_copy(update={"probability": 0.5})
    records = [
        image(f"{at}.png", sha256=f"{at:064x}", predictions=[CAT, half], truth=half if at else DOG) for at in range(2)
    ]
    runs = [save(tmp_path / name, *records, multilabel=name == "many") for name in ("many", "one")]
    for number, run in enumerate(runs):
        page = open_page(write_report([run]).path)
        page.locator(".cell").first.wait_for()
        assert page.locator(".side table.matrix").count() == number
        assert page.locator(".side .pairs li").count() == number
        assert ("do not exclude each other" in page.locator(".side").inner_text()) == (not number)
        assert page.evaluate("R.matrix.value.mistakes.length") == number


def test_the_truth_of_a_run_is_its_own_in_all_that_is_said_of_it(open_page: Open, tmp_path: Path) -> None:
    runs = []
    for name, truth in (("first", CAT), ("other", DOG), ("silent", None)):
        record = image("a.png", output("a.png/g.png", family=name), truth=truth)
        runs.append(save(tmp_path / name, record))
    cat, dog = CAT.label, DOG.label
    page = open_page(write_report(runs).path, "#open=a.png")
    page.locator("dialog.detail .bars").first.wait_for()
    for run, true in enumerate((cat, dog, cat)):
        page.evaluate(f"R.state.view.value = R.views.findIndex(view => view.run === {run})")
        outcome = "right" if true == cat else "wrong"
        until(page, "document.querySelector('dialog.detail .outcome').innerText.slice(2)", outcome)
        until(page, "document.querySelector('dialog.detail .bars .true .name').innerText.split(' ✓')[0]", true)
        words = page.evaluate("R.describe(0)")
        assert (", right" if true == cat else f", wrong, it is {dog}") in words
        pairs = page.evaluate("R.matrix.value.mistakes.map(([t, p]) => [R.label(t), R.label(p)])")
        assert pairs == ([] if true == cat else [[dog, cat]])
        assert page.evaluate("R.true.value.map(([k]) => R.label(k))") == [true]
        page.evaluate("R.setNote('a.png', 'seen')")
        assert page.evaluate("R.notesCsv()").strip().endswith(f",{true}")


def test_a_thousand_classes_have_twelve_in_the_table_and_their_pairs_below(
    open_page: Open, pages: Pages, tmp_path: Path
) -> None:
    count, labels = 60, [f"class {k}" for k in range(1000)]

    def column(values: list[int], kind: str) -> dict[str, str]:
        return {"kind": kind, "data": base64.b64encode(np.array(values, KINDS[kind]).tobytes()).decode()}

    # 20 mistakes that were made once, one that was made 15 times, and a class that is always right.
    said = [k * 20 for k in range(20)] + [999] * 15 + [3] * 25
    truth = [k * 20 + 1 for k in range(20)] + [500] * 15 + [3] * 25
    columns = Data(pages.single).index["columns"] | {
        "predicted.0": column(said, "u2"), "truth": column(truth, "u2"), "outcome.0": column([WRONG] * count, "u1"),
    }  # fmt: skip
    page = wait(open_page(tampered(pages, tmp_path, labels=labels, columns=columns)))
    assert page.locator(".side .pairs .pair").first.inner_text() == "class 500 called class 999"
    heads = page.locator(".side .matrix tbody th").all_inner_texts()
    assert len(heads) == 8
    assert set(heads[:2]) == {"class 500", "class 999"}  # which are taken for each other most often
    page.get_by_role("button", name="Whole matrix").click()
    dialog = page.get_by_role("dialog", name="What is taken for what")
    assert dialog.locator("tbody tr").count() == 12
    assert dialog.locator(".pairs li").count() == 21
    # No room above the heads of the columns: the longest is as tall as they are.
    spare = "heads => heads[0].offsetHeight - Math.max(...heads.map(head => head.firstChild.offsetHeight))"
    assert dialog.locator("thead th:not(.corner)").evaluate_all(spare) <= 8
    dialog.get_by_role("button", name="All 43 classes").click()
    assert dialog.locator("tbody tr").count() == 43


# ---- what the address says


STATES: list[dict[str, Any]] = [
    {"q": "img", "outcome": "wrong", "sort": "gravest", "reverse": "1", "view": "1", "role": "true"},
    {"palette": "viridis", "opacity": "0.4", "scale": "shared", "size": "220", "overlay": "0", "states": "ok"},
    {"measure": "measure.1", "from": "-1", "to": "1.5", "lo": "0.1", "hi": "0.9", "said": "2", "truth": "2"},
    {"mode": "slider", "other": "1.true", "view": "4"},
]


@pytest.mark.parametrize("state", STATES)
def test_every_state_has_its_address_and_every_address_its_state(
    open_page: Open, pages: Pages, state: dict[str, str]
) -> None:
    page = wait(open_page(pages.folder, "#" + urlencode(state)))
    before = shown(page), page.evaluate("Object.fromEntries(Object.entries(R.state).map(([k, of]) => [k, of.value]))")
    address = page.evaluate("R.address()")
    assert {key: of[0] for key, of in parse_qs(urlsplit(address).fragment).items()} == state
    other = wait(open_page(pages.folder, "#" + urlsplit(address).fragment))
    after = shown(other), other.evaluate("Object.fromEntries(Object.entries(R.state).map(([k, of]) => [k, of.value]))")
    assert after == before


HARMLESS = (
    "#%", "#view=99&size=-4&lo=x&hi=&opacity=1e9&from=abc", "#said=__proto__&truth=toString&sort=constructor&measure=x",
    "#open=%2Fetc%2Fpasswd&tab=nothing&mode=x&other=9.9&role=asked.999",
    "#note=%&note==&note=a%25%3Db&palette=__proto__",
    "#" + "q=" + "x" * 5000, "#outcome=%3Cscript%3E&states=none&reverse=2&overlay=yes",
)  # fmt: skip


@pytest.mark.parametrize("address", HARMLESS)
def test_an_address_written_by_hand_does_no_harm(open_page: Open, pages: Pages, address: str) -> None:
    page = wait(open_page(pages.folder, address))
    assert page.locator(".cell, .empty").count() > 0
    assert 90 <= page.evaluate("R.state.size.value") <= 320
    assert 0 <= page.evaluate("R.state.opacity.value") <= 1
    assert page.evaluate("R.views[R.state.view.value].title")


def test_a_changed_address_changes_the_page(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder, "#outcome=wrong"))
    wrong = len(shown(page))
    page.evaluate("location.hash = '#outcome=right&sort=name'")
    page.get_by_role("button", name="Remove the filter right").wait_for()
    assert len(shown(page)) == data.column("outcome.0").count(RIGHT) != wrong
    page.evaluate("R.clear()")
    for _ in range(50):  # the address follows a moment later
        if page.url.endswith("#sort=name"):
            break
        page.wait_for_timeout(20)
    assert page.url.endswith("#sort=name")


# ---- notes


def test_notes_live_in_the_address_and_leave_as_csv(open_page: Open, pages: Pages, data: Data) -> None:
    odd = next(source for source in data.index["sources"] if "#" in source)
    plain = data.index["sources"][0]
    texts = {odd: 'looks at "the sky"\nnot the cat', plain: "=1+1"}
    page = wait(open_page(pages.folder))
    for source, text in texts.items():
        page.evaluate("([source, text]) => R.setNote(source, text)", [source, text])
    fragment = urlsplit(page.evaluate("R.address()")).fragment
    other = wait(open_page(pages.folder, "#" + fragment))
    assert other.evaluate("R.notes.value") == texts
    other.evaluate("R.state.noted.value = true")
    assert sorted(shown(other)) == sorted(data.index["sources"].index(source) for source in texts)
    with other.expect_download() as saved:
        other.get_by_role("button", name="Save the notes as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(saved.value.path()).read_text(encoding="utf-8-sig"), newline="")))
    assert {row["image"]: row["note"] for row in rows} == {odd: texts[odd], plain: "'=1+1"}  # no formula
    outcome = data.column("outcome.0")
    words = ("right", "wrong", "truth unknown", "failed")
    for row in rows:
        assert row["outcome"] == words[int(outcome[data.index["sources"].index(row["image"])] or 0)]
    other.evaluate("source => R.setNote(source, ' ')", odd)
    assert list(other.evaluate("R.notes.value")) == [plain]


# ---- the grid itself


def test_only_what_is_on_screen_is_there_and_one_cell_takes_the_tab_key(open_page: Open, pages: Pages) -> None:
    page = wait(open_page(pages.folder, "#size=320", height=600))
    cells = page.locator(".grid .cell")
    assert cells.count() < 20
    assert page.locator('.grid .cell[tabindex="0"]').count() == 1
    cells.first.focus()
    page.keyboard.press("End")
    page.locator('.grid .cell[data-at="59"]:focus').wait_for()
    assert page.locator('.grid .cell[data-at="0"]').count() == 0
    assert page.locator('.grid .cell[tabindex="0"]').get_attribute("data-at") == "59"
    page.keyboard.press("Home")
    page.locator('.grid .cell[data-at="0"]:focus').wait_for()
    page.keyboard.press("PageDown")
    until(page, "document.activeElement.dataset.at > 0", True)


def test_a_cell_says_all_that_it_shows(open_page: Open, pages: Pages, data: Data) -> None:
    page = wait(open_page(pages.folder, "#outcome=wrong"))
    i, labels = shown(page)[0], data.index["labels"]
    name = page.locator(".grid .cell").first.get_attribute("aria-label") or ""
    said, truth = data.column("predicted.0")[i], data.column("truth")[i]
    share = data.column("probability.0")[i] or 0
    assert name == f"{data.index['sources'][i]}: {labels[said]}, {100 * share:.1f} %, wrong, it is {labels[truth]}"
    assert page.locator(".grid .cell .mark").first.inner_text() == "✗"


def test_a_run_with_random_weights_is_one_choice_away_and_says_what_it_is(
    open_page: Open, pages: Pages, data: Data
) -> None:
    page = wait(open_page(pages.folder, "#outcome=right"))
    trained = len(shown(page))
    page.get_by_label("Checkpoint").select_option("1")
    chosen = page.get_by_label("Checkpoint").locator("option:checked").inner_text()
    assert chosen == f"{data.index['runs'][1]['name']} ({data.index['runs'][1]['weights']})"
    assert len(shown(page)) == data.column("outcome.1").count(RIGHT) != trained
    same = page.evaluate("R.views[R.state.view.value]")
    assert (same["run"], same["method"]) == (1, data.index["views"][0]["method"])
    note = data.index["runs"][1]["note"]
    assert note is None or note in page.locator(".run-note").inner_text()


def test_data_that_are_gone_leave_a_sentence_and_not_a_hole(
    context: BrowserContext, pages: Pages, tmp_path: Path
) -> None:
    shutil.copy(pages.folder, tmp_path / "report.html")
    page = context.new_page()  # the browser says in its console what is not there
    page.goto((tmp_path / "report.html").as_uri())
    page.get_by_text("The data of this image are not there.").first.wait_for()
    assert page.locator("#count").inner_text() == "60 images"
    page.close()


def test_more_than_five_hundred_are_not_printed_and_it_says_so(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    source = Data(pages.single).index
    many, columns = 600, {}
    for name, spec in source["columns"].items():
        values = np.frombuffer(base64.b64decode(spec["data"]), KINDS[spec["kind"]])
        made = np.resize(values, many).tobytes()
        columns[name] = {"kind": spec["kind"], "data": base64.b64encode(made).decode()}
    sources = [f"{k}.png" for k in range(many)]
    path = tampered(pages, tmp_path, n=many, sources=sources, columns=columns, chunk=50)
    text = path.read_text(encoding="utf-8")
    chunk = re.search(r'<script type="text/plain" id="chunk-0">.*?</script>', text, re.DOTALL)
    assert chunk
    copies = "".join(chunk[0].replace('"chunk-0"', f'"chunk-{k}"') for k in range(2, 12))
    path.write_text(text.replace(chunk[0], chunk[0] + copies), encoding="utf-8")
    page = wait(open_page(path))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator(".printed .cell").count() == 500
    assert "The first 500 of 600 are printed" in page.locator(".printed").inner_text()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator(".printed").count() == 0
    wait(page)


@pytest.mark.parametrize("colors", ["active", "none"])
def test_colours_of_the_system_leave_every_control_to_be_seen(open_page: Open, pages: Pages, colors: str) -> None:
    page = wait(open_page(pages.folder, "#outcome=wrong"))
    page.emulate_media(forced_colors=colors)  # type: ignore[arg-type]
    pressed = page.locator(".side .chip[aria-pressed=true]")
    other = page.locator(".side .chip[aria-pressed=false]").first
    colour = "chip => getComputedStyle(chip).backgroundColor"
    assert pressed.evaluate(colour) != other.evaluate(colour)


# ---- the other parts


def dreams() -> list[dict[str, Any]]:
    """What a run of dreams leaves on the wall."""
    return [
        {"title": title, "subtitle": "class", "layer": layer, "run": 0, "figure": "data:,", "thumb": "", "size": None,
         "painted": True, "facts": [["judged by", "tinynet: 99.1 %"]], "sentences": ["The judge agrees."]}
        for title, layer in (("espresso", "logits"), ("<b>tiger cat</b>", "logits"), ("channel 7", "blocks.4"))
    ]  # fmt: skip


def board() -> dict[str, Any]:
    """A leaderboard of three methods and a control."""

    def cell(mean: float, beats: bool | None = True) -> dict[str, Any]:
        return {"mean": mean, "error": 0.0123, "count": 9, "beats_controls": beats}

    rows: list[dict[str, Any]] = [
        {"title": title, "layer": "", "passes": passes, "control": passes is None, "marks": [], "curves": {},
         "cells": cells}
        for title, passes, cells in (
            ("Grad-CAM", 2, {"gain": cell(0.3), "sens": cell(0.2)}),
            ("Occlusion", 200, {"gain": cell(0.1, beats=False), "sens": cell(0.4)}),
            ("LayerCAM", 2, {"gain": cell(0.2)}),
            ("Random map", None, {"gain": cell(0.05), "sens": cell(0.1)}),
        )
    ]  # fmt: skip
    column = {"chance": None, "alpha": None, "controls": None, "ranked": True}
    return {
        "run": "real", "title": "Which is best?", "subtitle": "", "figure": None, "images": 9, "order_by": "gain",
        "tell_apart": 40, "foot": [], "rows": rows, "charts": [],
        "columns": [
            {"name": "gain", "title": "Gain", "better": "high", **column, "controls": [0.02, 0.06]},
            {"name": "sens", "title": "Sensitivity", "better": "low", **column},
        ],
    }  # fmt: skip


def test_a_wall_opens_what_it_shows_and_can_be_searched(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    path = tampered(pages, tmp_path, tabs={"dreams": dreams(), "evaluation": None, "findings": None})
    page = wait(open_page(path))
    page.get_by_role("tab", name="Dreams").click()
    assert page.locator(".tile").count() == 3
    page.get_by_label("Find in Dreams").fill("blocks")
    assert page.locator(".tile .class").all_inner_texts() == ["channel 7"]
    page.get_by_label("Find in Dreams").fill("")
    page.locator(".tile").first.press("Enter")
    dialog = page.get_by_role("dialog")
    assert "tinynet: 99.1 %" in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").inner_text() == "<b>tiger cat</b>"
    page.keyboard.press("Escape")
    page.locator('.tile[data-at="1"]:focus').wait_for()
    assert "tab=dreams" in page.evaluate("R.address()")


@pytest.mark.parametrize("width", [390, 700])
def test_on_a_phone_nothing_of_the_head_lies_over_another(
    open_page: Open, pages: Pages, tmp_path: Path, width: int
) -> None:
    path = tampered(
        pages, tmp_path, title="cnnviz report: " + "efficientnet_lite0 " * 4,
        tabs={"dreams": None, "evaluation": [board()], "findings": None},
    )  # fmt: skip
    page = open_page(path, "#tab=evaluation", width=width, height=800)
    page.get_by_role("tab", name="Evaluation").wait_for()
    boxes = [page.locator(f".head {part}").bounding_box() for part in (".title", ".tools", ".tabs")]
    for at, one in enumerate(boxes):
        for other in boxes[at + 1 :]:
            assert one
            assert other
            across = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
            down = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
            assert min(across, down) <= 0.5
    title = page.locator(".head .title")
    assert title.evaluate("title => getComputedStyle(title).overflow") == "hidden"  # so nothing hangs out of its box
    assert page.locator(".head h1").evaluate("one => one.offsetWidth") <= title.evaluate("one => one.clientWidth")
    assert (boxes[0] or {"width": 0})["width"] > 150


def test_a_wide_leaderboard_fits_on_paper(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    """A4 on its side has 1032 pixels between its margins."""
    made = board()
    made["columns"] = [{**made["columns"][0], "name": f"gain{n}", "title": f"Gain number {n}"} for n in range(7)]
    for row in made["rows"]:
        cell = next(iter(row["cells"].values()))
        row["cells"] = {f"gain{n}": cell for n in range(7)}
    tabs = {"dreams": None, "evaluation": [{**made, "order_by": "gain0"}], "findings": None}
    page = open_page(tampered(pages, tmp_path, tabs=tabs), "#tab=evaluation", width=1032, height=700)
    page.locator(".leaderboard").wait_for()
    page.emulate_media(media="print")
    try:
        assert page.locator(".leaderboard").evaluate("table => table.getBoundingClientRect().right") <= 1032
        assert page.locator(".evaluation").evaluate("part => getComputedStyle(part).page") == "wide"
    finally:
        page.emulate_media(media="screen")


def test_where_nothing_is_left_nothing_is_said_of_truths(open_page: Open, pages: Pages) -> None:
    page = wait(open_page(pages.folder, "#q=nothing+is+called+so"))
    assert "known truth" not in page.locator(".side").inner_text()


def test_a_leaderboard_sorts_by_any_column(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    page = open_page(tampered(pages, tmp_path, tabs={"dreams": None, "evaluation": [board()], "findings": None}),
                     "#tab=evaluation")  # fmt: skip
    heads = page.locator(".leaderboard tbody th")
    heads.first.wait_for()
    assert heads.all_inner_texts() == ["Grad-CAM", "LayerCAM", "Occlusion", "Random map"]
    assert "0.300 ± 0.012" in page.locator(".leaderboard tbody tr").first.inner_text()
    assert page.locator(".leaderboard .flag").count() == 1
    page.get_by_role("button", name="Sensitivity").click()  # the lower is the better
    assert heads.all_inner_texts() == ["Grad-CAM", "Occlusion", "LayerCAM", "Random map"]
    assert page.locator('.leaderboard th[aria-sort="ascending"]').inner_text().startswith("Sensitivity")
    page.get_by_role("button", name="Sensitivity").click()
    assert heads.all_inner_texts() == ["Occlusion", "Grad-CAM", "LayerCAM", "Random map"]
    apart = "9 images do not tell Grad-CAM and Occlusion apart: about 40 would, at two standard errors"
    assert apart in page.locator(".board").inner_text()


def marked(mean: float, chance: float) -> dict[str, Any]:
    """A leaderboard of one column, twelve times, where all lies far from 0."""
    judged = board()
    cell = {"mean": mean, "error": None, "count": 9, "beats_controls": True}
    names = [f"one {at}" for at in range(12)]
    for row in judged["rows"]:
        row["cells"] = dict.fromkeys(names, cell)
    judged["rows"][1]["cells"] = {name: {**cell, "mean": mean / 2} for name in names}
    column = {"better": "high", "alpha": 0.5, "ranked": True, "chance": chance, "controls": [mean, mean]}
    judged["columns"] = [{"name": name, "title": f"highest pixel {name}", **column} for name in names]
    curve = {"shares": [0, 1], "means": [1, 0]}
    judged["rows"][0]["curves"] = {"first": curve, "last": curve}
    judged["charts"] = [{"title": "Removal", "column": "one 0", "across": "share of the image", "up": "score",
                         "curves": [["first", "most important first"], ["last", "least important first"]]}]  # fmt: skip
    return {**judged, "order_by": "one 0"}


def test_bars_begin_at_0_and_numbers_of_a_column_have_the_same_digits(
    open_page: Open, pages: Pages, tmp_path: Path
) -> None:
    tabs = {"dreams": None, "evaluation": [marked(1.0, 0.88)], "findings": None}
    page = open_page(tampered(pages, tmp_path, tabs=tabs), "#tab=evaluation")
    first = page.locator(".leaderboard .bar").first
    first.wait_for()
    wide = float(first.get_attribute("width") or 0)
    # What is by chance lies at its share of the way from 0 to 1, and not where the bars begin.
    assert float(first.locator(".chance").get_attribute("x1") or 0) == pytest.approx(0.88 * wide)
    assert float(first.locator(".mean").get_attribute("width") or 0) == pytest.approx(wide)
    told = page.locator(".leaderboard tbody tr td:nth-child(3) .number").all_inner_texts()
    assert sorted(told) == ["0.50", "1.00", "1.00", "1.00"]
    assert page.locator(".charts figcaption .number").inner_text() == "1.00"


def test_the_key_of_curves_stands_above_them_and_apart(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    tabs = {"dreams": None, "evaluation": [marked(1.0, 0.88)], "findings": None}
    page = open_page(tampered(pages, tmp_path, tabs=tabs), "#tab=evaluation")
    charts = page.locator(".charts").bounding_box()
    key = page.locator(".legend", has_text="most important first")
    box, words = key.bounding_box(), [part.bounding_box() for part in key.locator("> span").all()]
    assert charts
    assert box
    assert box["y"] + box["height"] <= charts["y"]
    for one, other in pairwise(words):
        assert one
        assert other
        assert other["y"] > one["y"] or other["x"] - one["x"] - one["width"] >= 15


def test_all_columns_of_a_leaderboard_are_on_the_paper(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    tabs = {"dreams": None, "evaluation": [marked(1.0, 0.88)], "findings": None}
    page = open_page(tampered(pages, tmp_path, tabs=tabs), "#tab=evaluation", width=703, height=1000)  # A4, 12 mm
    table = page.locator(".leaderboard")
    table.wait_for()
    assert table.evaluate("table => table.getBoundingClientRect().right") > 703
    scroll = page.locator(".board .scroll")
    assert "gradient" in scroll.evaluate("box => getComputedStyle(box).backgroundImage")  # shades: there is more
    page.emulate_media(media="print")
    assert table.evaluate("table => table.getBoundingClientRect().right") <= 703
    assert scroll.evaluate("box => getComputedStyle(box).overflowX") == "visible"


def test_an_image_with_a_hash_in_its_name_opens_by_its_link(open_page: Open, pages: Pages, data: Data) -> None:
    odd = next(source for source in data.index["sources"] if "#" in source)
    page = open_page(pages.folder, f"#open={quote(odd, safe='')}")
    page.locator("dialog.detail[open]").wait_for()
    assert page.evaluate("R.state.open.value") == odd


def test_nobody_is_shut_out_of_the_other_parts(open_page: Open, pages: Pages, tmp_path: Path) -> None:
    """axe-core's rules in every dialog and tab of the grid, in light and dark; on a phone with its panels open."""
    tabs = {"dreams": dreams(), "evaluation": [board()], "findings": None}
    page = wait(open_page(tampered(pages, tmp_path, tabs=tabs)))

    def judged(what: str, place: str = "") -> None:
        assert violations(page, place) == CLEAN, what

    page.keyboard.press("?")
    judged("keys", "dialog[open]")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Whole matrix").click()
    judged("matrix", "dialog[open]")
    page.keyboard.press("Escape")
    page.evaluate("R.set({q: 'no such image'})")
    judged("nothing found")
    page.evaluate("R.set({q: '', outcome: 'wrong', sort: 'measure.0'})")
    judged("filtered and sorted by a measure")
    page.evaluate("R.set({tab: 'dreams'})")
    judged("wall")
    page.locator(".tile").first.click()
    judged("one of the wall", "dialog[open]")
    page.keyboard.press("Escape")
    page.evaluate("R.set({tab: 'evaluation'})")
    judged("leaderboard")
    page.set_viewport_size({"width": 390, "height": 800})
    page.evaluate("R.set({tab: 'images'})")
    for summary in ("Filters", "View"):
        page.locator("summary", has_text=summary).click()
        judged(f"{summary} on a phone")
