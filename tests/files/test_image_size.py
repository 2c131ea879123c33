"""Sizes read from headers, against Pillow's own files."""

from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from cnnviz_cli.files.output.verify import HEADER_BYTES, read_image_size

FILES: list[tuple[str, dict[str, Any]]] = [
    ("PNG", {}),
    ("JPEG", {"quality": 92, "subsampling": "4:4:4"}),
    ("JPEG", {"progressive": True, "optimize": True}),
    ("WEBP", {"quality": 90}),
    ("WEBP", {"lossless": True}),
]


def file(kind: str, size: tuple[int, int], **how: Any) -> bytes:
    buffer = BytesIO()
    Image.linear_gradient("L").resize(size).convert("RGB").save(buffer, kind, **how)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (300, 2), (3, 4100)])
@pytest.mark.parametrize(("kind", "how"), FILES)
def test_the_size_is_the_pictures(kind: str, how: dict[str, Any], size: tuple[int, int]) -> None:
    assert read_image_size(file(kind, size, **how)[:HEADER_BYTES]) == size


@pytest.mark.parametrize(("kind", "how"), FILES)
def test_what_is_cut_short_has_no_size(kind: str, how: dict[str, Any]) -> None:
    whole = file(kind, (40, 30), **how)
    found = [read_image_size(whole[:length]) for length in range(len(whole))]
    assert set(found) == {None, (40, 30)}
    assert found.count(None) == found.index((40, 30)) > 20


@pytest.mark.parametrize(
    "head", [b"", b"\xff\xd8", b"\xff\xd8" + b"\xff\xe0\0\0" * 300, b"RIFF....WEBPVP8?" + b"\0" * 40]
)
def test_other_bytes_have_none(head: bytes) -> None:
    assert read_image_size(head) is None
