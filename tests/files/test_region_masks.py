"""Masks: what counts as inside, which file is whose, and where they lie in the network's input."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any, get_args

import hostile
import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.errors import ImageError, UsageError
from cnnviz_cli.core.file_reading import ReadOptions
from cnnviz_cli.core.geometry import ResizeCrop
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.images.region_masks import Mask, open_masks, resize_mask
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.models.input.preprocessing import Preprocessing, ResizeMode

ROW = [[False, True, True]]


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def named(name: str) -> Source:
    return Source("/photos", name, name)


def drawn(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (12, 8)) -> Image.Image:
    image = Image.new("L", size)
    for box in boxes:
        image.paste(255, box)
    return image


def inside(path: Path, size: tuple[int, int] = (3, 1), how: ReadOptions | None = None) -> list[list[bool]]:
    masks = open_masks(path)
    return masks.mask_for(named("x.jpg"), size, how or ReadOptions()).inside.tolist()


def mask_of(image: Image.Image) -> Mask:
    return Mask(np.asarray(image) > 0, "")


def palette(indices: list[int], colours: list[int]) -> Image.Image:
    image = Image.new("P", (len(indices), 1))
    image.putpalette(colours)
    for at, index in enumerate(indices):
        image.putpixel((at, 0), index)
    return image


# --- what is inside ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "values"),
    [
        ("1", [0, 1, 1]),
        ("L", [0, 1, 255]),  # a label 1 is as much inside as white
        ("RGB", [(0, 0, 0), (0, 0, 1), (255, 255, 255)]),
        ("I;16", [0, 1, 65535]),  # which in 8 bits would be 0, 0, 255
        ("RGBA", [(0, 0, 0, 255), (1, 0, 0, 255), (9, 9, 9, 255)]),  # opaque everywhere: colours count
        ("RGBA", [(255, 255, 255, 127), (0, 0, 0, 128), (0, 0, 0, 255)]),  # a cut-out: its colours are the object's
        ("LA", [(255, 0), (0, 255), (0, 200)]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_not_black_or_not_transparent_is_inside(tmp_path: Path, mode: str, values: list[Any]) -> None:
    image = Image.new(mode, (3, 1))
    for at, value in enumerate(values):
        image.putpixel((at, 0), value)
    assert inside(saved(image, tmp_path / "m.png")) == ROW


def test_of_a_palette_every_index_but_0_is_inside(tmp_path: Path) -> None:
    labels = palette([0, 1, 255], [90, 90, 90] + [0, 0, 0] * 255)  # whatever the colours are
    assert inside(saved(labels, tmp_path / "m.png")) == ROW
    # Packed by a tool that begins with white, where it is about two colours alone.
    packed = palette([1, 0, 0], [255, 255, 255, 0, 0, 0])
    assert inside(saved(packed, tmp_path / "packed.png")) == ROW
    grey = palette([0, 0, 0], [200, 200, 200, 0, 0, 0])
    assert inside(saved(grey, tmp_path / "grey.png")) == [[False] * 3]
    seen_through = palette([1, 0, 2], [90, 90, 90, 1, 1, 1, 2, 2, 2])
    assert inside(saved(seen_through, tmp_path / "t.png", transparency=b"\xff\x00\xff")) == ROW
    assert inside(saved(Image.new("L", (3, 1), 255), tmp_path / "m.gif")) == [[True] * 3]


def test_floats_that_are_no_numbers_are_outside(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[np.nan, -0.5, 1e-9]], np.float32))
    assert inside(saved(image, tmp_path / "m.tiff")) == ROW


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_formats_that_blur_are_cut_at_half(tmp_path: Path, suffix: str) -> None:
    image = drawn((13, 3, 30, 29), size=(48, 32))
    path = saved(image, tmp_path / f"m.{suffix}", quality=75)
    blurred = np.asarray(Image.open(path).convert("L"))[np.asarray(image) == 0]
    assert blurred.any()
    assert open_masks(path).mask_for(named("x.png"), (48, 32)).inside.tolist() == (np.asarray(image) > 0).tolist()


def test_it_stands_upright_as_the_photograph_does(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.new("L", (3, 2))
    stored.putpixel((0, 0), 255)
    path = saved(stored, tmp_path / "m.png", exif=exif)
    photo = read_image(saved(stored.convert("RGB"), tmp_path / "x.png", exif=exif))
    mask = open_masks(path).mask_for(named("x.png"), photo.size)
    assert photo.size == (2, 3)
    assert mask.inside.tolist() == [[False, True], [False] * 2, [False] * 2]
    assert mask.inside.tolist() == (np.asarray(photo.image)[..., 0] > 0).tolist()
    with pytest.raises(ImageError, match="2 x 3 pixels, other proportions than its own 3 x 2"):
        open_masks(path).mask_for(named("x.png"), (3, 2))


# --- whose it is -------------------------------------------------------------------------------------------


def test_one_file_is_every_photographs_and_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(drawn((2, 2, 4, 4)), tmp_path / "m.png")
    masks = pickle.loads(pickle.dumps(open_masks(path)))
    monkeypatch.setattr(Path, "read_bytes", None)
    # Of its own size, or of the same proportions, however the photograph is to be decoded.
    first = masks.mask_for(named("a.jpg"), (12, 8))
    assert first is masks.mask_for(named("b/c.png"), (1200, 800), ReadOptions(least_side=2))
    assert first.inside.sum() == 4
    assert first.sha256 == masks.sha256


def test_in_a_folder_it_has_the_photographs_stem(tmp_path: Path) -> None:
    for number, name in enumerate(("cat.png", "animals/dog.GIF", "dog.bmp", "owl.x.tif")):
        saved(drawn((0, 0, number + 1, 1)), tmp_path / name)
    (tmp_path / "cat.txt").write_text("no picture")
    (tmp_path / "fox.png").mkdir()
    masks = open_masks(tmp_path)
    assert masks.sha256 is None
    sizes = {
        name: int(masks.mask_for(named(name), (12, 8)).inside.sum()) for name in ("cat.jpg", "dog.jpg", "owl.x.jpeg")
    }
    assert sizes == {"cat.jpg": 1, "dog.jpg": 3, "owl.x.jpeg": 4}
    # Where the photograph lies below its folder comes first, then the folder of masks itself.
    assert masks.mask_for(named("animals/dog.jpg"), (12, 8)).inside.sum() == 2
    assert masks.mask_for(named("pets/cat.jpg"), (12, 8)).inside.sum() == 1
    assert masks.mask_for(named("a.zip/animals/../../../cat.jpg"), (12, 8)).inside.sum() == 1
    for name in ("fox.jpg", "owl.jpg", "animals/bee.jpg", f"{'long' * 200}.jpg", "nul\0.jpg"):
        with pytest.raises(ImageError, match="it has no mask: there is no '") as caught:
            masks.mask_for(named(name), (12, 8))
        assert str(tmp_path) not in caught.value.what, "the manifest must not depend on the place"
    with pytest.raises(ImageError, match=r"no 'bee\.png', nor of another format"):
        masks.mask_for(named("animals/bee.jpg"), (12, 8))


def test_two_masks_of_one_photograph_are_one_too_many(tmp_path: Path) -> None:
    for name in ("cat.png", "cat.tif"):
        saved(drawn((0, 0, 1, 1)), tmp_path / name)
    with pytest.raises(ImageError, match=r"several masks: cat\.png and cat\.tif"):
        open_masks(tmp_path).mask_for(named("cat.jpg"), (12, 8))


@pytest.mark.parametrize("size", [(12, 9), (8, 12), (24, 17), (6, 5)])
def test_other_proportions_than_the_photographs_are_named(tmp_path: Path, size: tuple[int, int]) -> None:
    masks = open_masks(saved(drawn((0, 0, 1, 1)), tmp_path / "m.png"))
    with pytest.raises(ImageError, match=f"12 x 8 pixels, other proportions than its own {size[0]} x {size[1]}"):
        masks.mask_for(named("x.jpg"), size)


# --- files that nobody should send -------------------------------------------------------------------------

HOSTILE = {
    "empty": (b"", "the file is empty"),
    "text": (b"region: all of it", "looks like text"),
    "cut short": (hostile.encoded(hostile.photograph(), "PNG")[:200], "cut short"),
    "bomb": (hostile.png_of(60_000, 60_000, 8, 0, b""), "too large"),
    "script": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "PostScript"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_named_failures(tmp_path: Path, name: str) -> None:
    data, reason = HOSTILE[name]
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match=reason) as caught:
        open_masks(tmp_path).mask_for(named("x.jpg"), (12, 8))
    assert caught.value.what.startswith("its mask: ")
    assert caught.value.sha256 is None, "the photograph's, not the mask's, goes into the record"
    assert str(tmp_path) not in caught.value.what
    with pytest.raises(UsageError, match=reason) as refused:
        open_masks(tmp_path / "x.png")
    assert refused.value.where == "--region"


def test_limits_hold_for_masks_too(tmp_path: Path) -> None:
    saved(drawn(), tmp_path / "x.png")
    for how, flag in ((ReadOptions(max_pixels=95), "--max-pixels"), (ReadOptions(max_bytes=20), "--max-bytes")):
        with pytest.raises(ImageError, match=f"its mask: .*{flag}"):
            open_masks(tmp_path).mask_for(named("x.jpg"), (12, 8), how)
        with pytest.raises(UsageError, match=flag):
            open_masks(tmp_path / "x.png", how)
    with pytest.raises(UsageError, match="No such file"):
        open_masks(tmp_path / "y.png")
    with pytest.raises(UsageError, match="cannot be read"):
        open_masks(Path("a\0b.png"))


# --- where it lies -----------------------------------------------------------------------------------------

BLACK = (0.0, 0.0, 0.0)
MODES: tuple[ResizeMode, ...] = get_args(ResizeMode)


def preprocessing(mode: ResizeMode, **others: Any) -> Preprocessing:
    """An input of 40 rows and 60 columns, in which a photograph is shown by the nearest of its pixels."""
    return Preprocessing((40, 60), (40, 60), BLACK, (1.0,) * 3, "nearest", mode, **others)


@pytest.mark.parametrize(
    ("mode", "size", "marked", "expected"),
    [
        # Halved to 70 x 40, of which 5 columns are cut at the left: columns 60 to 61 become 30 - 5.
        ("crop", (140, 80), (60, 20, 62, 22), (25, 10, 26, 11)),
        # 140 columns become 60 and 80 rows 40: 70 to 84 is 30 to 36.
        ("squash", (140, 80), (70, 20, 84, 40), (30, 10, 36, 20)),
        # A quarter, 30 x 40, in the middle of 60 columns.
        ("pad", (120, 160), (0, 0, 4, 4), (15, 0, 16, 1)),
        ("pad", (240, 80), (236, 76, 240, 80), (59, 29, 60, 30)),
        # At its own size, 6 columns and 8 rows cut.
        ("full", (140, 81), (7, 9, 8, 10), (1, 1, 2, 2)),
    ],
)
def test_a_marked_pixel_is_where_each_mode_shows_it(
    mode: ResizeMode, size: tuple[int, int], marked: tuple[int, int, int, int], expected: tuple[int, int, int, int]
) -> None:
    image, how = drawn(marked, size=size), preprocessing(mode)
    seen = resize_mask(mask_of(image), how.resize_crop(size))
    rows, columns = np.nonzero(seen)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == expected
    assert seen.dtype == np.uint8
    assert seen.sum() == (expected[2] - expected[0]) * (expected[3] - expected[1])
    shown, view = how.crop_image(image.convert("RGB"))
    assert seen.tolist() == (np.asarray(shown)[..., 0] > 0).tolist()
    assert seen.shape == view.size[::-1]


def untied(start: int, count: int, resized: int, there: int) -> list[bool]:
    """Which centres along a side do not lie on an edge between two pixels, where rounding decides for Pillow."""
    return [(2 * at + 1) * there % (2 * resized) != 0 for at in range(start, start + count)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(60, 40), (140, 81), (81, 140), (17, 33), (7, 300), (637, 479), (1, 1)])
def test_every_mode_shows_the_mask_as_it_shows_the_photograph(mode: ResizeMode, size: tuple[int, int]) -> None:
    dots = np.random.default_rng(5).random(size[::-1]) < 0.5
    dots[size[1] // 2, size[0] // 2] = True
    image = Image.fromarray(dots.astype(np.uint8) * 255)
    for how in (preprocessing(mode), preprocessing(mode, side=64) if mode == "full" else preprocessing(mode, most=90)):
        shown, _ = how.crop_image(image.convert("RGB"))
        placing = how.resize_crop(size)
        seen = resize_mask(mask_of(image), placing)
        told = np.ix_(
            *[untied(*side) for side in zip(placing.corner, placing.size, placing.resized, size, strict=True)][::-1]
        )
        assert seen[told].tolist() == (np.asarray(shown)[..., 0] > 0)[told].tolist()
        assert seen[told].size > seen.size / 2


def test_a_mask_of_another_size_lies_in_the_same_place() -> None:
    # The photograph is 140 x 80; its mask has half, or twice, as many pixels a side.
    placing = preprocessing("crop").resize_crop((140, 80))
    plain = resize_mask(mask_of(drawn((40, 20, 80, 60), size=(140, 80))), placing)
    assert resize_mask(mask_of(drawn((20, 10, 40, 30), size=(70, 40))), placing).tolist() == plain.tolist()
    assert resize_mask(mask_of(drawn((80, 40, 160, 120), size=(280, 160))), placing).tolist() == plain.tolist()
    assert plain.sum() == 20 * 20


def test_a_sliver_is_never_resized_whole() -> None:
    # It were 60 x 3,000,000 pixels; of its middle 40 rows are shown.
    placing = preprocessing("crop").resize_crop((1, 50_000))
    mask = np.zeros((50_000, 1), bool)
    mask[25_000:] = True
    seen = resize_mask(Mask(mask, ""), placing)
    assert seen.shape == (40, 60)
    assert seen[20:].all()
    assert not seen[:20].any()


def test_a_mask_of_which_nothing_is_seen_is_refused() -> None:
    placing = preprocessing("crop").resize_crop((140, 80))
    with pytest.raises(ImageError, match="its mask is empty") as caught:
        resize_mask(mask_of(drawn(size=(140, 80))), placing)
    assert "not black" in caught.value.fix
    corner = mask_of(drawn((0, 0, 9, 80), size=(140, 80)))
    with pytest.raises(ImageError, match="nothing of its mask is within what the network sees of it") as caught:
        resize_mask(corner, placing)
    assert "--resize pad" in caught.value.fix
    assert resize_mask(corner, ResizeCrop((60, 34), (60, 40))).any()
