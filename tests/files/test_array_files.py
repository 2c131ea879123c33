"""Files of numpy's that anyone may have written: every way in which one is none ends in one kind of error."""

from __future__ import annotations

import io
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.core.file_reading import OversizeError
from cnnviz_cli.files.array_files import ArrayFileError, read_npy, read_npz
from cnnviz_cli.files.output.file_names import KEPT_STUDY
from cnnviz_cli.files.output.saved_run import read_arrays
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.study_kit import read_kit

MOST = 1 << 20
A, B = np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7)


def bytes_of(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def archive_of(member: bytes, packing: int = zipfile.ZIP_DEFLATED, name: str = "a.npy") -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", packing) as archive:
        archive.writestr(name, member)
    return made.getvalue()


def with_header(header: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()


def of_shape(shape: str, kind: str = "'<f4'") -> bytes:
    return with_header(f"{{'descr': {kind}, 'fortran_order': False, 'shape': ({shape},)}}\n")


def pickled() -> bytes:
    made = io.BytesIO()
    np.save(made, np.array([{}], dtype=object), allow_pickle=True)
    return made.getvalue()


WRONG = {
    "empty": b"", "text": b"text", "only the mark": b"\x93NUMPY", "cut off": bytes_of(A)[:-1],
    "brackets": with_header("(" * 60), "deep": with_header("[" * 9000), "no dictionary": with_header("1\n"),
    "negative": of_shape("-1"), "beyond integers": of_shape(str(1 << 80)), "beyond memory": of_shape(str(1 << 46)),
    "short descr": of_shape("1", "('<f4',)"), "no descr": of_shape("1", "'('"), "pickle": pickled(),
}  # fmt: skip
"""Bytes of one array that are none, by what is wrong with them."""


def damaged(data: bytes) -> bytes:
    """An archive with other bytes behind its first header, where what is packed lies."""
    return data[:40] + b"\xff" * 8 + data[48:]


BROKEN = {
    "an array": bytes_of(A), "only the mark": b"PK", "cut off": archive_of(bytes_of(A))[:-9],
    "deflate": damaged(archive_of(bytes_of(A))), "bzip2": damaged(archive_of(bytes_of(A), zipfile.ZIP_BZIP2)),
    "lzma": damaged(archive_of(bytes_of(A), zipfile.ZIP_LZMA)), "no array": archive_of(b"text", name="a"),
    "encrypted": archive_of(bytes_of(A)).replace(b"PK\x01\x02\x14\x03\x14\x00\x00", b"PK\x01\x02\x14\x03\x14\x00\x01"),
    **{f"array: {why}": archive_of(data) for why, data in WRONG.items()},
}  # fmt: skip
"""Bytes of an archive that are none."""


def test_arrays_are_read_as_they_were_written() -> None:
    made = io.BytesIO()
    np.savez_compressed(made, a=A, b=B)
    found = read_npz(made.getvalue(), MOST)
    assert list(found) == ["a", "b"]
    for one, other in ((found["a"], A), (found["b"], B), (read_npy(bytes_of(A)), A)):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)
    assert list(read_npz(made.getvalue(), MOST, names=["b", "c"])) == ["b"]


@pytest.mark.parametrize("why", WRONG)
def test_one_error_for_what_is_no_array(why: str) -> None:
    with pytest.raises(ArrayFileError, match=r"^[^\n]+$"):
        read_npy(WRONG[why])


@pytest.mark.parametrize("why", BROKEN)
def test_one_error_for_what_is_no_archive(why: str, tmp_path: Path) -> None:
    """And the readers of a run's files say it in their own words."""
    data = BROKEN[why]
    with pytest.raises(ArrayFileError, match=r"^[^\n]+$"):
        read_npz(data, MOST)
    (tmp_path / "a.npz").write_bytes(data)
    with pytest.raises(ImageError, match=r"cannot be read: a\.npz"):
        read_arrays(tmp_path, "a.npz", sha256(data).hexdigest())
    (tmp_path / KEPT_STUDY).write_bytes(data)
    assert read_kit(Sink(tmp_path), "") is None


def test_what_is_too_much_is_not_unpacked() -> None:
    data = archive_of(bytes(MOST + 1))
    assert len(data) < MOST // 100
    with pytest.raises(OversizeError):
        read_npz(data, MOST)
    assert read_npz(data, MOST, names=["b"]) == {}
    made = io.BytesIO()
    np.savez(made, a=A, b=B)
    with pytest.raises(OversizeError):
        read_npz(made.getvalue(), MOST, max_arrays=1)
