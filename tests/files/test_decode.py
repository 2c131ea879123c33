"""Every file becomes an upright 8-bit RGB photograph or a named failure. The odd files are made here."""

import hashlib
import os
import struct
import threading
import warnings
import zlib
from io import BytesIO
from pathlib import Path

import hostile
import numpy as np
import pytest
from hostile import chunk, png_of
from PIL import Image, ImageFile

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import MAX_BYTES, READ_ALL, ReadOptions
from cnnviz_cli.files.images.decode import FEW_SCANS, DecodedImage, count_frames, describe_extra_frames, read_image

SAMPLES = Path(__file__).parents[2] / "sample_images"
WHITE = [255, 255, 255]


def saved(image: Image.Image, path: Path, **options: object) -> Path:
    image.save(path, **options)
    return path


def pixels(photo: DecodedImage) -> np.ndarray:
    assert photo.image.mode == "RGB"
    return np.asarray(photo.image)


def failure(path: Path, how: ReadOptions = READ_ALL) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(path, how)
    error = caught.value
    assert str(path.parent) not in error.what, "the manifest must not depend on the place"
    assert error.where
    return error


def test_a_plain_photograph_has_its_pixels_and_the_hash_of_its_bytes() -> None:
    path = SAMPLES / "chelsea.png"
    photo = read_image(path)
    assert photo.image.size == (451, 300)
    assert photo.notes == ()
    assert photo.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (pixels(photo) == np.asarray(Image.open(path))).all()


# Where the stored pixel (0, 0) of a picture 3 wide and 2 high belongs, as EXIF 2.3 defines the eight orientations:
# x, y in the upright picture. From 5 on, width and height change places.
CORNER = {1: (0, 0), 2: (2, 0), 3: (2, 1), 4: (0, 1), 5: (0, 0), 6: (1, 0), 7: (1, 2), 8: (0, 2)}
# And the stored pixel (1, 0), so that a turn cannot pass for a mirror.
SECOND = {1: (1, 0), 2: (1, 0), 3: (1, 1), 4: (1, 1), 5: (0, 1), 6: (1, 1), 7: (1, 1), 8: (0, 1)}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_photograph_stands_upright(tmp_path: Path, orientation: int, suffix: str) -> None:
    block = 16  # of one colour, so that JPEG keeps it
    stored = Image.new("RGB", (3 * block, 2 * block))
    stored.paste((255, 0, 0), (0, 0, block, block))
    stored.paste((0, 255, 0), (block, 0, 2 * block, block))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = read_image(saved(stored, tmp_path / f"x.{suffix}", exif=exif, quality=95)).image
    assert upright.size == ((48, 32) if orientation < 5 else (32, 48))
    for (x, y), colour in ((CORNER[orientation], (255, 0, 0)), (SECOND[orientation], (0, 255, 0))):
        found = upright.getpixel((x * block + 8, y * block + 8))
        assert max(abs(a - b) for a, b in zip(found, colour, strict=True)) < 40


def test_broken_exif_does_not_spoil_a_good_picture(tmp_path: Path) -> None:
    path = saved(Image.new("RGB", (4, 4), "red"), tmp_path / "x.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert read_image(path).image.size == (4, 4)
    exif = Image.Exif()
    exif[0x0112] = 99
    assert read_image(saved(Image.new("RGB", (4, 4)), tmp_path / "y.png", exif=exif)).image.size == (4, 4)


def test_hidden_colour_does_not_show_through(tmp_path: Path) -> None:
    for mode, hidden, half in (("RGBA", (255, 0, 0, 0), (0, 0, 0, 128)), ("LA", (0, 0), (0, 128))):
        image = Image.new(mode, (2, 1), hidden)
        image.putpixel((1, 0), half)
        photo = read_image(saved(image, tmp_path / f"{mode}.png"))
        assert pixels(photo)[0, 0].tolist() == WHITE
        assert abs(int(pixels(photo)[0, 1, 0]) - 127) <= 1
        assert photo.notes == ("transparency laid on white",)
    opaque = read_image(saved(Image.new("RGBA", (2, 2), (1, 2, 3, 255)), tmp_path / "opaque.png"))
    assert pixels(opaque)[0, 0].tolist() == [1, 2, 3]
    assert opaque.notes == ()


def test_transparent_palette_entries_and_key_colours_are_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putpixel((1, 0), 1)
    for path in (
        saved(image, tmp_path / "x.gif", transparency=0),
        saved(image, tmp_path / "x.png", transparency=b"\x00\xff"),
        saved(image.convert("RGB"), tmp_path / "y.png", transparency=(255, 0, 0)),
    ):
        assert pixels(read_image(path))[0].tolist() == [WHITE, [0, 0, 255]]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 257, 1000, 32768, 65535]], np.uint16)
    photo = read_image(saved(Image.fromarray(values), tmp_path / f"x.{suffix}"))
    assert pixels(photo)[0, :, 0].tolist() == [0, 1, 4, 128, 255]  # v / 257, rounded
    assert photo.notes == ("uint16 values from 0 to 65535, shown from 0 to 65535 (16 bits)",)


