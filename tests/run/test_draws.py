"""Random draws belong to an image's bytes and the run's seed: not to its place, its name or its batch."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from run.resuming import Listener

from cnnviz_cli.config.load import load_settings
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.run import execute
from cnnviz_cli.run.session import image_seed

pytestmark = pytest.mark.usefixtures("tiny_network")

Runs = Callable[..., dict[str, NDArray[np.float32]]]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three files: two of the same pixels in other bytes, and a copy of the first under another name."""
    folder = tmp_path / "in"
    folder.mkdir()
    pixels = np.random.default_rng(3).integers(0, 255, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "a.png", compress_level=1)
    Image.fromarray(pixels).save(folder / "b.png", compress_level=9)
    shutil.copy(folder / "a.png", folder / "c.png")
    assert (folder / "a.png").read_bytes() != (folder / "b.png").read_bytes()
    return folder


@pytest.fixture
def drawn(tmp_path: Path) -> Runs:
    """The map of each image under a method that draws at random."""

    def run(name: str, folder: Path, method: str, *, batch: int = 1, **settings: Any) -> dict[str, NDArray[np.float32]]:
        flags: dict[tuple[str, ...], Any] = {
            ("output",): str(tmp_path / name),
            ("batch_size",): str(batch),
            ("device",): "cpu",
            ("workers",): "0",
            ("save_arrays",): "true",
            ("saliency", "method"): [method],
        }
        flags |= {("saliency", key): value for key, value in settings.items() if key != "seed"}
        flags |= {(key,): value for key, value in settings.items() if key == "seed"}
        sources = find_images([folder], recursive=False)
        execute("saliency", load_settings("saliency", flags, None, {}), sources, Listener())
        maps = {}
        for source in sources:
            with np.load(tmp_path / name / source.name / "arrays.npz") as arrays:
                (maps[source.name],) = (arrays[key] for key in arrays.files)
        return maps

    return run


@pytest.mark.parametrize(("method", "options"), [("smoothgrad", {"samples": "4"}), ("rise", {"masks": "12"})])
def test_each_files_bytes_have_draws_of_their_own(
    method: str, options: dict[str, str], pictures: Path, drawn: Runs
) -> None:
    one = drawn("one", pictures, method, **options)
    # The network sees the same pixels of all three, so that nothing but the draws can tell them apart.
    assert not np.array_equal(one["a.png"], one["b.png"])
    np.testing.assert_array_equal(one["a.png"], one["c.png"])


@pytest.mark.parametrize(("method", "options"), [("smoothgrad", {"samples": "4"}), ("rise", {"masks": "12"})])
def test_neither_the_batch_nor_the_company_changes_them(
    method: str, options: dict[str, str], pictures: Path, drawn: Runs
) -> None:
    one = drawn("one", pictures, method, **options)
    together = drawn("together", pictures, method, batch=3, **options)
    apart = np.abs(one["a.png"] - one["b.png"]).max()
    for name, values in one.items():
        assert np.abs(values - together[name]).max() < 1e-3 * apart
    (pictures / "a.png").unlink()
    alone = drawn("alone", pictures, method, **options)
    np.testing.assert_array_equal(alone["b.png"], one["b.png"])


def test_the_runs_seed_changes_every_images_draws(pictures: Path, drawn: Runs) -> None:
    zero, one = (drawn(f"seed {seed}", pictures, "smoothgrad", samples="4", seed=seed) for seed in ("0", "1"))
    for name, values in zero.items():
        assert not np.array_equal(values, one[name])


@pytest.mark.parametrize(("seed", "digest", "number"), [(0, "ab", 0xD8C00596909472), (7, "cd", 0x56A4D1BB8273FA)])
def test_the_number_they_start_from_is_written_down(seed: int, digest: str, number: int) -> None:
    # printf '7:cd' | sha256sum | head -c 14
    assert image_seed(seed, digest) == number
