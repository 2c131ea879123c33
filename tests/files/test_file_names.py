"""Names that every file system stores, and that never collide."""

import unicodedata
from pathlib import PurePosixPath, PureWindowsPath

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from cnnviz_cli.files.output.file_names import FolderNames, file_name, folder_name

AWKWARD = [
    "..",
    ".",
    "",
    "con.png",
    "COM1",
    "nul ",
    "x.",
    "x ",
    "a:b",
    "a\\b",
    "a\0b",
    "a\x1bb",
    "\u202egnp.x",
    "\ud800",
    "é" * 200,
    "x" * 300 + ".jpg",
    "x~0123456789",
    "Straße.png",
    "STRASSE.png",
]
part = st.one_of(st.sampled_from(AWKWARD), st.text(max_size=12), st.text("abAB.~ 0", max_size=6))
name = st.lists(part, min_size=1, max_size=3).map("/".join)


def storable(part: str) -> None:
    assert part not in ("", ".", "..")
    assert len(part.encode()) <= 255
    assert not part.endswith((".", " "))
    assert not set(part) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Zl", "Zp") for char in part)
    stem = part.split(".", maxsplit=1)[0].strip().upper()
    assert stem not in {"CON", "PRN", "AUX", "NUL", *(f"COM{n}" for n in range(10)), *(f"LPT{n}" for n in range(10))}


@given(name)
def test_a_folder_is_storable_and_stays_below_the_root(source: str) -> None:
    folder = folder_name(source)
    for piece in folder.split("/"):
        storable(piece)
    assert not PurePosixPath(folder).is_absolute()
    assert not PureWindowsPath(folder).anchor
    assert folder.count("/") == source.count("/")


@given(name, name)
def test_different_names_give_different_folders(one: str, other: str) -> None:
    assume(one != other)
    assert folder_name(one) != folder_name(other)


def test_a_tag_cannot_be_forged() -> None:
    changed = folder_name("a:b")
    assert changed != "a_b"
    assert folder_name(changed) != changed


@pytest.mark.parametrize("plain", ["chelsea.png", "cats/chelsea.png", "x y (1).jpg", "猫/café.jpg", ".hidden.jpg"])
def test_ordinary_names_are_kept(plain: str) -> None:
    assert folder_name(plain) == plain


@given(st.lists(name, unique=True, max_size=12))
def test_no_folder_of_a_run_is_or_contains_another_on_any_file_system(sources: list[str]) -> None:
    folders = FolderNames()
    given_out = [folders.folder_for(source) for source in sources]
    seen = [PurePosixPath(unicodedata.normalize("NFC", folder).casefold()) for folder in given_out]
    for index, one in enumerate(seen):
        for piece in given_out[index].split("/"):
            storable(piece)
        for other in seen[index + 1 :]:
            assert one != other
            assert one not in other.parents
            assert other not in one.parents


def test_upper_case_own_files_and_nesting_are_told_apart() -> None:
    folders = FolderNames()
    assert folders.folder_for("A.png") == "A.png"
    second = folders.folder_for("a.png")
    assert second.startswith("a.png~")
    assert folders.folder_for("a.png") == second
    inside = folders.folder_for("a.PNG/x.jpg")
    assert inside.endswith("/x.jpg")
    assert inside.casefold().split("/")[0] != "a.png"
    assert folders.folder_for("manifest.json") != "manifest.json"
    assert folders.folder_for("run.json/x.png") != "run.json/x.png"


def test_a_file_name_reads_like_its_parts() -> None:
    assert file_name("gradcam", "layer4", "282-tiger cat", "png") == "gradcam.layer4.282-tiger_cat.png"
    assert file_name("gradcam", "", "gradcam++", "png") == "gradcam.gradcam++.png"
    assert file_name("features", "features.3.0", "png") == "features.features.3.0.png"
    assert file_name("deconv", "917-jack-o'-lantern / «x»", "png") == "deconv.917-jack-o_-lantern_x.png"


@given(st.lists(st.text(max_size=300), max_size=4))
def test_a_file_name_is_storable_and_keeps_its_suffix(parts: list[str]) -> None:
    made = file_name("con", *parts, "png")
    storable(made)
    assert made.endswith(".png")


def test_long_names_that_differ_at_the_end_stay_different() -> None:
    assert file_name("x" * 400 + "a", "png") != file_name("x" * 400 + "b", "png")
