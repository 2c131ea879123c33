"""What a study has found, as a part of the page."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from exports.saved import image, save
from PIL import Image
from report.conftest import Open
from report.reading import Read
from report.test_several_runs import photo

from cnnviz_cli.report import ReportOptions, write_report


def study_run(root: Path, *, sheets: int = 2) -> Path:
    """A run with findings, figures and a table."""
    place = save(root, image("a.png"), command="find") / "manifest.json"
    plain: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
    plain["findings"] = {
        "study": "made-up-study",
        "seen": [
            {"name": "", "images": 4, "unseen": 1, "sha256": ""},
            {"name": "<i>train</i>", "images": 1, "unseen": 0, "sha256": ""},
        ],
    }
    plain["sheets"] = [
        {
            "family": "made-up-study", "method": None, "layer": "blocks.<2>", "target": None, "path": f"sheet-{at}.png",
            "sha256": photo(root, f"sheet-{at}.png", "sienna"), "width": 300, "height": 200, "range": None,
            "state": "ok", "statistics": {},
        }
        for at in range(sheets)
    ]  # fmt: skip
    (root / "found.csv").write_text("unit,value\n1,2\n")
    plain["tables"] = [{"path": "found.csv", "sha256": "0" * 64}, {"path": "../outside.csv", "sha256": "0" * 64}]
    place.write_text(json.dumps(plain), encoding="utf-8")
    return root


def test_what_was_found_its_figures_and_its_tables_are_named(tmp_path: Path) -> None:
    root = study_run(tmp_path / "run")
    read = Read(write_report([root]).path)
    (found,) = read.index["tabs"]["findings"]
    assert (found["run"], found["title"], found["lines"]) == ("run", "made up study", [])
    assert found["subtitle"] == "net (of 2024) · 4 images, 1 not seen · 1 image of <i>train</i>"
    first, _ = found["figures"]
    assert (first["title"], first["layer"], first["size"]) == ("sheet-0", "blocks.<2>", [300, 200])
    assert read.file(first["figure"]) == root / "sheet-0.png"
    assert first["image"] is None
    (name, address), outside = found["tables"]
    assert (name, read.file(address)) == ("found.csv", root / "found.csv")
    assert outside == ["../outside.csv", None]


def test_a_run_that_is_no_study_has_no_findings(tmp_path: Path) -> None:
    read = Read(write_report([save(tmp_path / "run", image("a.png"))]).path)
    assert read.index["tabs"]["findings"] is None


def test_a_single_file_has_the_figures_themselves(tmp_path: Path) -> None:
    root = study_run(tmp_path / "run")
    made = write_report([root], ReportOptions(single_file=True, output=tmp_path / "mail" / "report.html"))
    first, other = Read(made.path).index["tabs"]["findings"][0]["figures"]
    assert first["figure"] is None
    picture = Image.open(BytesIO(base64.b64decode(first["image"]))).convert("RGB")
    assert picture.size == (300, 200)
    assert picture.getpixel((150, 100)) == pytest.approx((160, 82, 45), abs=6)
    assert other["image"]


def test_a_figure_that_has_changed_is_not_carried(tmp_path: Path) -> None:
    root = study_run(tmp_path / "run")
    photo(root, "sheet-1.png", "navy")
    made = write_report([root], ReportOptions(single_file=True, output=tmp_path / "mail" / "report.html"))
    first, other = Read(made.path).index["tabs"]["findings"][0]["figures"]
    assert first["image"]
    assert other["image"] is None


@pytest.mark.browser
@pytest.mark.parametrize("single", [False, True])
def test_findings_are_a_part_with_figures_and_tables(open_page: Open, tmp_path: Path, single: bool) -> None:
    root = study_run(tmp_path / "run")
    page = open_page(write_report([root], ReportOptions(single_file=single)).path, "#tab=findings")
    page.get_by_role("tab", name="Findings").wait_for()
    part = page.get_by_role("main", name="Findings")
    assert part.locator("h2").inner_text().lower() == "made up study"
    assert "1 image of <i>train</i>" in part.inner_text()
    shown = part.locator("figure img")
    shown.first.evaluate("one => one.decode()")
    assert shown.count() == 2
    assert shown.first.evaluate("one => one.naturalWidth") == 300
    assert part.locator("a", has_text="found.csv").count() == (0 if single else 1)
    assert part.locator("a", has_text="outside.csv").count() == 0
    assert "found.csv" in part.inner_text()
