"""Which values become black and white, and what of an image is transparent: worked out by hand."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import ReadOptions, ValueRange
from cnnviz_cli.files.images.decode import DecodedImage, read_image
from cnnviz_cli.files.images.pillow_fixes import MAX_RUNS

WHITE = [255, 255, 255]


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def png(path: Path, width: int, bits: int, kind: int, row: bytes, *chunks: tuple[bytes, bytes]) -> Path:
    """A PNG of one row, whose samples are written here bit by bit (PNG specification, 7.2 and 11)."""
    header = struct.pack(">IIBBBBB", width, 1, bits, kind, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
    return path


def tiff(path: Path, values: np.ndarray, **tags: int | float) -> Path:
    Image.fromarray(values).save(path, tiffinfo={int(name[1:]): value for name, value in tags.items()})
    return path


def read(path: Path, value_range: ValueRange = "auto") -> DecodedImage:
    return read_image(path, ReadOptions(value_range=value_range))


def grey(photo: DecodedImage) -> list[int]:
    pixels = np.asarray(photo.image)
    assert (pixels == pixels[..., :1]).all()
    return pixels[0, :, 0].tolist()


def ends(photo: DecodedImage) -> tuple[float, float] | None:
    return (photo.shown.low, photo.shown.high) if photo.shown else None


# --- tRNS


@pytest.mark.parametrize(
    ("bits", "row", "key", "wanted"),
    [
        (1, b"\x40", 1, [0, 255, 0]),  # 0 1 0: what is 1 is white already, so
        (1, b"\x40", 0, [255, 255, 255]),
        (2, b"\x6c", 1, [255, 170, 255]),  # 1 2 3
        (2, b"\x6c", 2, [85, 255, 255]),
        (4, b"\x5a\xf0", 5, [255, 170, 255]),  # 5 10 15
        (4, b"\x5a\xf0", 10, [85, 255, 255]),
        (8, b"\x05\x06\xff", 5, [255, 6, 255]),
        (16, struct.pack(">3H", 5, 32768, 65535), 5, [255, 128, 255]),
        (16, struct.pack(">3H", 5, 32768, 65535), 32768, [0, 255, 255]),
        # Of a key only as many bits count as a sample has.
        (2, b"\x6c", 0x101, [255, 170, 255]),
        (2, b"\x6c", 0x05, [255, 170, 255]),
        (4, b"\x5a\xf0", 0x15, [255, 170, 255]),
        (4, b"\x5a\xf0", 0xFF05, [255, 170, 255]),
        (8, b"\x05\x06\xff", 0x0105, [255, 6, 255]),
    ],
)
def test_the_transparent_grey_of_every_depth_is_white(
    bits: int, row: bytes, key: int, wanted: list[int], tmp_path: Path
) -> None:
    photo = read(png(tmp_path / "x.png", 3, bits, 0, row, (b"tRNS", struct.pack(">H", key))))
    assert grey(photo) == wanted
    assert "transparency laid on white" in photo.notes


@pytest.mark.parametrize(("bits", "row", "key"), [(2, b"\x6c", 0), (4, b"\x5a\xf0", 8), (8, b"\x05\x06\xff", 85)])
def test_a_key_that_no_pixel_has_changes_nothing(bits: int, row: bytes, key: int, tmp_path: Path) -> None:
    plain = read(png(tmp_path / "x.png", 3, bits, 0, row))
    keyed = read(png(tmp_path / "y.png", 3, bits, 0, row, (b"tRNS", struct.pack(">H", key))))
    assert grey(keyed) == grey(plain)


def test_the_transparent_colour_of_8_and_16_bits(tmp_path: Path) -> None:
    row = bytes([1, 2, 3, 1, 2, 4])
    photo = read(png(tmp_path / "x.png", 2, 8, 2, row, (b"tRNS", struct.pack(">3H", 1, 2, 3))))
    assert np.asarray(photo.image)[0].tolist() == [WHITE, [1, 2, 4]]
    # The lower bytes tell the first two apart, of which one is transparent; v / 257, rounded.
    key = (0x8001, 0x4002, 0x2003)
    row = struct.pack(">9H", *key, 0x8001, 0x4002, 0x2004, 65535, 0, 257)
    photo = read(png(tmp_path / "y.png", 3, 16, 2, row, (b"tRNS", struct.pack(">3H", *key))))
    assert np.asarray(photo.image)[0].tolist() == [WHITE, [128, 64, 32], [255, 0, 1]]


@pytest.mark.parametrize(("bits", "row"), [(1, b"\x40"), (2, b"\x10"), (4, b"\x01\x00"), (8, b"\0\1\0")])
def test_transparent_entries_of_a_palette(bits: int, row: bytes, tmp_path: Path) -> None:
    palette = bytes([200, 100, 50, 0, 0, 255])
    photo = read(png(tmp_path / "x.png", 3, bits, 3, row, (b"PLTE", palette), (b"tRNS", b"\0")))
    assert np.asarray(photo.image)[0].tolist() == [WHITE, [0, 0, 255], WHITE]
    half = read(png(tmp_path / "y.png", 3, bits, 3, row, (b"PLTE", palette), (b"tRNS", b"\x80")))
    shown = np.asarray(half.image)[0].astype(int)
    assert np.abs(shown[0] - [round((128 * c + 127 * 255) / 255) for c in (200, 100, 50)]).max() <= 1


# --- Ranges


@pytest.mark.parametrize(
    ("highest", "white"),
    [(255, 255), (256, 1023), (1023, 1023), (1024, 4095), (3104, 4095), (4096, 16383), (16384, 65535), (65535, 65535)],
)
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_auto_is_the_smallest_usual_depth_that_holds_the_values(
    highest: int, white: int, kind: type, tmp_path: Path
) -> None:
    values = np.array([[2, highest // 2, highest]], kind)
    photo = read(tiff(tmp_path / "x.tiff", values))
    assert ends(photo) == (0, white)
    assert grey(photo) == [round(int(value) * 255 / white) for value in values[0].astype(np.int64)]


def test_a_png_of_twelve_bits_in_sixteen(tmp_path: Path) -> None:
    path = png(tmp_path / "x.png", 3, 16, 0, struct.pack(">3H", 64, 1552, 3104))
    assert grey(read(path)) == [4, 97, 193]  # v * 255 / 4095: 3.99, 96.6, 193.3
    assert grey(read(path, "container")) == [0, 6, 12]
    assert grey(read(path, (64, 3104))) == [0, 125, 255]  # 1488 * 255 / 3040 = 124.8
    assert read(path).notes == ("uint16 values from 64 to 3104, shown from 0 to 4095 (12 bits)",)


@pytest.mark.parametrize(
    ("values", "wanted", "shown"),
    [
        (np.array([[0, 0.25, 0.5]], np.float32), (0, 1), [0, 64, 128]),
        (np.array([[0, 0.5, 1.25]], np.float32), (0, 1.25), [0, 102, 255]),
        (np.array([[3, 7.5, 15]], np.float32), (0, 15), [51, 128, 255]),
        (np.array([[0.5, 4, 16]], np.float32), (0, 255), [0, 4, 16]),
        (np.array([[0.5, 51.5, 255]], np.float32), (0, 255), [0, 52, 255]),
        (np.array([[-1, 0, 3]], np.float32), (-1, 3), [0, 64, 255]),
        (np.array([[-1000, 0, 1000]], np.int16), (-1000, 1000), [0, 128, 255]),
        (np.array([[-1000, 0, 3000]], np.int32), (-1000, 3000), [0, 64, 255]),
        (np.array([[100000, 200000, 500000]], np.int32), (100000, 500000), [0, 64, 255]),
    ],
)
def test_auto_where_no_depth_holds_the_values(
    values: np.ndarray, wanted: tuple[float, float], shown: list[int], tmp_path: Path
) -> None:
    if values.dtype == np.int16:  # Pillow has no mode for it: the file is one of unsigned numbers, and then says so
        path = tiff(tmp_path / "x.tiff", values.view(np.uint16))
        data = path.read_bytes()
        path.write_bytes(data.replace(struct.pack("<HHIH", 339, 3, 1, 1), struct.pack("<HHIH", 339, 3, 1, 2)))
        if struct.pack("<HHIH", 339, 3, 1, 2) not in path.read_bytes():
            path = tiff(tmp_path / "x.tiff", values.view(np.uint16), t339=2)
    else:
        path = tiff(tmp_path / "x.tiff", values)
    photo = read(path)
    assert ends(photo) == wanted
    assert grey(photo) == shown


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [(np.uint16, (0, 65535)), (np.int32, (-(2**31), 2**31 - 1)), (np.float32, (0, 1))],
)
def test_the_container_is_all_that_a_type_holds(kind: type, wanted: tuple[float, float], tmp_path: Path) -> None:
    assert ends(read(tiff(tmp_path / "x.tiff", np.array([[0, 1]], kind)), "container")) == wanted


def test_what_a_file_states_counts_where_its_values_keep_to_it(tmp_path: Path) -> None:
    values = np.array([[0, 500, 1000]], np.uint16)
    stated = read(tiff(tmp_path / "x.tiff", values, t340=0, t341=2000))
    assert (ends(stated), grey(stated)) == ((0, 2000), [0, 64, 128])
    assert "as the file states" in stated.notes[0]
    assert ends(read(tiff(tmp_path / "y.tiff", values, t340=0, t341=200))) == (0, 1023)
    assert ends(read(tiff(tmp_path / "y.tiff", values, t340=0, t341=2000), (0, 500))) == (0, 500)


@pytest.mark.parametrize("form", ["P5", "P2"])
def test_the_highest_value_of_a_pgm_is_white(form: str, tmp_path: Path) -> None:
    for highest, values, wanted in ((1000, (0, 100, 1000), [0, 26, 255]), (100, (0, 50, 100), [0, 128, 255])):
        body = struct.pack(">3H" if highest > 255 else "3B", *values) if form == "P5" else b"%d %d %d\n" % values
        (tmp_path / "x.pgm").write_bytes(b"%s 3 1 %d\n" % (form.encode(), highest) + body)
        assert grey(read(tmp_path / "x.pgm")) == wanted
    # 65535 is what any file of 16 bits says, whatever is in it.
    body = struct.pack(">3H", 0, 100, 1000) if form == "P5" else b"0 100 1000\n"
    (tmp_path / "x.pgm").write_bytes(form.encode() + b" 3 1 65535\n" + body)
    if form == "P5":
        assert ends(read(tmp_path / "x.pgm")) == (0, 1023)


def test_a_ppm_of_any_highest_value(tmp_path: Path) -> None:
    (tmp_path / "x.ppm").write_bytes(b"P6 1 1 1000\n" + struct.pack(">3H", 0, 500, 1000))
    assert np.asarray(read(tmp_path / "x.ppm").image)[0, 0].tolist() == [0, 128, 255]
    (tmp_path / "x.ppm").write_bytes(b"P6 1 1 1000\n" + struct.pack(">2H", 0, 500))
    with pytest.raises(ImageError, match="cut short"):
        read(tmp_path / "x.ppm")


def test_a_stated_range_counts_only_if_it_holds_all_values(tmp_path: Path) -> None:
    for values, wanted in (([100, 3000, 4000], (100, 4000)), ([99, 3000, 4000], (0, 4095)), ([100, 4001], (0, 4095))):
        path = tiff(tmp_path / "x.tiff", np.array([values], np.uint16), t280=100, t281=4000)
        assert ends(read(path)) == wanted, values


def test_a_large_file_of_numbers_as_text_is_refused_before_it_takes_minutes(tmp_path: Path) -> None:
    side = int(MAX_RUNS**0.5) + 1
    (tmp_path / "x.pgm").write_bytes(b"P2 %d %d 1000\n1 2 3\n" % (side, side))
    with pytest.raises(ImageError, match="too large for a PGM or PPM of numbers written as text"):
        read(tmp_path / "x.pgm")


def test_a_window_that_is_given_holds_for_every_image(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 100, 200]], np.uint8)).save(tmp_path / "x.png")
    assert grey(read(tmp_path / "x.png", (100, 200))) == [0, 0, 255]
    assert grey(read(tmp_path / "x.png")) == [0, 100, 200]
    assert grey(read(tmp_path / "x.png", "container")) == [0, 100, 200]
    assert read(tmp_path / "x.png").shown is None
    transparent = Image.fromarray(np.array([[[50, 100, 150, 255], [9, 9, 9, 0]]], np.uint8))
    transparent.save(tmp_path / "y.png")
    assert np.asarray(read(tmp_path / "y.png", (50, 150)).image)[0].tolist() == [[0, 128, 255], WHITE]


@pytest.mark.parametrize("suffix", ["png", "tiff", "big.tiff"])
def test_dark_colours_of_sixteen_bits_have_one_range_for_all_channels(suffix: str, tmp_path: Path) -> None:
    values = np.array([[[0, 1000, 2000], [3000, 4095, 1]]], np.uint16)
    path = tmp_path / f"x.{suffix}"
    if suffix == "png":
        png(path, 2, 16, 2, values.astype(">u2").tobytes())
    else:
        rgb_tiff(path, values, ">" if suffix == "big.tiff" else "<")
    photo = read(path)
    assert ends(photo) == (0, 4095)
    assert np.asarray(photo.image)[0].tolist() == [[0, 62, 125], [187, 255, 0]]
    assert np.asarray(read(path, (0, 2000)).image)[0].tolist() == [[0, 128, 255], [255, 255, 0]]
    assert np.asarray(read(path, "container").image)[0].tolist() == [[0, 3, 7], [11, 15, 0]]


def rgb_tiff(path: Path, values: np.ndarray, order: str) -> None:
    """A TIFF of 16 bits a sample, written by hand (TIFF 6.0, section 6): Pillow writes none."""
    height, width, channels = values.shape
    data = values.astype(f"{order}u2").tobytes()
    bits = struct.pack(f"{order}{channels}H", *[16] * channels)
    fields = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, 8), (259, 3, 1, 1), (262, 3, 1, 2),
        (273, 4, 1, 8 + len(bits)), (277, 3, 1, channels), (278, 4, 1, height), (279, 4, 1, len(data)),
    ]  # fmt: skip
    directory = struct.pack(f"{order}H", len(fields))
    for tag, kind, count, value in fields:
        short = kind == 3 and count == 1
        directory += struct.pack(f"{order}HHI", tag, kind, count)
        directory += struct.pack(f"{order}HH", value, 0) if short else struct.pack(f"{order}I", value)
    body = bits + data
    start = 8 + len(body)
    path.write_bytes(
        (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start) + body + directory + b"\0" * 4
    )
