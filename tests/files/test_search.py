"""Which pictures arguments stand for, under which names."""

import os
import pickle
import random
import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnviz_cli.core.errors import ImageError, NoInputsError, UsageError
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.inputs.folder_walk import natural_key
from cnnviz_cli.files.inputs.search import find_images


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*arguments: Path, recursive: bool = False, output: Path | None = None) -> list[str]:
    return [source.name for source in find_images(arguments, recursive=recursive, output=output)]


def test_a_folder_lists_its_pictures_in_natural_order_whatever_order_the_disk_has(tmp_path: Path) -> None:
    wanted = ["a.webp", "img.gif", "Img1.PNG", "img2.jpg", "img10.jpeg", "img010.gif", "z9.tiff", "Z10.bmp"]
    shuffled = [*wanted, "notes.txt", ".hidden.jpg", "._img2.jpg", "sub/deep.png"]
    random.Random(3).shuffle(shuffled)
    touch(tmp_path, *shuffled)
    assert names(tmp_path) == [
        "a.webp",
        "img.gif",
        "Img1.PNG",
        "img2.jpg",
        "img010.gif",
        "img10.jpeg",
        "z9.tiff",
        "Z10.bmp",
    ]


def test_recursion_keeps_relative_names_and_survives_links_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, "a/2.png", "a/b/1.png", "c.png", ".git/x.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path, recursive=True) == ["a/2.png", "a/b/1.png", "c.png"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, "scan", ".hidden.jpg")
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "gone")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    wanted = ["scan", ".hidden.jpg", "dangling.jpg", "itself.jpg"]
    assert names(*(tmp_path / name for name in wanted)) == wanted


def test_the_same_file_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "a/x.jpg", "a/y.jpg")
    monkeypatch.chdir(tmp_path)
    assert names(Path("a/y.jpg"), Path("a"), tmp_path / "a" / "x.jpg", Path("a/../a/x.jpg")) == ["y.jpg", "x.jpg"]


