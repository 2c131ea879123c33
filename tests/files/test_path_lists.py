"""Lists of pictures that other programs make: what separates the paths, and which names they get."""

import io
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnviz_cli.core.errors import ImageError, NoInputsError, UsageError
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import STDIN, find_images


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with some pictures."""
    for name in ("a.jpg", "in/b.jpg", "in/deep/c.jpg", "other/b.jpg", " d .jpg", "in/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listed(data: bytes, *, arguments: tuple[Path, ...] = (), recursive: bool = False) -> list[Source]:
    Path("list").write_bytes(data)
    return find_images(arguments, recursive=recursive, files_from=Path("list"))


def names(data: bytes, *, arguments: tuple[Path, ...] = (), recursive: bool = False) -> list[str]:
    return [source.name for source in listed(data, arguments=arguments, recursive=recursive)]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    "data",
    [
        b"in/b.jpg\na.jpg\n",
        b"in/b.jpg\na.jpg",
        b"\n\nin/b.jpg\n  \n\na.jpg\n\n",
        b"in/b.jpg\r\na.jpg\r\n",
        b"\xef\xbb\xbfin/b.jpg\na.jpg\n",
        b"in/b.jpg\0a.jpg\0",
        b"in/b.jpg\0a.jpg",
        b"./in//b.jpg\n./a.jpg\n",
        b"in/b.jpg\na.jpg\nin/b.jpg\n./a.jpg\n",
    ],
)
def test_lines_and_nuls_separate_paths(data: bytes) -> None:
    assert names(data) == ["in/b.jpg", "a.jpg"]


@pytest.mark.usefixtures("here")
def test_spaces_and_line_ends_within_names_are_theirs() -> None:
    Path("two\nlines\r.jpg").write_bytes(b"x")
    assert names(b" d .jpg\n") == [" d .jpg"]
    assert names(b"two\nlines\r.jpg\0") == ["two\nlines\r.jpg"]


@given(
    parts=st.lists(
        st.text(st.characters(exclude_characters="\0/\n\r", exclude_categories=["Cs"]), min_size=1), min_size=1
    ),
    separator=st.sampled_from([b"\n", b"\r\n", b"\0"]),
)
def test_every_name_comes_back_however_long_the_list(
    parts: list[str], separator: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    wanted = dict.fromkeys(f"in/{part}" for part in parts if part not in (".", ".."))
    listing = tmp_path_factory.getbasetemp() / "any-list"
    # One file exists, or the whole list would be refused.
    padding = ["in/" + "x" * 200] * 400
    listing.write_bytes(separator.join(os.fsencode(name) for name in (str(listing), *padding, *wanted)))
    found = [source.name for source in find_images([], recursive=False, files_from=listing)]
    assert found == list(dict.fromkeys([listing.name, padding[0], *wanted]))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("length", [16, 64, 100])
def test_a_list_may_be_cut_anywhere_where_it_is_read(length: int) -> None:
    lines = [b"a.jpg", *(b"%0*d" % (length - 1, number) for number in range(3 * 65536 // length))]
    assert names(b"\n".join(lines)) == [line.decode() for line in lines]
    assert names(b"\0".join(lines)) == [line.decode() for line in lines]
    assert len(names(b"%0*d\n" % (length - 7, 0) + b"\n".join(lines))) == len(lines) + 1


def test_paths_from_elsewhere_are_named_from_the_folder_they_share(here: Path) -> None:
    whole = os.fsencode(here)
    assert names(b"\n".join([whole + b"/in/b.jpg", whole + b"/in/deep/c.jpg"])) == ["b.jpg", "deep/c.jpg"]
    mixed = [b"in/deep/c.jpg", whole + b"/in/b.jpg", b"in/../other/b.jpg"]
    assert names(b"\n".join(mixed)) == ["in/deep/c.jpg", "in/b.jpg", "other/b.jpg"]
    assert names(whole + b"/other/b.jpg") == ["b.jpg"]
    assert names(whole + b"/in/b.jpg\n" + whole + b"/in-between/x.jpg") == ["in/b.jpg", "in-between/x.jpg"]


def test_behind_a_link_two_dots_are_not_the_folder_before_it(here: Path) -> None:
    (here / "link").symlink_to(here / "in/deep", target_is_directory=True)
    (source,) = listed(b"link/../b.jpg")
    assert source.path.samefile(here / "in/b.jpg")


@pytest.mark.usefixtures("here")
def test_folders_in_a_list_are_searched_and_give_the_same_names() -> None:
    assert names(b"in\nother\n") == ["in/b.jpg", "other/b.jpg"]
    assert names(b"in\n", recursive=True) == ["in/b.jpg", "in/deep/c.jpg"]
    # As `find .` writes it.
    everything = b".\n./a.jpg\n./in\n./in/b.jpg\n./in/deep\n./in/deep/c.jpg\n"
    assert names(everything) == [" d .jpg", "a.jpg", "in/b.jpg", "in/deep/c.jpg"]
    Path("empty").mkdir()
    assert names(b"empty\na.jpg\n") == ["a.jpg"]


@pytest.mark.usefixtures("here")
def test_arguments_come_first_and_a_list_is_taken_literally() -> None:
    Path("a*.jpg").write_bytes(b"x")
    assert names(b"a*.jpg\nin/b.jpg", arguments=(Path("in/b.jpg"),)) == ["b.jpg", "a*.jpg"]


@pytest.mark.usefixtures("here")
def test_what_is_missing_fails_by_itself_unless_everything_is() -> None:
    found = listed(b"a.jpg\ngone/x.jpg\n" + b"long" * 2000 + b"\n")
    assert [source.name for source in found][:2] == ["a.jpg", "gone/x.jpg"]
    for source in found[1:]:
        with pytest.raises(ImageError):
            read_image(source)
    with pytest.raises(UsageError, match="none of the 2 files in this list exists") as caught:
        listed(b"gone/x.jpg\ngone/y.jpg\n")
    assert "working directory" in caught.value.fix
    nul_in_line = b"a.jpg\n" * 20000 + b"nul\0.jpg\n"
    assert len(listed(nul_in_line)) == 2


@pytest.mark.usefixtures("here")
def test_a_list_that_cannot_be_read_or_names_nothing() -> None:
    for data in (b"", b"\n\r\n \n"):
        with pytest.raises(NoInputsError, match="names no file"):
            listed(data)
    with pytest.raises(UsageError, match="does not end"):
        listed(b"x" * 300_000)
    with pytest.raises(UsageError, match="UTF-16"):
        listed("a.jpg\n".encode("utf-16"))
    with pytest.raises(UsageError, match="No such file") as caught:
        find_images([], recursive=False, files_from=Path("lits"))
    assert "'list'" in caught.value.fix
    with pytest.raises(UsageError, match="folder"):
        find_images([], recursive=False, files_from=Path("in"))
    with pytest.raises(UsageError):
        find_images([], recursive=False, files_from=Path("nul\0"))


@pytest.mark.usefixtures("here")
def test_a_list_may_come_through_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"a.jpg\nin/b.jpg\n")))
    found = find_images([], recursive=False, files_from=STDIN)
    assert [source.name for source in found] == ["a.jpg", "in/b.jpg"]
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"\n")))
    with pytest.raises(NoInputsError) as caught:
        find_images([], recursive=False, files_from=STDIN)
    assert caught.value.where == "standard input"


@pytest.mark.usefixtures("here")
def test_a_file_reached_by_a_link_is_the_same_file(here: Path) -> None:
    (here / "link.jpg").symlink_to(here / "a.jpg")
    (here / "folder").symlink_to(here / "in", target_is_directory=True)
    assert names(b"a.jpg\nlink.jpg\nin/b.jpg\nfolder/b.jpg\n") == ["a.jpg", "in/b.jpg"]
    assert names(b"folder/b.jpg\nin\n") == ["folder/b.jpg"]
    assert names(b"folder\nin/b.jpg\n") == ["folder/b.jpg"]


def test_names_that_are_no_utf8_become_text(here: Path) -> None:
    try:
        Path(os.fsdecode(b"caf\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (source,) = listed(b"caf\xe9.jpg\n")
    assert source.name == "caf\\xe9.jpg"
    assert (here / source.path).exists()
