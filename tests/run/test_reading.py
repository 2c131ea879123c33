"""Limits and fast decoding, from the settings to the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hostile
import pytest
from PIL import Image
from run.resuming import Listener, listed, run

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.models.input.preprocessing import Preprocessing
from cnnviz_cli.run.image_data import read_options

pytestmark = pytest.mark.usefixtures("tiny_network")


def manifest_of(out: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    return manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small and a large picture, the large one 200 x 120 pixels."""
    (tmp_path / "in").mkdir()
    hostile.photograph(16, 14).save(tmp_path / "in" / "a.png")
    hostile.photograph(200, 120).save(tmp_path / "in" / "b.jpg", quality=95)
    return tmp_path / "in"


def test_limits_fail_one_picture_and_name_their_flag(folder: Path, tmp_path: Path) -> None:
    pixels = manifest_of_run(tmp_path / "1", folder, max_pixels="0.02")
    assert pixels["images"][0]["status"] == "ok"
    wanted = "the image is too large: 200 x 120 pixels are more than 0.02 megapixels (--max-pixels)"
    assert pixels["images"][1]["error"] == wanted
    assert pixels["images"][1]["sha256"]
    size = (folder / "b.jpg").stat().st_size
    most = manifest_of_run(tmp_path / "2", folder, max_bytes=str(size / 2**20))
    assert most["summary"]["ok"] == 2
    most = manifest_of_run(tmp_path / "3", folder, max_bytes=str((size - 1) / 2**20))
    assert most["images"][1]["error"].endswith(" MiB (--max-bytes)")
    assert most["run"]["config"]["max_bytes"] == (size - 1) / 2**20


def manifest_of_run(out: Path, folder: Path, **settings: str) -> dict[str, Any]:
    run(out, listed(folder), **settings)
    return manifest_of(out)


def test_a_wider_limit_has_only_what_was_refused_done_again(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, listed(folder), max_pixels="0.02")
    heard = Listener()
    outcome = run(out, listed(folder), heard, max_pixels="0.03")
    assert (outcome.summary.ok, outcome.done_before) == (2, 1)
    assert heard.done_ == ["b.jpg"]
    assert manifest_of(out)["run"]["config"]["max_pixels"] == 0.03


@pytest.mark.parametrize("workers", ["0", "1"])
def test_fast_decoding_draws_what_it_decoded_and_records_what_there_was(
    folder: Path, tmp_path: Path, workers: str
) -> None:
    heard = Listener()
    run(tmp_path / "out", listed(folder), heard, fast_decode="true", workers=workers)
    # The tiny network's input has 12 pixels a side.
    note = "images whose shorter side is 48 pixels or more are decoded and drawn at 1/2, 1/4, 1/8 of their size"
    assert [text for text in heard.said if "decoded" in text] == [note]
    manifest = manifest_of(tmp_path / "out")
    assert manifest["run"]["config"]["fast_decode"] is True
    assert [(image["width"], image["height"]) for image in manifest["images"]] == [(16, 14), (200, 120)]
    run(tmp_path / "whole", listed(folder), Listener(), workers=workers)
    drawn, whole = (
        [image["outputs"][0] for image in manifest_of(tmp_path / name)["images"]] for name in ("out", "whole")
    )
    # The figures carry the digest of the run's settings, of which fast decoding is one.
    assert {**drawn[0], "sha256": ""} == {**whole[0], "sha256": ""}, "a small picture is what it is without"
    with (
        Image.open(tmp_path / "out" / drawn[0]["path"]) as one,
        Image.open(tmp_path / "whole" / drawn[0]["path"]) as two,
    ):
        assert one.tobytes() == two.tobytes()
    assert drawn[1]["range"] != whole[1]["range"]
    assert drawn[1]["width"] != whole[1]["width"]


def test_twice_what_the_network_needs_is_kept() -> None:
    colours = (0.5,) * 3
    settings = load_settings("gradcam", {("fast_decode",): "true"}, None, {})
    assert read_options(settings, Preprocessing(256, 224, colours, colours)).least_side == 512
    squashed = Preprocessing(256, (224, 300), colours, colours, mode="squash")
    assert read_options(settings, squashed).least_side == 600
    whole = Preprocessing(256, 224, colours, colours, mode="full", most=640)
    assert read_options(settings, whole).least_side == 1280
    plain = load_settings("gradcam", {("max_pixels",): "0.5", ("max_bytes",): "1.5"}, None, {})
    reading = read_options(plain, whole)
    assert (reading.least_side, reading.max_pixels, reading.max_bytes) == (None, 500_000, 3 * 2**19)