def test_sixteen_bits_with_a_transparent_key(tmp_path: Path) -> None:
    rows = b"\0" + struct.pack(">HHH", 0, 1000, 65535)
    (tmp_path / "x.png").write_bytes(png_of(3, 1, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 1000))))
    assert pixels(read_image(tmp_path / "x.png"))[0, :, 0].tolist() == [0, 255, 255]


def test_white_is_zero_in_sixteen_bits(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 65535]], np.uint16))
    path = saved(image, tmp_path / "x.tiff", tiffinfo={262: 0})
    with Image.open(path) as reopened:
        assert reopened.tag_v2[262] == 0
    assert pixels(read_image(path))[0, :, 0].tolist() == [255, 0]


def test_a_pgm_of_sixteen_and_of_ten_bits(tmp_path: Path) -> None:
    (tmp_path / "x.pgm").write_bytes(b"P5 3 1 65535\n" + struct.pack(">HHH", 0, 32768, 65535))
    assert pixels(read_image(tmp_path / "x.pgm"))[0, :, 0].tolist() == [0, 128, 255]
    (tmp_path / "y.pgm").write_bytes(b"P5 2 1 1023\n" + struct.pack(">HH", 0, 1023))
    assert pixels(read_image(tmp_path / "y.pgm"))[0, :, 0].tolist() == [0, 255]


def test_floats_and_integers_are_stretched_and_that_is_said(tmp_path: Path) -> None:
    photo = read_image(saved(Image.fromarray(np.array([[-1, 0, 3]], np.float32)), tmp_path / "f.tiff"))
    assert pixels(photo)[0, :, 0].tolist() == [0, 64, 255]
    assert photo.notes == ("float32 values from -1 to 3, shown from -1 to 3 (its lowest to its highest value)",)
    photo = read_image(saved(Image.fromarray(np.array([[-100, 0, 400]], np.int32)), tmp_path / "i.tiff"))
    assert pixels(photo)[0, :, 0].tolist() == [0, 51, 255]
    stated = {340: 0.0, 341: 2.0}
    photo = read_image(saved(Image.fromarray(np.array([[0.5, 1]], np.float32)), tmp_path / "s.tiff", tiffinfo=stated))
    assert pixels(photo)[0, :, 0].tolist() == [64, 128]
    assert "as the file states" in photo.notes[0]


def test_unsigned_32_bits_do_not_turn_negative(tmp_path: Path) -> None:
    path = saved(Image.fromarray(np.array([[0, -1]], np.int32)), tmp_path / "x.tiff")
    # Pillow writes signed numbers only: change the value of the tag SampleFormat (339) from 2 to 1.
    data = path.read_bytes()
    entry = struct.pack("<HHIH", 339, 3, 1, 2)
    assert data.count(entry) == 1
    path.write_bytes(data.replace(entry, struct.pack("<HHIH", 339, 3, 1, 1)))
    photo = read_image(path)
    assert pixels(photo)[0, :, 0].tolist() == [0, 255]
    assert "4.29497e+09" in photo.notes[0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_no_numbers_are_refused(bad: float, tmp_path: Path) -> None:
    values = np.array([[bad, bad, 1, 2]], np.float32)
    with pytest.raises(ImageError, match="2 of its 4 values are NaN or infinite") as caught:
        read_image(saved(Image.fromarray(values), tmp_path / "x.tiff"))
    assert "Replace them" in caught.value.fix


def test_an_image_of_one_value_beyond_16_bits_has_no_contrast(tmp_path: Path) -> None:
    photo = read_image(saved(Image.fromarray(np.full((1, 2), 70000, np.float32)), tmp_path / "c.tiff"))
    assert pixels(photo)[0, :, 0].tolist() == [0, 0]


def test_cmyk_as_adobe_stores_it(tmp_path: Path) -> None:
    # 255 is full ink: pure cyan, then white paper, then black. Pillow writes it inverted, with Adobe's marker.
    for colour, wanted in (((255, 0, 0, 0), [0, 255, 255]), ((0, 0, 0, 0), WHITE), ((0, 0, 0, 255), [0, 0, 0])):
        path = saved(Image.new("CMYK", (16, 16), colour), tmp_path / "x.jpg", quality=100)
        assert b"Adobe" in path.read_bytes()
        assert np.abs(pixels(read_image(path))[8, 8].astype(int) - wanted).max() <= 2


def test_one_bit_and_grey(tmp_path: Path) -> None:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    for name in ("x.png", "x.tiff", "x.bmp", "x.pbm"):
        assert pixels(read_image(saved(image, tmp_path / name)))[0, :, 0].tolist() == [0, 255]
    assert pixels(read_image(saved(Image.new("L", (1, 1), 77), tmp_path / "l.png")))[0, 0].tolist() == [77] * 3


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_of_an_animation_the_first_frame_is_taken_and_that_is_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    options = {"lossless": True} if suffix == "webp" else {}
    photo = read_image(saved(frames[0], tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:], **options))
    assert photo.notes == ("first of 3 frames",)
    assert pixels(photo)[0, 0].tolist() == [255, 0, 0]


