"""Make sample_images/ from the scikit-image wheel: four photographs without metadata, and an image of two classes.

    pip download --no-deps --only-binary :all: scikit-image==0.26.0 --dest /tmp
    python tools/make_samples.py /tmp/scikit_image-0.26.0-*.whl sample_images

The pixels of the photographs are those of the wheel, bit for bit: the PNGs are encoded again, and of the JPEG only the
segments that carry no pixels are left out.
"""

import sys
from io import BytesIO
from pathlib import Path
from zipfile import ZipFile

from PIL import Image, ImageOps

PNGS = ("chelsea.png", "coffee.png", "camera.png")
JPEG = "rocket.jpg"

SIDE = 448
# Where the crop of each half lies, from 0 (left) to 1 (right): an eye and the muzzle of the cat, and the cup. Chosen so
# that the bundled model sees both (tiger cat 0.11, espresso 0.20); right of 0.5 it sees another kind of cat.
CAT_AT = 0.4
CUP_AT = 0.4


def without_metadata(jpeg: bytes) -> bytes:
    """The same JPEG without comments and application segments.

    JFIF's and Adobe's stay: decoders tell from them how the colours are encoded.
    """
    kept = bytearray(jpeg[:2])
    at = 2
    while jpeg[at + 1] != 0xDA:  # start of scan: the rest is pixels
        marker = jpeg[at + 1]
        end = at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big")
        if marker not in {*range(0xE1, 0xEE), 0xEF, 0xFE}:
            kept += jpeg[at:end]
        at = end
    return bytes(kept + jpeg[at:])


def png(image: Image.Image) -> bytes:
    """`image` as a PNG of pixels alone."""
    bare = Image.frombytes(image.mode, image.size, image.tobytes())
    buffer = BytesIO()
    bare.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def two_classes(cat: Image.Image, cup: Image.Image) -> Image.Image:
    """A square image: the cat in its left half, the cup in its right one."""
    half = (SIDE // 2, SIDE)
    picture = Image.new("RGB", (SIDE, SIDE))
    picture.paste(ImageOps.fit(cat, half, Image.Resampling.LANCZOS, centering=(CAT_AT, 0.5)), (0, 0))
    picture.paste(ImageOps.fit(cup, half, Image.Resampling.LANCZOS, centering=(CUP_AT, 0.5)), (SIDE // 2, 0))
    return picture


def main(wheel: Path, folder: Path) -> None:
    """Write the five images into `folder`."""
    photographs: dict[str, Image.Image] = {}
    with ZipFile(wheel) as archive:
        for name in PNGS:
            photographs[name] = Image.open(BytesIO(archive.read(f"skimage/data/{name}")))
            (folder / name).write_bytes(png(photographs[name]))
        (folder / JPEG).write_bytes(without_metadata(archive.read(f"skimage/data/{JPEG}")))
    composed = two_classes(photographs["chelsea.png"], photographs["coffee.png"])
    (folder / "chelsea_coffee.png").write_bytes(png(composed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
