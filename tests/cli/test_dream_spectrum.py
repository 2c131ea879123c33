"""--spectrum: pictures from noise with the mean amplitudes of a folder of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nets
import numpy as np
import pytest
from PIL import Image

import cnnviz_cli
from cnnviz_cli.core.records import Manifest
from cnnviz_cli.methods.common.canvases import KLT

from .conftest import Command, Result

SIDE = 32
HOW = ("--model", "nets:classifier", "--allow-code", "--input-size", "32", "--threads", "1", "--device", "cpu")
ASKED = ("--target", "2", "--method", "maco", "--steps", "3")


@pytest.fixture
def dream(cnnviz: Command) -> Command:
    def run(*arguments: str | Path) -> Result:
        return cnnviz("dream", *arguments, *HOW)

    return run


def noise(seed: int, height: int, width: int) -> Any:
    """Detail of every size."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    fine = np.random.default_rng(seed + 1).integers(-20, 20, (height, width, 3))
    return (np.asarray(Image.fromarray(coarse).resize((width, height))) + fine).clip(0, 255).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, one of twice the width, and one that is none."""
    place = tmp_path / "photos"
    place.mkdir()
    Image.fromarray(noise(1, SIDE, SIDE)).save(place / "a.png")
    Image.fromarray(noise(3, SIDE, 2 * SIDE)).save(place / "b.png")
    return place


def template(folder: Path) -> Any:
    """(3, h, w // 2 + 1) by hand: of the middles of the two images the mean amplitude, colours taken apart."""
    found = []
    for name, left in (("a.png", 0), ("b.png", SIDE // 2)):
        values = np.asarray(Image.open(folder / name), dtype=np.float64)[:, left : left + SIDE] / 255
        apart = np.einsum("ij,hwj->ihw", np.linalg.inv(np.array(KLT)), values)
        found.append(np.abs(np.fft.rfft2(apart)))
    mean = sum(found) / 2
    mean[:, 0, 0] = 0
    for column in (0, SIDE // 2):  # what lies above is conjugate to what lies below
        upper, lower = mean[:, 1 : SIDE // 2, column], mean[:, : SIDE // 2 : -1, column]
        both = (upper + lower) / 2
        mean[:, 1 : SIDE // 2, column], mean[:, : SIDE // 2 : -1, column] = both, both
    return mean


@pytest.mark.parametrize("steps", [1, 12])
def test_the_amplitudes_of_the_picture_are_the_mean_of_the_images(folder: Path, steps: int) -> None:
    (one,) = cnnviz_cli.dream(
        nets.classifier(), target=2, method="maco", spectrum=folder, steps=steps, input_size=(32, 32), device="cpu"
    )
    waves = np.log(one.values.astype(np.float64) / (1 - one.values.astype(np.float64)))
    apart = np.einsum("ij,hwj->ihw", np.linalg.inv(np.array(KLT)), waves)
    amplitudes, expected = np.abs(np.fft.rfft2(apart)), template(folder)
    expected *= 1 / np.sqrt(np.var(np.fft.irfft2(expected, s=(SIDE, SIDE)), ddof=1))
    scale = (amplitudes * expected).sum() / np.square(expected).sum()
    clear = expected > 1e-3 * expected.max()
    assert clear.mean() > 0.9
    np.testing.assert_allclose(amplitudes[clear] / (scale * expected[clear]), 1, rtol=2e-3)
    assert abs(apart.std(ddof=1) - 1) < 1e-2


def test_names_and_folders_move_nothing_and_other_images_do(dream: Command, folder: Path, tmp_path: Path) -> None:
    first = dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "o")
    assert first.code == 0, first.err
    told = Manifest.model_validate_json((tmp_path / "o" / "manifest.json").read_bytes())
    assert told.run.spectrum_sha256 is not None
    assert told.run.config["dream"]["spectrum"] == "photos"  # type: ignore[index, call-overload]
    before = (tmp_path / "o/class-2-2/dream.png").read_bytes()
    (folder / "below").mkdir()
    (folder / "a.png").rename(folder / "below" / "z.png")
    assert "1 of 1" in dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "o").err
    dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "again")
    assert (tmp_path / "again/class-2-2/dream.png").read_bytes() == before
    Image.fromarray(noise(9, SIDE, SIDE)).save(folder / "c.png")
    refused = dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "o")
    assert (refused.code, "digest of --spectrum" in refused.err) == (2, True)
    dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "other")
    assert (tmp_path / "other/class-2-2/dream.png").read_bytes() != before
    dream(*ASKED, "-o", tmp_path / "law")
    assert (tmp_path / "law/class-2-2/dream.png").read_bytes() != before


def test_scores_are_found_again_without_the_images(
    dream: Command, cnnviz: Command, folder: Path, tmp_path: Path
) -> None:
    dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "o")
    for path in folder.iterdir():
        path.unlink()
    done = cnnviz("verify", tmp_path / "o", "--scores", "--allow-code")
    assert (done.code, "1 received as listed" in done.out) == (0, True)


def test_what_cannot_be_read_is_named_and_left_out(dream: Command, folder: Path, tmp_path: Path) -> None:
    dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "o")
    (folder / "broken.png").write_bytes(b"no image")
    done = dream(*ASKED, "--spectrum", folder, "-o", tmp_path / "again")
    assert done.code == 0
    assert "--spectrum: broken.png cannot be read" in done.err
    assert (tmp_path / "o/class-2-2/dream.png").read_bytes() == (tmp_path / "again/class-2-2/dream.png").read_bytes()


def test_grey_networks_and_other_proportions(cnnviz: Command, folder: Path, tmp_path: Path) -> None:
    how = ("--model", "nets:grey_classifier", "--allow-code", "--input-size", "28", "--threads", "1")
    done = cnnviz("dream", *ASKED[:4], "--steps", "2", "--spectrum", folder, *how, "-o", tmp_path / "o")
    assert done.code == 0, done.err
    sized = ("--size", "30x47", "--spectrum", folder / "b.png")
    done = cnnviz("dream", *ASKED, *sized, *HOW, "-o", tmp_path / "sized")
    assert done.code == 0, done.err
    with Image.open(tmp_path / "sized/class-2-2/dream.png") as picture:
        assert picture.size == (47, 30)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target", "2", "--spectrum", "photos"), ("--spectrum", "no chosen method", "--method maco")),
        ((*ASKED, "--spectrum", "none"), ("none",)),
        ((*ASKED, "--spectrum", "empty"), ("empty",)),
        ((*ASKED, "--spectrum", "broken"), ("none of the images in 'broken' can be read",)),
        (("photos/a.png", "--spectrum", "photos"), ("has that image's spectrum", "Leave out")),
    ],
)
def test_mistakes_are_told_in_a_sentence(
    dream: Command,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    monkeypatch.chdir(folder.parent)
    for name in ("empty", "broken"):
        Path(name).mkdir()
    Path("broken/a.png").write_bytes(b"no image")
    done = dream(*arguments)
    assert done.code in (2, 7), done.err
    assert "Traceback" not in done.err
    for word in words:
        assert word in done.err
