"""Archives made so that listing them never ends, or costs without measure: a named failure for each."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnviz_cli.core.errors import ImageError
from cnnviz_cli.files.inputs import tar_archive, zip_archive
from cnnviz_cli.files.inputs.archives import list_archive
from cnnviz_cli.files.inputs.image_source import BrokenArchiveError, UnreadableContent
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.inputs.tar_archive import TarMember, list_tar

ROOT = Path(__file__).parents[2]


def header(name: bytes, size: bytes, kind: bytes = b"0", **fields: bytes) -> bytes:
    """A header block with the right checksum, whatever is in it."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = b"0000644\0"
    block[124:136] = size
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    for at, value in fields.items():
        place = int(at.removeprefix("at"))
        block[place : place + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size: int) -> bytes:
    return b"%011o\0" % size


def negative(size: int) -> bytes:
    return (256**12 + size).to_bytes(12, "big")


def blocks(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(**records: bytes) -> bytes:
    """The records of an extended header, with the lengths that they have."""
    found = b""
    for key, value in records.items():
        body = b" " + key.replace("_", ".").encode() + b"=" + value + b"\n"
        length = len(body) + 2
        while len(b"%d" % length) + len(body) != length:
            length += 1
        found += b"%d" % length + body
    return found


def extended(records: bytes, kind: bytes = b"x") -> bytes:
    return header(b"pax", octal(len(records)), kind) + blocks(records)


A = header(b"a.png", octal(512)) + bytes(512)
B = header(b"b.png", octal(0))
END = bytes(1024)
MEBIBYTE = 1 << 20

HOSTILE: dict[str, bytes] = {
    "a file of negative size": A + header(b"b.png", negative(-1024)) + END,
    "an unknown kind of negative size": A + header(b"b.png", negative(-1024), b"Z") + END,
    "a size that leads back by a block": A + header(b"b.png", negative(-512)) + END,
    "a size with a sign": A + header(b"b.png", b"-0000002000\0") + END,
    "an extended size below zero": A + extended(pax(size=b"-1024")) + B + END,
    "an extended size that is no number": A + extended(pax(size=b"1e3")) + B + END,
    "an extended size of a thousand digits": A + extended(pax(size=b"9" * 1000)) + B + END,
    "a long name of negative size": A + header(b"x", negative(-512), b"L") + B + END,
    "a long name of gigabytes": A + header(b"x", octal(2**32), b"L") + B + END,
    "long names without end": A + (header(b"x", octal(512), b"L") + bytes(512)) * 5000 + END,
    "extended headers without end": A + extended(pax(comment=b"x" * 400)) * 5000 + END,
    "headers for everything without end": A + extended(pax(comment=b"x" * 400), b"g") * 5000 + END,
    "a record that leads nowhere": A + extended(b"0 a=b\n") + B + END,
    "a long name and then nothing": A + header(b"x", octal(3), b"L") + blocks(b"abc") + END,
    "a map of holes without end": A
    + header(b"s.png", octal(0), b"S", at482=b"\1")
    + (bytes(504) + b"\1" + bytes(7)) * 5000
    + END,
}  # fmt: skip


@pytest.mark.parametrize("data", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_tar_archive_is_one_named_failure(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.tar").write_bytes(data)
    listed = list(list_archive(tmp_path / "x.tar"))
    assert [member.name for member in listed] == ["a.png", ""]
    assert isinstance(listed[-1].reader, UnreadableContent)
    assert "this archive cannot be read after 1 of its files: " in listed[-1].reader.why


def test_a_size_beyond_any_disk_fails_twice(tmp_path: Path) -> None:
    """The file for its size, and the archive, since nothing can be found behind it."""
    (tmp_path / "x.tar").write_bytes(A + header(b"b.png", b"\200" + b"\xff" * 11) + END)
    _, member, rest = list_archive(tmp_path / "x.tar")
    with pytest.raises(ImageError, match="larger than 1 MiB"):
        member.reader.read(tmp_path / "x.tar", MEBIBYTE)
    assert isinstance(rest.reader, UnreadableContent)
    assert rest.name == ""


def test_an_extended_header_of_digits_takes_no_time(tmp_path: Path) -> None:
    """On a search for a number at each place the standard library spends the square of its length."""
    (tmp_path / "x.tar").write_bytes(A + extended(pax(comment=b"1" * 900_000)) + B + END)
    assert [member.name for member in list_tar(tmp_path / "x.tar", "")] == ["a.png", "b.png"]


def test_links_to_links_are_not_followed(tmp_path: Path) -> None:
    links = b"".join(header(b"%d.png" % n, octal(0), b"2", at157=b"%d.png" % (n + 1)) for n in range(50))
    (tmp_path / "x.tar").write_bytes(A + links + END)
    first, *rest = list_tar(tmp_path / "x.tar", "")
    assert first.name == "a.png"
    assert len(rest) == 50
    assert all(isinstance(member.reader, UnreadableContent) for member in rest)


@pytest.mark.parametrize("kind", [b"S", b"x"])
def test_sparse_members_of_any_size_fail_by_themselves(tmp_path: Path, kind: bytes) -> None:
    records = pax(GNU_sparse_major=b"1", GNU_sparse_minor=b"0", GNU_sparse_realsize=b"9" * 15, GNU_sparse_name=b"s.png")
    sparse = (
        header(b"s.png", octal(512), b"S", at386=octal(0) + octal(2**33 - 1), at483=b"\200" + b"\xff" * 11)
        if kind == b"S"
        else extended(records) + header(b"GNUSparseFile.1/s.png", octal(512))
    )
    (tmp_path / "x.tar").write_bytes(A + sparse + bytes(512) + B + END)
    found = list(list_tar(tmp_path / "x.tar", ""))
    assert [member.name for member in found] == ["a.png", "s.png", "b.png"]
    with pytest.raises(ImageError, match="no file in its archive"):
        found[1].reader.read(tmp_path / "x.tar", MEBIBYTE)


def test_members_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_archive, "MOST_MEMBERS", 5)
    monkeypatch.setattr(zip_archive, "MOST_MEMBERS", 5)
    (tmp_path / "x.tar").write_bytes(B * 6 + END)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for number in range(6):
            packed.writestr(f"{number}.png", b"")
    for name in ("x.tar", "x.zip"):
        *found, last = list_archive(tmp_path / name)
        assert len(found) == 5
        assert isinstance(last.reader, UnreadableContent)
        assert "it has more than 5 files" in last.reader.why


def test_a_compressed_archive_of_empty_files_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing in it is passed over, so that no jump shows how far it has come."""
    monkeypatch.setattr(tar_archive, "_EXPANDED", 50 * 512)
    monkeypatch.setattr(tar_archive, "_RATIO", 1)
    with gzip.open(tmp_path / "x.tgz", "wb") as packed:
        packed.write(B * 1000 + END)
    found = []
    with pytest.raises(BrokenArchiveError, match="expands to more than 1 times its size"):
        found.extend(list_tar(tmp_path / "x.tgz", "gz"))


def bomb(path: Path, *, copies: int) -> None:
    """A zip archive whose list names one file over and over, as the bombs of overlapping files do."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("0.png", os.urandom(2000))
    data = path.read_bytes()
    start = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entry = data[start:end]
    tail = bytearray(data[end:])
    struct.pack_into("<2H2L", tail, 8, copies, copies, len(entry) * copies, start)
    path.write_bytes(data[:start] + entry * copies + bytes(tail))


def test_files_of_a_zip_archive_that_overlap_are_a_bomb(tmp_path: Path) -> None:
    bomb(tmp_path / "x.zip", copies=1)
    assert [member.name for member in list_archive(tmp_path / "x.zip")] == ["0.png"]
    bomb(tmp_path / "x.zip", copies=1000)
    *_, last = list_archive(tmp_path / "x.zip")
    assert isinstance(last.reader, UnreadableContent)
    assert "its files overlap, as those of a bomb do" in last.reader.why


def zip64(path: Path, *, size: int, offset: int, at: int | None = None) -> None:
    """A zip archive whose list of files is where a record of 64 bits says."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("0.png", b"x")
    data = path.read_bytes()
    end = data.index(b"PK\5\6")
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, end if at is None else at, 1)
    path.write_bytes(data[:end] + record + locator + data[end:])


@pytest.mark.parametrize(("size", "offset"), [(2**63, 0), (2**64 - 1, 2**64 - 1), (0, 2**40), (51, 2**62), (10**6, 0)])
def test_a_wrong_record_of_64_bits_is_named(tmp_path: Path, size: int, offset: int) -> None:
    zip64(tmp_path / "x.zip", size=size, offset=offset)
    (only,) = list_archive(tmp_path / "x.zip")
    assert isinstance(only.reader, UnreadableContent)
    assert "its list of files is damaged" in only.reader.why


def test_a_record_of_64_bits_that_points_to_itself_is_no_loop(tmp_path: Path) -> None:
    zip64(tmp_path / "x.zip", size=51, offset=36, at=0)
    assert [member.name for member in list_archive(tmp_path / "x.zip")] == ["0.png"]


NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=120)


@given(
    files=st.lists(st.tuples(NAMES, st.integers(0, 2000), st.sampled_from("fdls")), min_size=1, max_size=6),
    form=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    everywhere=st.dictionaries(st.sampled_from(["comment", "mtime"]), st.just("1"), max_size=1),
)
@settings(max_examples=150)
def test_sound_archives_are_read_as_the_standard_library_reads_them(
    tmp_path_factory: pytest.TempPathFactory, files: list[tuple[str, int, str]], form: int, everywhere: dict[str, str]
) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=form, pax_headers=everywhere) as packed:
        for name, size, kind in files:
            info = tarfile.TarInfo(name)
            info.type = {"f": tarfile.REGTYPE, "d": tarfile.DIRTYPE, "l": tarfile.SYMTYPE, "s": tarfile.AREGTYPE}[kind]
            info.size, info.linkname = (size if kind in "fs" else 0), ("x" * size if kind == "l" else "")
            try:
                packed.addfile(info, io.BytesIO(bytes(size)))
            except ValueError:  # longer than the oldest form has room for
                continue
    path = tmp_path_factory.mktemp("tar") / "x.tar"
    path.write_bytes(whole.getvalue())
    with tarfile.open(path) as theirs:
        expected = [
            (info.name, (info.offset_data, info.size) if info.isreg() else None) for info in theirs if not info.isdir()
        ]
    found = [
        (member.name, (member.reader.at, member.reader.size) if isinstance(member.reader, TarMember) else None)
        for member in list_tar(path, "")
    ]
    assert found == expected


def test_the_two_that_hung_end(tmp_path: Path) -> None:
    """In a process that a watchdog would end."""
    for name, kind in (("loop0.tar", b"0"), ("loopZ.tar", b"Z")):
        (tmp_path / name).write_bytes(A + header(b"b.png", negative(-512), kind) + END)
    code = (
        "import sys; from pathlib import Path; from cnnviz_cli.files.inputs.search import find_images as find\n"
        "print([len(find([Path(name)], recursive=False)) for name in sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "loop0.tar"), str(tmp_path / "loopZ.tar")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "[2, 2]\n", done.stderr


def failures(path: Path) -> list[str]:
    return [
        source.reader.why
        for source in find_images([path], recursive=False)
        if isinstance(source.reader, UnreadableContent)
    ]


@pytest.mark.parametrize("change", [lambda data: data[:700], lambda data: data[:1100], lambda data: data + b"x" * 512])
def test_what_is_cut_or_has_a_tail_is_said_or_harmless(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    data = change(A + header(b"b.png", octal(512)) + bytes(512) + END)
    (tmp_path / "x.tar").write_bytes(data)
    assert bool(failures(tmp_path / "x.tar")) == (len(data) < 1500)
