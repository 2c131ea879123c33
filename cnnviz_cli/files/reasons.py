"""Why a picture could not be read, in words that are the same wherever it is read."""

import re

from PIL import Image

from cnnviz_cli.core.reading import MEGAPIXEL
from cnnviz_cli.core.text import visible

_LOOKS_LIKE = (
    (re.compile(rb"\x89PNG"), "a PNG picture whose header is damaged"),
    (re.compile(rb"\xff\xd8\xff"), "a JPEG picture whose header is damaged"),
    (
        re.compile(rb"(II\*\0|MM\0\*)"),
        "a TIFF of more bands than are colours (--bands 3,2,1 chooses), of a kind that is not read, or damaged",
    ),
    (re.compile(rb"(GIF8|RIFF....WEBP|BM|P[1-7fF]\s)", re.DOTALL), "a picture whose header is damaged"),
    (re.compile(rb"....ftyp(heic|heix|mif1|msf1)", re.DOTALL), "a HEIC picture"),
    (re.compile(rb"....ftyp", re.DOTALL), "a video"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb"(\xc5\xd0\xd3\xc6|%!PS)"), "a PostScript file"),
    (re.compile(rb"\s*(<\?xml|<svg)", re.IGNORECASE), "an SVG or XML file"),
    (re.compile(rb"\s*(<!doctype html|<html)", re.IGNORECASE), "a web page (a failed download?)"),
    (re.compile(rb"version https://git-lfs"), "a Git LFS pointer (run: git lfs pull)"),
    (re.compile(rb"[\t\n\r -~]+\Z"), "text"),
)


def unidentified(data: bytes) -> str:
    """What a file that no decoder knows looks like."""
    for pattern, kind in _LOOKS_LIKE:
        if pattern.match(data[:512]):
            return f"this is no picture that can be read; it looks like {kind}"
    return "this is no picture that can be read"


def undecodable(error: Exception, max_pixels: int) -> str:
    """What a decoder said, without what it says of this process."""
    if isinstance(error, MemoryError):
        return "the picture needs more memory than there is"
    if isinstance(error, Image.DecompressionBombError):
        return too_many_pixels("it has", max_pixels)
    # Libraries put object addresses into their messages; the manifest must not change from run to run.
    message = visible(re.sub(r"\s*<[^<>]* at 0x[0-9a-fA-F]+>", "", str(error)), limit=160)
    if "truncated" in message.casefold():
        return f"the picture is cut short: {message}"
    return f"the picture is damaged: {message or type(error).__name__}"


def too_many_pixels(what: str, max_pixels: int) -> str:
    """That a picture is refused for its area."""
    return f"the picture is too large: {what} more than {max_pixels / MEGAPIXEL:,.6g} megapixels (--max-pixels)"
