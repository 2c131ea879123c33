"""Which pictures arguments stand for, under which names."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from cnnviz_cli.core.errors import ImageError, NoInputsError, UsageError
from cnnviz_cli.files.photo import read_photo
from cnnviz_cli.files.sources import find


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*arguments: Path, recursive: bool = False, output: Path | None = None) -> list[str]:
    return [source.name for source in find(arguments, recursive=recursive, output=output)]


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
        find([tmp_path / "chelsee.png"], recursive=False)
    assert caught.value.where.endswith("chelsee.png")
    assert "'chelsea.png'" in caught.value.fix
    with pytest.raises(UsageError) as caught:
        find([tmp_path / "gone" / "x.png"], recursive=False)
    assert "no folder" in caught.value.fix
    with pytest.raises(UsageError):
        find([Path("nul\0.png")], recursive=False)
    with pytest.raises(UsageError):
        find([tmp_path / ("long" * 100)], recursive=False)


def test_a_folder_without_pictures_says_how_many_files_it_holds_and_what_would_help(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt", "b.md", "sub/x.jpg")
    with pytest.raises(NoInputsError, match="0 of 2 files") as caught:
        find([tmp_path], recursive=False)
    assert "--recursive" in caught.value.fix
    (tmp_path / "sub" / "x.jpg").unlink()
    with pytest.raises(NoInputsError, match="0 of 2 files") as caught:
        find([tmp_path], recursive=False)
    assert caught.value.fix == ""
    with pytest.raises(NoInputsError):
        find([], recursive=False)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # chmod does not stop the super-user, whom tests may run as.
    def forbidden(folder: str) -> None:
        raise PermissionError(13, "Permission denied", folder)

    monkeypatch.setattr(os, "scandir", forbidden)
    with pytest.raises(UsageError, match="Permission denied") as caught:
        find([tmp_path], recursive=False)
    assert caught.value.where == str(tmp_path)


def test_the_output_folder_is_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "x.jpg", "out/x.jpg/overview.png")
    assert names(tmp_path, recursive=True, output=tmp_path / "out") == ["x.jpg"]
    assert names(tmp_path, recursive=True, output=tmp_path / "elsewhere") == ["out/x.jpg/overview.png", "x.jpg"]
    with pytest.raises(UsageError, match="output folder"):
        find([tmp_path], recursive=True, output=tmp_path / "out" / "..")


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
    first, closed = find([tmp_path], recursive=True)
    assert (first.name, closed.name) == ("a.png", "closed")
    with pytest.raises(ImageError, match="cannot be searched: Permission denied"):
        read_photo(closed)
