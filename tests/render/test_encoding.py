"""Files in each format: the pixels, nothing beside them, and the same bytes each time."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cnnviz_cli.render import SUFFIXES
from cnnviz_cli.render.layout import Line, set_lines
from cnnviz_cli.render.raster import MAX_SIDE, encode, encode_png, rasterize
from cnnviz_cli.render.style import RASTER


def photograph() -> Image.Image:
    """Soft colours, as photographs have them."""
    rough = np.random.default_rng(5).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(rough).resize((240, 180), Image.Resampling.BICUBIC)


def indexed() -> Image.Image:
    """A sheet's kind of picture: a table of colours and hard edges."""
    sheet = Image.fromarray(np.random.default_rng(5).integers(0, 256, (30, 40), dtype=np.uint8)).resize((240, 180), 0)
    sheet.putpalette(np.random.default_rng(6).permutation(768).astype(np.uint8).tobytes())
    return sheet


def decoded(data: bytes) -> Image.Image:
    with Image.open(BytesIO(data)) as opened:
        opened.load()
        return opened.copy()


@pytest.mark.parametrize("picture", [photograph(), indexed()], ids=["RGB", "P"])
@pytest.mark.parametrize("kind", RASTER)
def test_each_format_is_what_it_says_and_nothing_more(kind: str, picture: Image.Image) -> None:
    tagged = picture.copy()
    exif = Image.Exif()
    exif[0x013B] = "whoever took it"
    tagged.info |= {
        "icc_profile": b"of the scanner",
        "exif": exif.tobytes(),
        "xmp": b"<x/>",
        "comment": b"hello",
        "dpi": (9, 9),
    }
    file = encode(tagged, kind)
    assert (file.suffix, file.note) == (SUFFIXES[kind], "")
    with Image.open(BytesIO(file.data)) as opened:
        assert opened.format == kind.upper()
        assert opened.size == picture.size
        assert set(opened.info) <= {
            "jfif",
            "jfif_version",
            "jfif_unit",
            "jfif_density",
            "loop",
            "background",
            "timestamp",
            "duration",
        }
        assert not opened.getexif()
    assert file.data == encode(picture, kind).data
    assert "icc_profile" in tagged.info


@pytest.mark.parametrize(
    "picture", [photograph(), indexed(), Image.new("RGB", (1, 1), "#0a0b0c")], ids=["RGB", "P", "1x1"]
)
def test_a_png_taken_apart_by_the_standard_library(picture: Image.Image) -> None:
    """Lengths and checksums of the chunks, and rows that are differences to the ones above, where there is a photo."""
    data = encode_png(picture, {"Method": "grad-cam", "Target": "großer Schweizer"}, dpi=300)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        name, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(name + content),)
        chunks.append((name, content))
        at += 12 + length
    found = dict(chunks)
    palette = [b"PLTE"] if picture.mode == "P" else []
    assert [name for name, _ in chunks] == [b"IHDR", b"pHYs", b"iTXt", b"iTXt", *palette, b"IDAT", b"IEND"]
    rows = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(picture.height, -1)
    pixels = rows[:, 1:]
    if picture.mode == "RGB":
        assert (rows[:, 0] == 2).all()
        pixels = np.cumsum(pixels, 0, dtype=np.uint8)
    assert pixels.tobytes() == picture.tobytes()


@pytest.mark.parametrize(("kind", "lost"), [("png", 0), ("webp", 0), ("jpeg", 40)])
def test_how_much_an_indexed_picture_loses(kind: str, lost: int) -> None:
    back = np.asarray(decoded(encode(indexed(), kind).data).convert("RGB")).astype(int)
    error = np.abs(back - np.asarray(indexed().convert("RGB"))).mean()
    assert error == 0 if lost == 0 else 0 < error < lost


@pytest.mark.parametrize(("kind", "lost"), [("png", 0.0), ("webp", 2.0), ("jpeg", 2.0)])
def test_how_much_a_photograph_loses(kind: str, lost: float) -> None:
    back = np.asarray(decoded(encode(photograph(), kind).data)).astype(int)
    assert np.abs(back - np.asarray(photograph())).mean() <= lost


@pytest.mark.parametrize(("count", "mode"), [(1, "P"), (256, "P"), (257, "RGB")])
def test_a_picture_of_256_colours_is_indexed_and_exact(count: int, mode: str) -> None:
    colours = np.random.default_rng(7).permutation(1 << 24)[:count].astype(np.uint32)
    pixels = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], 1).astype(np.uint8)
    order = np.r_[np.arange(count), np.random.default_rng(8).integers(0, count, 600)]
    picture = Image.fromarray(pixels[order[:600].reshape(20, 30)])
    back = decoded(encode(picture).data)
    assert back.mode == mode
    assert back.convert("RGB").tobytes() == picture.tobytes()
    losses = np.asarray(decoded(encode(picture, "webp").data).convert("RGB")) != np.asarray(picture)
    assert losses.any() == (mode == "RGB")


def test_red_type_keeps_its_edges_in_jpeg() -> None:
    sheet = rasterize(set_lines([Line("negative: nothing speaks for it", 14, "#ff0000")], 260))
    ImageDraw.Draw(sheet).line((0, 0, 259, 18), fill="#0000ff")
    back = np.asarray(decoded(encode(sheet, "jpeg").data)).astype(int)
    buffer = BytesIO()
    sheet.save(buffer, "JPEG", quality=92, subsampling="4:2:0")
    coarse = np.asarray(decoded(buffer.getvalue())).astype(int)
    wanted = np.asarray(sheet).astype(int)
    assert np.abs(back - wanted).max() < np.abs(coarse - wanted).max() / 2


@pytest.mark.parametrize("kind", MAX_SIDE)
def test_what_a_format_cannot_hold_becomes_a_png(kind: str) -> None:
    at_most = Image.new("P", (2, MAX_SIDE[kind]))
    assert encode(at_most, kind).suffix == SUFFIXES[kind]
    assert decoded(encode(at_most, kind).data).size == at_most.size
    beyond = Image.new("P", (2, MAX_SIDE[kind] + 1))
    file = encode(beyond, kind)
    assert file.suffix == "png"
    assert f"{MAX_SIDE[kind] + 1:,} pixels" in file.note
    assert decoded(file.data).size == beyond.size
