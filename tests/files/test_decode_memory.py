"""What decoding takes is told before it is done, and held to what the process then takes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import BYTES_PER_PIXEL, ReadOptions
from cnnviz_cli.files.images.decode import decode_memory, read_image

SIDE = 2500
MARGIN = 24 * 2**20
"""Of the interpreter itself, of strips that are converted, and of what the system rounds up."""

MEASURE = """
import os
import sys
from pathlib import Path
from PIL import Image
import numpy
from cnnviz_cli.files.images.decode import read_image
def peak():
    return next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))
for path in sys.argv[1:]:
    if not (child := os.fork()):  # its peak begins at what the process has
        before = peak()
        read_image(Path(path))
        print(1024 * (peak() - before), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
"""


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[274] = 6
    return exif


def plain(mode: str, colour: object) -> Image.Image:
    return Image.new(mode, (SIDE, SIDE), colour)  # type: ignore[arg-type]


CASES: dict[str, Callable[[Path], None]] = {
    "rgb.png": lambda path: plain("RGB", (9, 99, 200)).save(path, compress_level=1),
    "rgba.png": lambda path: plain("RGBA", (9, 99, 200, 100)).save(path, compress_level=1),
    "la.png": lambda path: plain("LA", (9, 99)).save(path, compress_level=1),
    "grey.png": lambda path: plain("L", 9).save(path, compress_level=1),
    "bits.png": lambda path: plain("1", 1).save(path, compress_level=1),
    "sixteen.png": lambda path: Image.fromarray(np.full((SIDE, SIDE), 3000, np.uint16)).save(path, compress_level=1),
    "floats.tiff": lambda path: Image.fromarray(np.full((SIDE, SIDE), 0.5, np.float32)).save(path),
    "progressive.jpg": lambda path: plain("RGB", (9, 99, 200)).save(path, progressive=True, subsampling=0),
    "turned.jpg": lambda path: plain("RGB", (9, 99, 200)).save(path, exif=turned()),
    "ink.jpg": lambda path: plain("CMYK", (1, 2, 3, 4)).save(path),
    "lossy.webp": lambda path: plain("RGB", (9, 99, 200)).save(path, quality=10, method=0),
    "key.png": lambda path: plain("P", 3).save(path, transparency=3),
    "tall.png": lambda path: Image.new("L", (1, 2_000_000), 7).save(path),
    "wide.png": lambda path: Image.new("L", (2_000_000, 1), 7).save(path),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image of each kind, under its name."""
    made = tmp_path_factory.mktemp("kinds")
    for name, write in CASES.items():
        write(made / name)
    return made


@pytest.fixture(scope="module")
def taken(folder: Path) -> dict[str, int]:
    """The bytes that decoding took, each in a process of its own that has imported before."""
    command = [sys.executable, "-c", MEASURE, *(str(folder / name) for name in CASES)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(zip(CASES, map(int, lines), strict=True))


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="the system does not say what a process took")  # noqa: PTH110
@pytest.mark.parametrize("name", CASES)
def test_it_takes_no_more_than_was_said(name: str, folder: Path, taken: dict[str, int]) -> None:
    path = folder / name
    data = path.read_bytes()
    with Image.open(path) as image:
        said = decode_memory(image, data, image.size, turned=name.startswith("turned"))
    assert taken[name] <= said + MARGIN


def test_a_row_is_not_free(tmp_path: Path) -> None:
    """A hundred million rows of one bit come in two kilobytes; each takes a pointer, and so does each copy of it."""
    Image.new("1", (1, 3_000_000)).save(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size < 10_000
    with Image.open(tmp_path / "x.png") as image:
        said = decode_memory(image, b"", image.size, turned=False)
    assert said == 3_000_000 * (1 + 4 + 2 * 16)
    huge = tmp_path / "huge.png"
    Image.new("1", (1, 30_000_000)).save(huge)
    with pytest.raises(
        ImageError, match=r"of this kind take 1\.1 GB, as much as 185 megapixels, more than 50"
    ) as caught:
        read_image(huge, ReadOptions(max_pixels=50_000_000))
    assert caught.value.fix.startswith("Resize it first")


def test_an_rgb_image_of_as_many_pixels_as_are_allowed_fits(tmp_path: Path) -> None:
    Image.new("RGB", (8000, 8000)).save(tmp_path / "x.png", compress_level=1)
    assert BYTES_PER_PIXEL == 6
    assert read_image(tmp_path / "x.png", ReadOptions(max_pixels=64_000_000)).size == (8000, 8000)
