"""Archives of pictures, read where they are. The hostile ones are made here."""

import bz2
import contextlib
import gzip
import hashlib
import io
import multiprocessing
import pickle
import random
import stat
import struct
import tarfile
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnviz_cli.core.errors import ImageError, NoInputsError
from cnnviz_cli.core.file_reading import READ_ALL, ReadOptions
from cnnviz_cli.files.images.decode import read_bytes, read_image
from cnnviz_cli.files.inputs import tar_archive
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.file_names import folder_name
from cnnviz_cli.files.output.resume import is_unchanged

ZIPS = [".zip"]
TARS = [".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"]


def picture(level: int) -> bytes:
    """A grey picture, told by its level."""
    made = io.BytesIO()
    Image.new("L", (4, 3), level).save(made, "PNG")
    return made.getvalue()


def archive(path: Path, members: Sequence[tuple[str, bytes]]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
            for name, data in members:
                packed.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    else:
        mode = {".tar": "w", ".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
        with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
            for name, data in members:
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


def found(path: Path) -> list[Source]:
    return find_images([path], recursive=False)


def names(path: Path) -> list[str]:
    return [source.name for source in found(path)]


def failure(source: Source, how: ReadOptions = READ_ALL) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read_image(source, how)
    assert str(source.path.parent) not in caught.value.what, "the manifest must not depend on the place"
    assert str(source.path) in caught.value.where
    return caught.value


PLAIN = [
    ("10.png", picture(10)),
    ("in/deep/2.PNG", picture(2)),
    ("9.png", picture(9)),
    ("notes.txt", b"x"),
    ("in/x.zip", b"x"),
    (".hidden.png", b"x"),
    ("__MACOSX/._9.png", b"x"),
    ("in/.git/1.png", b"x"),
]


@pytest.mark.parametrize("suffix", [*ZIPS, *TARS, ".TAR", ".Zip"])
def test_pictures_in_an_archive_are_read_where_they_are(tmp_path: Path, suffix: str) -> None:
    path = archive(tmp_path / f"pack{suffix.lower()}", PLAIN).rename(tmp_path / f"pack{suffix}")
    sources = found(path)
    natural = ["9.png", "10.png", "in/deep/2.PNG"]
    in_its_order = ["10.png", "in/deep/2.PNG", "9.png"]
    wanted = natural if suffix.lower() in (".zip", ".tar") else in_its_order
    assert [source.name for source in sources] == [f"pack{suffix}/{name}" for name in wanted]
    for source in reversed(sources):
        level = int(Path(source.name).stem)
        assert read_image(source).image.getpixel((0, 0)) == (level,) * 3
        assert read_bytes(source) == picture(level)
    assert list(tmp_path.iterdir()) == [path], "nothing is unpacked"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_source_in_an_archive_pickles_small_and_is_read_by_other_processes(tmp_path: Path, suffix: str) -> None:
    draw = random.Random(3)
    sources = found(archive(tmp_path / f"pack{suffix}", [(f"{n}.png", draw.randbytes(200_000)) for n in range(8)]))
    assert all(len(pickle.dumps(source)) < 400 + len(str(tmp_path)) for source in sources)
    wanted = [read_bytes(source) for source in sources]
    assert read_bytes(sources[0]) == wanted[0]
    # Forked here, a process has the file that is open at the second picture, and must not move on in it.
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(read_bytes, sources[1:] * 2, chunksize=1) == wanted[1:] * 2
    assert [read_bytes(source) for source in sources[1:]] == wanted[1:]


def test_a_compressed_archive_is_read_by_threads_in_any_order(tmp_path: Path) -> None:
    sources = found(archive(tmp_path / "x.tar.xz", [(f"{n}.png", picture(n)) for n in range(40)]))
    order = [source for source in sources for _ in range(3)]
    random.Random(1).shuffle(order)
    wrong = []

    def work(part: Sequence[Source]) -> None:
        wrong.extend(s for s in part if read_bytes(s) != picture(int(Path(s.name).stem)))

    threads = [threading.Thread(target=work, args=(order[start::3],)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_an_archive_in_a_folder_is_no_picture_and_one_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", PLAIN)
    with pytest.raises(NoInputsError, match="0 of 1 files in this folder are images") as caught:
        found(tmp_path)
    assert "archives" in caught.value.fix
    (tmp_path / "link.zip").symlink_to(path)
    assert len(find_images([path, tmp_path / "link.zip", tmp_path / "*.zip"], recursive=False)) == 3


def test_archives_match_patterns_and_their_pictures_are_chosen(tmp_path: Path) -> None:
    archive(tmp_path / "2.zip", [("a.png", b"x"), ("b.png", b"x")])
    archive(tmp_path / "10.tar", [("a.png", b"x")])
    archive(tmp_path / "none.zip", [("a.txt", b"x")])
    assert names(tmp_path / "*") == ["2.zip/a.png", "2.zip/b.png", "10.tar/a.png"]
    both = [tmp_path / "2.zip", tmp_path / "10.tar"]
    assert [s.name for s in find_images(both, recursive=False, exclude=["2.zip/b*"])] == ["2.zip/a.png", "10.tar/a.png"]
    assert [s.name for s in find_images(both, recursive=False, exclude=["*.zip"])] == ["10.tar/a.png"]
    (tmp_path / "list").write_text(f"{tmp_path}/2.zip\n{tmp_path}/none.zip\n")
    listed = find_images([], recursive=False, files_from=tmp_path / "list", include=["b.png"])
    assert [s.name for s in listed] == ["2.zip/b.png"]


def test_archives_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        archive(tmp_path / folder / "x.zip", [("1.png", b"x")])
    sources = find_images([tmp_path / "a/x.zip", tmp_path / "b/x.zip"], recursive=False)
    assert [source.name for source in sources] == ["a/x.zip/1.png", "b/x.zip/1.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_an_archive_without_pictures_says_how_many_files_it_holds(tmp_path: Path, suffix: str) -> None:
    twelve = [(f"{n}.txt", b"x") for n in range(12)]
    with pytest.raises(NoInputsError, match="0 of 12 files in this archive are images"):
        found(archive(tmp_path / f"x{suffix}", twelve))
    with pytest.raises(NoInputsError, match="this archive holds no files"):
        found(archive(tmp_path / f"empty{suffix}", []))


HOSTILE = ["../../up.png", "/etc/root.png", "a/../../../b.png", "./././c.png", "..", "../", "//d.png", "C:\\e.png"]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tgz"])
def test_names_that_lead_elsewhere_are_neutralised(tmp_path: Path, suffix: str) -> None:
    path = archive(tmp_path / f"x{suffix}", [(name, b"x") for name in HOSTILE])
    short = [name.removeprefix(f"x{suffix}/") for name in names(path)]
    assert sorted(short) == sorted(["up.png", "etc/root.png", "a/b.png", "c.png", "d.png", "C:\\e.png"])
    assert all(".." not in folder_name(name).split("/") for name in names(path))


def test_a_nul_in_a_name_does_not_end_it(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", [("a_b.png", b"x"), ("c.txt_d.png", b"y")])
    path.write_bytes(path.read_bytes().replace(b"a_b", b"a\0b").replace(b"t_d", b"t\0d"))
    assert names(path) == ["x.zip/a\\x00b.png", "x.zip/c.txt\\x00d.png"]


@given(parts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), min_size=1, max_size=5))
def test_any_names_at_all_become_relative_unique_and_storable(
    parts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    members = [(f"{part}.png", b"x") for part in parts] + [("../safe.png", b"x")] * 2
    path = tmp_path_factory.getbasetemp() / "any.zip"
    with pytest.warns(UserWarning, match="Duplicate name"):
        archive(path, members)
    given_names = names(path)
    assert len(set(given_names)) == len(given_names)
    for name in given_names:
        assert name.startswith("any.zip/")
        assert not {"", ".", ".."} & set(name.split("/"))
        assert "\0" not in name
        name.encode()


def test_members_of_one_name_are_both_there(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        packed = archive(tmp_path / "x.zip", [("a.png", picture(n)) for n in (1, 2, 3)])
    for path in (packed, archive(tmp_path / "x.tar", [("a.png", picture(n)) for n in (1, 2, 3)])):
        sources = found(path)
        assert [s.name.rpartition("/")[2] for s in sources] == ["a.png", "a~2.png", "a~3.png"]
        assert [read_bytes(s) for s in sources] == [picture(n) for n in (1, 2, 3)]


def test_a_name_longer_than_any_path_is_shortened(tmp_path: Path) -> None:
    for path in (
        archive(tmp_path / "x.zip", [("long" * 9000 + ".png", b"x")]),
        archive(tmp_path / "x.tar", [("deep/" * 9000 + "x.png", b"x")]),
    ):
        (name,) = names(path)
        assert len(name) < 1100
        assert name.endswith(".png")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_archive_fail_by_themselves(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name, type_ in (("good.png", tarfile.REGTYPE), ("odd.png", kind), ("folder.png", tarfile.DIRTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = type_, "/etc/passwd"
            info.size = len(picture(1)) if type_ == tarfile.REGTYPE else 0
            tar.addfile(info, io.BytesIO(picture(1)))
    good, odd = found(path)
    assert (good.name, odd.name) == ("x.tar/good.png", "x.tar/odd.png")
    assert read_bytes(good) == picture(1)
    assert "a link or a device" in failure(odd).what


def test_a_link_in_a_zip_archive_fails_by_itself(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name, mode in (("link.png", stat.S_IFLNK), ("good.png", stat.S_IFREG), ("plain.png", 0)):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, (mode | 0o644) << 16
            packed.writestr(info, "/etc/passwd")
    good, link, plain = found(tmp_path / "x.zip")
    assert "a link or a device" in failure(link).what
    assert read_bytes(good) == read_bytes(plain) == b"/etc/passwd"


def patched(path: Path, at: str, offset: int, value: int, *, size: str = "<H") -> None:
    """Change a number in every header of a zip archive: ``local`` ones, or those in the list at its ``end``."""
    data, mark = bytearray(path.read_bytes()), {"local": b"PK\3\4", "end": b"PK\1\2"}[at]
    place = data.find(mark)
    while place >= 0:
        struct.pack_into(size, data, place + offset, value)
        place = data.find(mark, place + 1)
    path.write_bytes(data)


def test_what_is_encrypted_or_packed_in_an_unknown_way_fails_by_itself(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", [("a.png", b"x" * 100)])
    patched(path, "end", 8, 1)
    assert "encrypted" in failure(found(path)[0]).what
    path = archive(tmp_path / "y.zip", [("a.png", b"x" * 100)])
    patched(path, "end", 10, 14)
    assert "not read (14)" in failure(found(path)[0]).what


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_every_packing_is_undone_and_its_checksum_asked(tmp_path: Path, method: int) -> None:
    data = random.Random(2).randbytes(70_000) + bytes(500_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", method) as packed:
        packed.writestr("a.png", data)
    (source,) = found(tmp_path / "x.zip")
    assert read_bytes(source) == data
    whole = (tmp_path / "x.zip").read_bytes()
    for at in (0, 5000):  # the header, the data
        broken = bytearray(whole)
        broken[at + 1] ^= 0xFF
        (tmp_path / "x.zip").write_bytes(broken)
        assert "damaged at this image" in failure(found(tmp_path / "x.zip")[0]).what


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    how = ReadOptions(max_bytes=1 << 20)
    bomb = archive(tmp_path / "bomb.zip", [("a.png", bytes(32 << 20))])
    assert failure(found(bomb)[0], how).what == "the file is larger than 1 MiB (--max-bytes)"
    # One that claims to be small is unpacked up to the size it claims.
    patched(bomb, "end", 24, 1000, size="<L")
    (source,) = found(bomb)
    tracemalloc.start()
    try:
        assert "damaged" in failure(source, how).what
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    for suffix in (".tar", ".tgz"):
        big = archive(tmp_path / f"x{suffix}", [("a.png", bytes(2 << 20)), ("b.png", picture(1))])
        first, second = found(big)
        assert "larger than 1 MiB (--max-bytes)" in failure(first, how).what
        assert read_bytes(second) == picture(1)


@pytest.mark.parametrize(("opener", "suffix"), [(gzip.open, "gz"), (bz2.open, "bz2")])
def test_a_compressed_archive_that_expands_beyond_measure_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opener: Callable[..., io.BufferedIOBase], suffix: str
) -> None:
    monkeypatch.setattr(tar_archive, "_EXPANDED", 1 << 20)
    plain = archive(tmp_path / "x.tar", [("a.png", picture(1)), ("b.bin", bytes(8 << 20)), ("c.png", picture(2))])
    with opener(tmp_path / f"x.tar.{suffix}", "wb") as packed:
        packed.write(plain.read_bytes())
    first, broken = found(tmp_path / f"x.tar.{suffix}")
    assert read_bytes(first) == picture(1)
    assert broken.name == f"x.tar.{suffix}"
    assert failure(broken).what.endswith("after 2 of its files: it expands to more than 100 times its size")


def test_a_header_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 6 << 30
    path.write_bytes(info.tobuf() + bytes(10_000))
    (broken,) = found(path)
    assert failure(broken).what == "this archive cannot be read: it is damaged"


def test_headers_without_end_are_no_endless_loop(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("long")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1
    path.write_bytes((info.tobuf(tarfile.GNU_FORMAT) + b"n".ljust(512, b"\0")) * 3000)
    (broken,) = found(path)
    assert failure(broken).what.startswith("this archive cannot be read")


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_a_file_that_is_no_archive_is_one_failure(tmp_path: Path, suffix: str) -> None:
    for content in (b"", b"x", picture(1), random.Random(4).randbytes(3000), bytes(10)):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        (broken,) = found(path)
        assert broken.name == f"x{suffix}"
        assert failure(broken).what.startswith("this archive cannot be read: ")
    path.unlink()
    path.symlink_to(tmp_path / "gone")
    (broken,) = found(path)
    assert failure(broken).what == "this archive cannot be read: No such file or directory"


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_cut_short_anywhere_an_archive_loses_nothing_in_silence(tmp_path: Path, suffix: str) -> None:
    draw = random.Random(5)
    members = [(f"{n}.png", draw.randbytes(700)) for n in range(6)]
    whole = archive(tmp_path / f"x{suffix}", members).read_bytes()
    # Two blocks of nothing end a tar archive, which many tools leave out.
    end = len(whole) - (10_240 - 6 * 1536 % 10_240 if suffix == ".tar" else 0)
    for length in range(1, end, max(1, end // 40)):
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole[:length])
        read, failed = 0, 0
        for source in found(path):
            try:
                assert read_bytes(source) == dict(members)[source.name.rpartition("/")[2]]
                read += 1
            except ImageError:
                failed += 1
        at_a_members_end = suffix == ".tar" and length % 1536 == 0
        # A compressed one may end in a checksum that nobody gets to.
        assert failed >= 1 or at_a_members_end or (suffix != ".zip" and read == 6), length
        assert read + failed <= 7


@pytest.mark.parametrize("suffix", [".zip", *TARS])
def test_damage_anywhere_is_a_named_failure_and_never_another(tmp_path: Path, suffix: str) -> None:
    draw = random.Random(6)
    whole = archive(tmp_path / f"x{suffix}", [(f"{n}.png", draw.randbytes(300)) for n in range(4)]).read_bytes()
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(draw.choice([1, 1, 5])):
            broken[draw.randrange(len(broken))] = draw.choice([0, 255, draw.randrange(256)])
        path = tmp_path / f"broken{suffix}"
        path.write_bytes(broken)
        try:
            sources = found(path)
        except NoInputsError:
            continue
        for source in sources:
            with contextlib.suppress(ImageError):
                read_bytes(source)


def test_a_damaged_header_within_a_tar_archive_is_not_its_end(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", [(f"{n}.png", picture(n)) for n in range(3)])
    data = bytearray(path.read_bytes())
    data[1024:1030] = b"broken"
    path.write_bytes(data)
    first, broken = found(path)
    assert (first.name, broken.name) == ("x.tar/0.png", "x.tar")
    assert failure(broken).what == "this archive cannot be read after 1 of its files: it is damaged"


def test_a_zip_archive_behind_something_else_and_with_a_comment(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", PLAIN)
    with zipfile.ZipFile(path, "a") as packed:
        packed.comment = b"PK\5 a comment" * 100
    path.write_bytes(b"#!/bin/sh\nexit\n" + path.read_bytes())
    assert [read_bytes(source) for source in found(path)] == [picture(9), picture(10), picture(2)]


def test_numbers_of_64_bits_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 2)
    data = random.Random(7).randbytes(500)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for n in range(5):
            with packed.open(zipfile.ZipInfo(f"{n}.png"), "w", force_zip64=True) as member:
                member.write(data + bytes([n]))
    assert b"PK\6\6" in (tmp_path / "x.zip").read_bytes()
    assert [read_bytes(source) for source in found(tmp_path / "x.zip")] == [data + bytes([n]) for n in range(5)]


def test_one_part_of_a_split_archive_is_named(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", PLAIN)
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\5\6") + 4] = 1
    path.write_bytes(data)
    assert "split archive" in failure(found(path)[0]).what


def test_names_in_the_old_character_set_of_dos(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", [("caf_.png", b"x"), ("żółw.png", b"x")])
    path.write_bytes(path.read_bytes().replace(b"caf_", b"caf\x82"))
    assert names(path) == ["x.zip/café.png", "x.zip/żółw.png"]


@given(
    names=st.lists(st.text("ab/ż.", min_size=1, max_size=6), max_size=6, unique=True),
    data=st.binary(max_size=50),
    method=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]),
    before=st.binary(max_size=20),
    comment=st.binary(max_size=20),
)
def test_a_zip_archive_gives_what_the_standard_library_reads(
    names: list[str], data: bytes, method: int, before: bytes, comment: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from cnnviz_cli.files.inputs import zip_archive

    path = tmp_path_factory.getbasetemp() / "same.zip"
    with zipfile.ZipFile(path, "w", method) as packed:
        packed.comment = comment
        for at, name in enumerate(names):
            packed.writestr(name, data * at)
    path.write_bytes(before + path.read_bytes())
    with zipfile.ZipFile(path) as reference:
        wanted = [(info.filename, reference.read(info)) for info in reference.infolist() if not info.is_dir()]
    assert [(member.name, member.reader.read(path, 1 << 20)) for member in zip_archive.list_zip(path)] == wanted


def test_a_picture_is_unchanged_while_its_own_bytes_are(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.zip", [("a.png", picture(1)), ("b.png", picture(2))])
    before = {source.name: hashlib.sha256(read_bytes(source)).hexdigest() for source in found(path)}
    archive(path, [("a.png", picture(1)), ("new.png", picture(3)), ("b.png", picture(4))])
    after = {source.name: source for source in found(path)}
    same = {name: is_unchanged(after[name], (0, 0), digest) for name, digest in before.items()}
    assert same == {"x.zip/a.png": True, "x.zip/b.png": False}


def test_an_archive_that_is_gone_when_its_turn_comes_is_a_failure(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar", [("a.png", picture(1))])
    (source,) = found(path)
    path.unlink()
    assert failure(source).what == "the file cannot be read: No such file or directory"