def test_the_previews_in_a_phone_s_jpeg_are_no_frames(tmp_path: Path) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    path = saved(first, tmp_path / "x.jpg", format="MPO", save_all=True, append_images=[second])
    photo = read_image(path)
    assert photo.notes == ()
    assert pixels(photo)[0, 0, 0] > 250


@pytest.mark.parametrize("name", ["chelsea.png", "rocket.jpg"])
def test_a_picture_cut_short_is_named_so(tmp_path: Path, name: str) -> None:
    data = (SAMPLES / name).read_bytes()
    path = tmp_path / name
    path.write_bytes(data[: len(data) // 2])
    error = failure(path)
    assert "cut short" in error.what
    assert error.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    path = tmp_path / "bomb.png"
    path.write_bytes(png_of(60_000, 60_000, 8, 2, b""))
    refusal = "the image is too large: it has more than 178 megapixels (--max-pixels)"
    assert failure(path).what == refusal
    path.write_bytes(png_of(12_000, 10_000, 8, 2, b""))  # Pillow warns here, and would go on
    refusal = "the image is too large: 12000 x 10000 pixels are more than 0.5 megapixels (--max-pixels)"
    assert failure(path, ReadOptions(max_pixels=500_000)).what == refusal
    assert "too large" not in failure(path).what
    assert limit == Image.MAX_IMAGE_PIXELS


def test_more_than_pillow_allows_by_itself_is_read_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    path = saved(hostile.photograph(11, 10), tmp_path / "x.png")
    assert "more than 0.0001 megapixels" in failure(path, ReadOptions(max_pixels=100)).what
    assert read_image(path, ReadOptions(max_pixels=110)).image.size == (11, 10)
    assert Image.MAX_IMAGE_PIXELS == 50
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert read_image(path, ReadOptions(max_pixels=110)).image.size == (11, 10)
    assert Image.MAX_IMAGE_PIXELS is None


@pytest.mark.parametrize("name", hostile.FILES)
def test_a_hostile_file_is_read_or_a_named_failure(tmp_path: Path, name: str) -> None:
    make, words = hostile.FILES[name]
    path = tmp_path / name
    path.write_bytes(make())
    if words:
        assert words in failure(path).what
    else:
        assert min(read_image(path).image.size) > 0
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_what_is_said_of_hostile_files_that_can_be_read(tmp_path: Path) -> None:
    hostile.write(tmp_path / "in")
    notes = {name: read_image(tmp_path / "in" / name).notes for name, (_, words) in hostile.FILES.items() if not words}
    assert notes == {
        "claims.png": ("first of 2147483648 frames",),
        "upside_down.bmp": (),
        "frames.gif": ("first of 100000 frames",),
        "frames.tiff": ("first of 100000 frames",),
        "circle.tiff": (),
        "strips.tiff": (),
        "fax.tiff": (),
        "moving.webp": ("first of 3 frames",),
        "ink.jpg": (),
        "deep.png": ("uint16 values from 0 to 65520, shown from 0 to 65535 (16 bits)",),
    }
    upside_down = read_image(tmp_path / "in" / "upside_down.bmp")
    assert pixels(upside_down)[..., 0].ravel().tolist() == list(range(16))


def different(count: int) -> list[Image.Image]:
    """So many pictures that no coder takes two of them for one."""
    return [
        hostile.photograph(9, 8).point([(level + 40 * at) % 256 for level in range(256)] * 3) for at in range(count)
    ]


@pytest.mark.parametrize("form", ["GIF", "TIFF", "BigTIFF"])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_frames_are_counted_as_pillow_counts_them(count: int, form: str, tmp_path: Path) -> None:
    frames = different(count)
    options = {"big_tiff": True} if form == "BigTIFF" else {}
    kind = form.removeprefix("Big")
    path = tmp_path / "x"
    for colours in ("RGB", "P"):
        first, *others = (frame.convert(colours) for frame in frames)
        first.save(path, kind, save_all=True, append_images=others, **options)
        with Image.open(path) as opened:
            assert opened.n_frames == count
        assert read_image(path).notes == ((f"first of {count} frames",) if count > 1 else ())


def test_frames_of_a_file_cut_anywhere_are_counted_without_a_failure() -> None:
    frames = [frame.convert("P") for frame in different(3)]
    for form in ("GIF", "TIFF"):
        data = hostile.encoded(frames[0], form, save_all=True, append_images=frames[1:])
        with Image.open(BytesIO(data)) as opened:
            counts = [count_frames(opened, data[:length]) for length in range(len(data) + 1)]
        assert counts == sorted(counts)
        assert counts[-1] == 3
        assert counts[8] == 0


def test_frames_without_end_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnnviz_cli.files.images.decode._STEPS", 1_000)
    for data in (hostile.gif_of(2_000), hostile.endless_tiff(2_000)):
        with Image.open(BytesIO(data)) as opened:
            assert describe_extra_frames(opened, data) == ("first frame; the others are too many to count",)


def test_a_progressive_photograph_has_far_fewer_scans_than_are_refused() -> None:
    photo = Image.open(SAMPLES / "chelsea.png").convert("RGB")
    assert 5 < hostile.encoded(photo, "JPEG", progressive=True).count(b"\xff\xda") <= FEW_SCANS / 2


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"hello, this is text\n", "text"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0" * 100, "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "PNG image whose header is damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    ],
)
def test_what_is_no_picture_is_told_what_it_looks_like(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(data)
    assert words in failure(path).what


def test_places_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    assert "folder" in failure(tmp_path / "folder.jpg").what
    os.mkfifo(tmp_path / "pipe.jpg")
    assert "pipe" in failure(tmp_path / "pipe.jpg").what
    assert "device" in failure(Path("/dev/zero")).what
    assert "No such file" in failure(tmp_path / "gone.jpg").what
    assert "cannot be read" in failure(tmp_path / "nul\0.jpg").what
    with (tmp_path / "huge.jpg").open("wb") as sparse:
        sparse.truncate(MAX_BYTES + 1)
    assert failure(tmp_path / "huge.jpg").what == "the file is larger than 512 MiB (--max-bytes)"
    sample, limit = SAMPLES / "chelsea.png", (SAMPLES / "chelsea.png").stat().st_size
    assert read_image(sample, ReadOptions(max_bytes=limit)).image.size == (451, 300)
    assert "(--max-bytes)" in failure(sample, ReadOptions(max_bytes=limit - 1)).what
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    assert "cannot be read" in failure(tmp_path / "loop.jpg").what


@pytest.mark.parametrize(
    "raised",
    [
        ValueError("x"),
        SyntaxError("x"),
        NotImplementedError(),
        struct.error("x"),
        OverflowError("x"),
        zlib.error("x"),
        EOFError(),
        MemoryError(),
        RecursionError(),
        Image.DecompressionBombError("x"),
        OSError("x"),
    ],
)
def test_whatever_a_decoder_raises_is_a_named_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception
) -> None:
    path = saved(Image.new("RGB", (2, 2)), tmp_path / "x.png")

    def load(_: object) -> None:
        raise raised

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert failure(path).what


def test_a_message_carries_no_address_and_no_escape_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(Image.new("RGB", (2, 2)), tmp_path / "x.png")

    def load(_: object) -> None:
        raise ValueError(f"bad {BytesIO()} \x1b[2J")

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    assert failure(path).what == "the image is damaged: bad \\x1b[2J"


def test_pillow_stays_silent_in_every_thread_and_the_filters_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(Image.new("RGB", (2, 2)), tmp_path / "x.png")
    both = threading.Barrier(2)
    genuine = ImageFile.ImageFile.load

    def load(self: ImageFile.ImageFile) -> object:
        both.wait(300)  # so that both threads are inside at once
        Image._decompression_bomb_check((12_000, 10_000))
        return genuine(self)

    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load)
    before = list(warnings.filters)
    results: list[DecodedImage] = []
    threads = [threading.Thread(target=lambda: results.append(read_image(path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert list(warnings.filters) == before


def test_the_two_class_sample_is_made_of_the_other_two() -> None:
    halves = np.asarray(read_image(SAMPLES / "chelsea_coffee.png").image).astype(float)
    assert halves.shape == (448, 448, 3)
    cat = np.asarray(read_image(SAMPLES / "chelsea.png").image).astype(float)
    cup = np.asarray(read_image(SAMPLES / "coffee.png").image).astype(float)
    # Row by row the mean colour of a half lies near that of the strip it was cut from.
    for half, strip in ((halves[:, :224], cat[:, 120:270]), (halves[:, 224:], cup[:, 160:360])):
        assert np.abs(half.mean((0, 1)) - strip.mean((0, 1))).max() < 2


@pytest.mark.parametrize(
    ("size", "least", "factor"),
    [
        ((800, 600), None, 1),
        ((800, 600), 301, 1),
        ((800, 600), 300, 2),
        ((800, 601), 300, 2),
        ((600, 800), 150, 4),
        ((800, 600), 75, 8),
        ((800, 600), 1, 8),
        ((5000, 10), 8, 1),
    ],
)
def test_fast_decoding_keeps_what_the_network_needs(size: tuple[int, int], least: int | None, factor: int) -> None:
    assert ReadOptions(least_side=least).reduction_factor(size) == factor


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff", "bmp", "gif", "ppm"])
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_photograph_decoded_fast_is_the_same_in_small(tmp_path: Path, suffix: str, factor: int) -> None:
    smooth = Image.open(SAMPLES / "chelsea.png").convert("RGB").resize((322, 201), Image.Resampling.LANCZOS)
    path = saved(smooth, tmp_path / f"x.{suffix}", **({"quality": 95} if suffix in ("jpg", "webp") else {}))
    whole, fast = read_image(path), read_image(path, ReadOptions(least_side=201 // factor))
    assert fast.image.size == (-(-322 // factor), -(-201 // factor))
    assert fast.size == whole.size == whole.image.size == (322, 201)
    assert fast.notes == whole.notes
    assert fast.sha256 == whole.sha256
    small = np.asarray(whole.image.reduce(factor)).astype(float)
    assert np.abs(pixels(fast) - small).mean() < (2 if suffix == "jpg" else 1e-9)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_photograph_decoded_fast_stands_upright(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.new("RGB", (96, 64))
    stored.paste((255, 0, 0), (0, 0, 32, 32))
    for suffix in ("jpg", "png", "tiff"):
        photo = read_image(saved(stored, tmp_path / f"x.{suffix}", exif=exif, quality=95), ReadOptions(least_side=16))
        turned = orientation == 6
        assert photo.size == ((64, 96) if turned else (96, 64))
        assert photo.image.size == ((16, 24) if turned else (24, 16))
        x, y = CORNER[orientation]
        at = (8 * x + 4, 8 * y + 4)
        assert photo.image.getpixel(at)[0] > 200, (suffix, at)


@pytest.mark.parametrize("form", ["progressive", "CMYK", "grey", "MPO"])
def test_every_kind_of_jpeg_is_decoded_fast(tmp_path: Path, form: str) -> None:
    photo = hostile.photograph(320, 200)
    path = tmp_path / "x.jpg"
    if form == "MPO":
        photo.save(path, "MPO", save_all=True, append_images=[photo])
    else:
        photo = photo.convert("L" if form == "grey" else form if form == "CMYK" else "RGB")
        photo.save(path, "JPEG", progressive=form == "progressive")
    fast = read_image(path, ReadOptions(least_side=50))
    assert (fast.image.mode, fast.image.size, fast.size) == ("RGB", (80, 50), (320, 200))


def test_a_small_photograph_is_decoded_whole() -> None:
    path = SAMPLES / "rocket.jpg"
    whole, fast = read_image(path), read_image(path, ReadOptions(least_side=448))
    assert fast.notes == whole.notes == ()
    assert (pixels(fast) == pixels(whole)).all()
