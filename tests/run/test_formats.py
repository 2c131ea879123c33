"""The pictures of a run in each format: their names, their bytes, and what is made of them later."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from run.resuming import Listener, run

from cnnviz_cli.config.load import load
from cnnviz_cli.files.sources import Source
from cnnviz_cli.files.verify import verify
from cnnviz_cli.render import FORMATS, SUFFIXES, encoding
from cnnviz_cli.run import dry_run

pytestmark = pytest.mark.usefixtures("tiny_network")


def pictures_of(out: Path) -> list[dict[str, Any]]:
    images = json.loads((out / "manifest.json").read_text())["images"]
    return [output for image in images for output in image["outputs"]]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_run_writes_its_pictures_in_the_format_and_knows_them_again(
    kind: str, tmp_path: Path, sources: list[Source]
) -> None:
    out, again = tmp_path / "out", Listener()
    run(out, sources, format=kind, target="top2")
    pictures = pictures_of(out)
    assert {Path(picture["path"]).suffix for picture in pictures} == {f".{SUFFIXES[kind]}"}
    assert any(picture["path"].endswith(f"gradcam.compare.{SUFFIXES[kind]}") for picture in pictures)
    for picture in pictures:
        with Image.open(out / picture["path"]) as opened:
            assert (opened.format, opened.size) == (kind.upper(), (picture["width"], picture["height"]))
    assert verify(out) == []
    run(out, sources, again, format=kind, target="top2")
    assert set(again.done_) <= {"3.png"}  # the broken one may be tried again


def test_a_dry_run_names_the_files_of_the_format(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "out", sources, format="webp", target="top2")
    flags = {("target",): "top2", ("format",): "webp"}
    first = [picture["path"] for picture in pictures_of(tmp_path / "out") if picture["path"].startswith("0.png/")]
    named = dry_run("gradcam", load("gradcam", flags, None, {}), sources, Listener()).outputs
    assert len(named) == len(first)
    assert all(name.startswith("0.png/gradcam.") and name.endswith(".webp") for name in [*named, *first])


def test_a_picture_too_large_for_the_format_is_a_png_and_is_said(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(encoding.MOST, "webp", 320)
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
    run(tmp_path / "out", sources, heard, format="jpeg")
    assert len(heard.done_) == 7
    assert "(format: png -> jpeg): done again" in heard.warned[0]
    assert {problem.kind for problem in verify(tmp_path / "out")} == {"extra"}  # the first run's
