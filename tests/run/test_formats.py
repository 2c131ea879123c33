"""The pictures of a run in each format: their names, their bytes, and what is made of them later."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image
from run.resuming import Listener, run

from cnnviz_cli.cli.main import main
from cnnviz_cli.config.load import load_settings
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.inputs.search import Source
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.render import SUFFIXES, raster
from cnnviz_cli.render.style import RASTER
from cnnviz_cli.run import describe_run

pytestmark = pytest.mark.usefixtures("tiny_network")


def pictures_of(out: Path) -> list[dict[str, Any]]:
    images = json.loads((out / "manifest.json").read_text())["images"]
    return [output for image in images for output in image["outputs"]]


@pytest.mark.parametrize("kind", [*RASTER, "svg"])
def test_a_run_writes_its_pictures_in_the_format_and_knows_them_again(
    kind: str, tmp_path: Path, sources: list[Source]
) -> None:
    out, again = tmp_path / "out", Listener()
    run(out, sources, format=kind, target="top2")
    pictures = pictures_of(out)
    assert {Path(picture["path"]).suffix for picture in pictures} == {f".{SUFFIXES[kind]}"}
    assert any(picture["path"].endswith(f"gradcam.compare.{SUFFIXES[kind]}") for picture in pictures)
    for picture in pictures:
        if kind == "svg":
            root = ElementTree.parse(out / picture["path"]).getroot()
            assert [float(root.attrib[side]) for side in ("width", "height")] == [picture["width"], picture["height"]]
            continue
        with Image.open(out / picture["path"]) as opened:
            assert (opened.format, opened.size) == (kind.upper(), (picture["width"], picture["height"]))
    assert verify(out) == []
    run(out, sources, again, format=kind, target="top2")
    assert set(again.done_) <= {"3.png"}  # the broken one may be tried again


def test_a_dry_run_names_the_files_of_the_format(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "out", sources, format="webp", target="top2")
    flags = {("target",): "top2", ("format",): "webp"}
    first = [picture["path"] for picture in pictures_of(tmp_path / "out") if picture["path"].startswith("0.png/")]
    named = describe_run("gradcam", load_settings("gradcam", flags, None, {}), sources, Listener()).outputs
    assert len(named) == len(first)
    assert all(name.startswith("0.png/gradcam.") and name.endswith(".webp") for name in [*named, *first])


def test_a_picture_too_large_for_the_format_is_a_png_and_is_said(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(raster.MAX_SIDE, "webp", 320)
    heard = Listener()
    run(tmp_path / "out", sources[:1], heard, format="webp")
    (picture,) = pictures_of(tmp_path / "out")
    assert picture["path"] == "0.png/gradcam.png"
    longest = max(picture["width"], picture["height"])
    (warning,) = heard.warned
    assert warning.startswith("0.png/gradcam.png: it is a PNG, ")
    assert f"{longest} pixels are more than the 320 along a side that webp holds" in warning
    assert verify(tmp_path / "out") == []


def test_another_format_is_another_setting(tmp_path: Path, sources: list[Source]) -> None:
    heard = Listener()
    run(tmp_path / "out", sources)
    with pytest.raises(UsageError) as caught:
        run(tmp_path / "out", sources, format="jpeg")
    assert "format: png -> jpeg" in caught.value.fix
    run(tmp_path / "out", sources, heard, force=True, format="jpeg")
    assert len(heard.done_) == 7
    assert not list(verify(tmp_path / "out"))  # the first run's pictures are gone


def test_an_svg_that_was_changed_is_noticed(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(out, sources[:2], format="svg")
    first, second = (out / picture["path"] for picture in pictures_of(out))
    first.write_bytes(first.read_bytes().replace(b"</svg>", b"</svg><!-- -->"))
    (out / "another.svg").write_bytes(second.read_bytes())
    assert {(problem.kind, problem.path) for problem in verify(out)} == {
        ("changed", "0.png/gradcam.svg"),
        ("extra", "another.svg"),
    }


def test_what_a_figure_says_of_itself_is_the_same_in_any_batch(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "one", sources[:3], target="top2", batch_size="1")
    run(tmp_path / "two", sources[:3], target="top2", batch_size="2")
    (first, second) = (pictures_of(tmp_path / name) for name in ("one", "two"))
    told = []
    for picture in first:
        with Image.open(tmp_path / "one" / picture["path"]) as opened:
            told.append(opened.info)
    assert {info["Method"] for info in told} == {"gradcam", "gradcam compared"}
    assert all(info["Software"].startswith("cnnviz ") and len(info["Settings"]) == 64 for info in told)
    assert not any(str(tmp_path) in str(info) for info in told)
    for picture, other in zip(first, second, strict=True):
        with Image.open(tmp_path / "two" / other["path"]) as opened:
            assert opened.info == told[first.index(picture)]


def test_a_pdf_without_its_library_is_refused_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "reportlab.pdfgen", None)
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    assert main(["gradcam", str(tmp_path / "a.png"), "--format", "pdf", "-o", str(tmp_path / "out")]) == 2
    assert "pip install 'cnnviz-cli[pdf]'" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()