def test_folders_that_overlap_give_each_file_once_at_its_first_place(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg", "ab/4.jpg")
    a, b, c = tmp_path / "a", tmp_path / "a/b", tmp_path / "a/b/c"
    assert names(a, b, c, recursive=True) == ["1.jpg", "b/2.jpg", "b/c/3.jpg"]
    assert names(c, b, a, recursive=True) == ["3.jpg", "2.jpg", "1.jpg"]
    assert names(b, tmp_path / "ab", b) == ["2.jpg", "4.jpg"]
    assert names(tmp_path / "ab", tmp_path, recursive=True) == ["4.jpg", "a/1.jpg", "a/b/2.jpg", "a/b/c/3.jpg"]
    (tmp_path / "link").symlink_to(b, target_is_directory=True)
    assert names(tmp_path / "link", a, recursive=True) == ["2.jpg", "c/3.jpg", "1.jpg"]


def test_a_link_and_the_file_it_leads_to_are_one(tmp_path: Path) -> None:
    touch(tmp_path, "in/b.jpg", "in/d.jpg", "away/x.jpg", "away/y.jpg")
    (tmp_path / "in/a.jpg").symlink_to("b.jpg")
    (tmp_path / "in/c.jpg").symlink_to(tmp_path / "away/x.jpg")
    (tmp_path / "in/e.jpg").symlink_to("c.jpg")
    assert names(tmp_path / "in") == ["a.jpg", "c.jpg", "d.jpg"]
    assert names(tmp_path / "in", tmp_path / "away") == ["a.jpg", "c.jpg", "d.jpg", "y.jpg"]
    assert names(tmp_path / "away", tmp_path / "in") == ["x.jpg", "y.jpg", "a.jpg", "d.jpg"]
    # A second name on the disk is a second file.
    (tmp_path / "in/z.jpg").hardlink_to(tmp_path / "in/d.jpg")
    assert names(tmp_path / "in") == ["a.jpg", "c.jpg", "d.jpg", "z.jpg"]


def test_folders_may_be_nested_deeper_than_calls_can_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    depth = 300
    deepest = "d/" * depth
    Path(deepest).mkdir(parents=True)
    Path(deepest, "x.jpg").write_bytes(b"x")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(250)
    try:
        found = names(Path("d"), recursive=True)
    finally:
        sys.setrecursionlimit(limit)
    assert found == [deepest.removeprefix("d/") + "x.jpg"]


def test_a_source_is_small(tmp_path: Path) -> None:
    touch(tmp_path, *(f"folder/{number}.jpg" for number in range(300)))
    sources = find_images([tmp_path], recursive=True)
    assert all(len(pickle.dumps(source)) < 250 + len(str(tmp_path)) for source in sources)
    # 150 bytes, of which 65 are the name's; the folder is one text for all.
    assert len({id(source.folder) for source in sources}) == 1
    assert all(source.below is source.name for source in sources)
    assert sys.getsizeof(sources[0]) + sys.getsizeof(sources[0].name) < 160


def test_the_order_is_that_of_numbers_then_suffixes_then_letters_case(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{n}{stem}{suffix}" for n in ("1", "01", "2", "10", "") for stem in "aB" for suffix in SUFFIX))
    assert names(tmp_path) == sorted(names(tmp_path), key=slowly)


SUFFIX = (".jpg", ".JPG", ".png", ".a9.png", ".a10.png")


def slowly(name: str) -> tuple[list[tuple[int, str]], str, str]:
    """The order by its definition: runs of digits are numbers, and come before letters."""
    path = PurePosixPath(name.casefold())
    pieces = re.split(r"([0-9]+)", path.stem)
    return [(int(piece), "") if at % 2 else (-1, piece) for at, piece in enumerate(pieces)], path.suffix, name


@given(
    st.lists(st.text(st.sampled_from("aAbß.019_ é"), min_size=1, max_size=8), unique=True, max_size=8).filter(
        lambda parts: not {".", ".."} & set(parts)
    )
)
def test_the_order_of_any_names_is_that_of_its_definition(parts: list[str]) -> None:
    assert sorted(parts, key=natural_key) == sorted(parts, key=slowly)


def test_equal_names_get_the_folders_that_tell_them_apart(tmp_path: Path) -> None:
    touch(tmp_path, "a/pics/x.jpg", "b/pics/x.jpg", "b/pics/only.jpg")
    files = (tmp_path / "a/pics/x.jpg", tmp_path / "b/pics/x.jpg")
    assert names(*files) == ["a/pics/x.jpg", "b/pics/x.jpg"]
    assert names(*reversed(files)) == ["b/pics/x.jpg", "a/pics/x.jpg"]
    folders = (tmp_path / "a/pics", tmp_path / "b/pics")
    assert names(*folders) == ["a/pics/x.jpg", "only.jpg", "b/pics/x.jpg"]


def test_equal_names_below_folders_are_told_apart_above_them(tmp_path: Path) -> None:
    touch(tmp_path, "a/cats/x.jpg", "b/cats/x.jpg")
    assert names(tmp_path / "a", tmp_path / "b", recursive=True) == ["a/cats/x.jpg", "b/cats/x.jpg"]


def test_a_name_that_is_taken_after_all_gets_a_number(tmp_path: Path) -> None:
    # The first argument's own `a/x.jpg` is what the other two need to be told apart by.
    touch(tmp_path, "top/a/x.jpg", "u/a/x.jpg", "u/b/x.jpg")
    arguments = [tmp_path / "top", tmp_path / "u/a/x.jpg", tmp_path / "u/b/x.jpg"]
    assert names(*arguments, recursive=True) == ["a/x.jpg", "a/x~2.jpg", "b/x.jpg"]
    # A number is passed over where a later source is really called so.
    touch(tmp_path, "last/a/x~2.jpg")
    assert names(*arguments, tmp_path / "last", recursive=True) == ["a/x.jpg", "a/x~3.jpg", "b/x.jpg", "a/x~2.jpg"]


def test_a_missing_path_names_what_is_near(tmp_path: Path) -> None:
    touch(tmp_path, "chelsea.png")
    with pytest.raises(UsageError) as caught:
        find_images([tmp_path / "chelsee.png"], recursive=False)
    assert caught.value.where.endswith("chelsee.png")
    assert "'chelsea.png'" in caught.value.fix
    with pytest.raises(UsageError) as caught:
        find_images([tmp_path / "gone" / "x.png"], recursive=False)
    assert "no folder" in caught.value.fix
    with pytest.raises(UsageError):
        find_images([Path("nul\0.png")], recursive=False)
    with pytest.raises(UsageError):
        find_images([tmp_path / ("long" * 100)], recursive=False)


def test_a_folder_without_pictures_says_how_many_files_it_holds_and_what_would_help(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.md", "sub/x.jpg")
    with pytest.raises(NoInputsError, match="0 of 2 files") as caught:
        find_images([tmp_path], recursive=False)
    assert "--recursive" in caught.value.fix
    (tmp_path / "sub" / "x.jpg").unlink()
    with pytest.raises(NoInputsError, match="0 of 2 files") as caught:
        find_images([tmp_path], recursive=False)
    assert caught.value.fix == ""
    with pytest.raises(NoInputsError):
        find_images([], recursive=False)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # chmod does not stop the super-user, whom tests may run as.
    def forbidden(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(UsageError, match="Permission denied") as caught:
        find_images([tmp_path], recursive=False)
    assert caught.value.where == str(tmp_path)


def test_the_output_folder_is_not_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "x.jpg", "out/x.jpg/overview.png")
    assert names(tmp_path, recursive=True, output=tmp_path / "out") == ["x.jpg"]
    assert names(tmp_path, recursive=True, output=tmp_path / "elsewhere") == ["out/x.jpg/overview.png", "x.jpg"]
    with pytest.raises(UsageError, match="output folder"):
        find_images([tmp_path], recursive=True, output=tmp_path / "out" / "..")
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    assert names(tmp_path / "link", recursive=True, output=tmp_path / "out") == ["x.jpg"]
    monkeypatch.chdir(tmp_path)
    assert names(Path(), recursive=True, output=Path("link/out")) == ["x.jpg"]
    assert names(Path("**/*.jpg"), output=Path("out")) == ["x.jpg"]


def test_names_that_are_no_utf8_become_text(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        Path(os.fsdecode(raw)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    (name,) = names(tmp_path)
    assert name == "caf\\xe9.jpg"
    name.encode()


def test_a_sub_folder_that_cannot_be_searched_fails_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "closed").mkdir()
    real = os.scandir

    def refused(folder: str) -> Any:
        if folder.endswith("closed"):
            raise PermissionError(13, "Permission denied", folder)
        return real(folder)

    monkeypatch.setattr(os, "scandir", refused)
    first, closed = find_images([tmp_path], recursive=True)
    assert (first.name, closed.name) == ("a.png", "closed")
    with pytest.raises(ImageError, match="cannot be searched: Permission denied"):
        read_image(closed)
