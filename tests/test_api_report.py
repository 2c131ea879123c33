"""Explanations as a page, from Python: what it holds, and that a notebook shows it without a network."""

from __future__ import annotations

import base64
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from PIL import Image

import cnnviz_cli
from cnnviz_cli import Preprocessing
from cnnviz_cli.files.output.verify import verify

TINY = Preprocessing(12, 12, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@pytest.fixture
def found(tmp_path: Path) -> cnnviz_cli.Explanations:
    """Two images, one of them a file with a hostile name; a coarse map, a fine one and a projection in colours."""
    levels = np.random.default_rng(0).integers(0, 256, (2, 16, 20, 3), np.uint8)
    name = tmp_path / "a<b&'.png"
    Image.fromarray(levels[0]).save(name)
    methods = ["gradcam", "gradient", "deconvnet"]
    options: dict[str, Any] = {"preprocessing": TINY, "targets": "top2", "layers": None}
    return cnnviz_cli.explain(tiny.build(tiny.Plain).float(), [name, Image.fromarray(levels[1])], methods, **options)


def index_of(page: str) -> dict[str, Any]:
    (text,) = re.findall(r'<script type="application/json" id="index">(.*?)</script>', page, re.DOTALL)
    found: dict[str, Any] = json.loads(text)
    return found


def entries_of(page: str) -> list[dict[str, Any]]:
    blocks = re.findall(r'<script type="text/plain" id="chunk-\d+">(.*?)</script>', page, re.DOTALL)
    return [entry for block in blocks for entry in json.loads(block)]


def test_a_page_in_memory_holds_every_image_and_the_maps_own_numbers(found: cnnviz_cli.Explanations) -> None:
    report = found.report(title="tiny")
    assert report.path is None
    index, entries = index_of(report.html), entries_of(report.html)
    assert index["n"] == len(entries) == report.images == 2
    assert index["sources"] == ["a<b&'.png", "image 1"]
    assert index["mode"] == "single"
    assert "<title>tiny</title>" in report.html
    views = [view["method"] for view in index["views"]]
    assert set(views) == {"gradcam", "gradient", "deconvnet"}
    assert any(one.get("data") for entry in entries for one in entry["maps"])
    for image, entry in zip(found, entries, strict=True):
        assert base64.b64decode(entry["thumb"])[8:12] == b"WEBP"
        assert entry["size"] == [20, 16]
        shown = [one for one in entry["maps"] if views[one["view"]] == "gradcam"]
        assert len(shown) == 2
        for one, explanation in zip(shown, image.select("gradcam"), strict=True):
            assert one.get("state", "ok") == explanation.state
            assert one.get("range", one["scale"]) == pytest.approx(explanation.range)
            if one.get("data"):
                levels = np.frombuffer(base64.b64decode(one["data"]), np.uint8).reshape(one["shape"])
                low, high = one["scale"]
                np.testing.assert_allclose(low + (high - low) * levels / 255, explanation.map, atol=(high - low) / 255)


def test_the_notebook_s_frame_holds_the_page_and_nothing_from_outside(found: cnnviz_cli.Explanations) -> None:
    report = found.report()
    shown = report._repr_html_()
    (inner,) = re.findall(r'srcdoc="([^"]*)"', shown)
    assert html.unescape(inner) == report.html
    assert 'sandbox="allow-scripts allow-downloads"' in shown
    assert "allow-same-origin" not in shown
    outer = shown.replace(inner, "")
    assert not re.search(r"https?://|src=", outer)
    assert repr(report) == "<Report of 2 images>"


def test_one_file_is_written_where_it_is_wanted_and_again(found: cnnviz_cli.Explanations, tmp_path: Path) -> None:
    page = tmp_path / "to" / "report.html"
    page.parent.mkdir()
    first = found.report(page)
    assert first.path == page
    assert page.read_text(encoding="utf-8") == first.html
    assert found.report(str(page)).html == first.html
    assert [one.name for one in page.parent.iterdir()] == ["report.html"]
    assert str(tmp_path) not in first.html


def test_several_files_are_a_run_s_folder(found: cnnviz_cli.Explanations, tmp_path: Path) -> None:
    report = found.report(tmp_path / "out", single_file=False)
    assert report.path == tmp_path / "out/report.html"
    assert report.html == ""
    assert "report.html" in report._repr_html_()
    assert [one for one in verify(tmp_path / "out") if one.failure] == []
    shutil.rmtree(tmp_path / "out/report-data")
    table = cnnviz_cli.export(tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert len(table) == 1 + sum(map(len, found))


def test_nothing_to_report_and_nowhere_to_write_are_one_sentence(found: cnnviz_cli.Explanations) -> None:
    with pytest.raises(cnnviz_cli.UsageError, match="nothing to report"):
        cnnviz_cli.Explanations(()).report()
    with pytest.raises(cnnviz_cli.UsageError, match="lie somewhere"):
        found.report(single_file=False)


def test_a_place_that_cannot_be_written_is_one_sentence(found: cnnviz_cli.Explanations, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(cnnviz_cli.OutputError):
        found.report(tmp_path / "file" / "report.html")


def test_judged_explanations_have_their_measures(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8))
    net = tiny.build(tiny.Plain).float()
    judged = cnnviz_cli.evaluate(net, [image], ["gradcam"], measures=["sparseness"], preprocessing=TINY, layers="conv1")
    page = judged.report(tmp_path / "r.html").html
    (entry,) = entries_of(page)
    (shown,) = [one["measures"] for one in entry["maps"]]
    assert shown.items() >= dict(judged[0, "gradcam"].measures).items()
    assert index_of(page)["measures"]
