"""Patterns of file names: what they match, and what --include and --exclude leave."""

import fnmatch
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnviz_cli.core.errors import NoInputsError
from cnnviz_cli.files.inputs.folder_walk import NameFilter, Pattern, is_pattern
from cnnviz_cli.files.inputs.search import find_images

PARTS = st.sampled_from(["a", "b", "ab", "*", "**", "?", "a*", "[ab]", "[!a]", ".a", "*.*"])
NAMES = st.sampled_from(["a", "b", "ab", "ba", "c", ".a", "a.b"])


def matches(pattern: str, name: str, *, shell: bool = False) -> bool:
    followed = Pattern(pattern.split("/"))
    state = followed.start
    for part in name.split("/"):
        state = followed.step(state, part, shell=shell)
    return followed.accepts(state)


def slowly(pattern: list[str], name: list[str]) -> bool:
    """By the definition: each ``**`` stands for some number of parts, every other part for one."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        return any(slowly(pattern[1:], name[taken:]) for taken in range(len(name) + 1))
    return bool(name) and fnmatch.fnmatchcase(name[0], pattern[0]) and slowly(pattern[1:], name[1:])


@given(st.lists(PARTS, min_size=1, max_size=5), st.lists(NAMES, min_size=1, max_size=5))
def test_a_pattern_matches_what_its_definition_says(pattern: list[str], name: list[str]) -> None:
    assert matches("/".join(pattern), "/".join(name)) == slowly(pattern, name)


def test_wildcards_of_a_shell_leave_hidden_names_alone() -> None:
    assert matches("**/*.jpg", "a/.b/c.jpg")
    assert not matches("**/*.jpg", "a/.b/c.jpg", shell=True)
    assert not matches("*.jpg", ".c.jpg", shell=True)
    assert matches(".b/.*.jpg", ".b/.c.jpg", shell=True)
    assert matches("**/.b/*", "x/.b/c.jpg", shell=True)


def test_no_pattern_takes_long() -> None:
    # Tried one after the other, the ways to share 60 folders among 30 stars are beyond counting.
    assert not matches("/".join(["**"] * 30 + ["z"]), "/".join("a" * 60))
    assert not matches("a*" * 30 + "b", "a" * 200)


@pytest.mark.parametrize(
    ("include", "exclude", "name", "stays"),
    [
        ([], [], "a/b.jpg", True),
        (["*.jpg"], [], "a/b.jpg", True),
        (["*.jpg"], [], "a/b.JPG", False),
        (["*.jpg"], [], "a/b.png", False),
        (["a"], [], "a/b.jpg", True),
        (["a"], [], "x/a/b.jpg", True),
        (["/a"], [], "x/a/b.jpg", False),
        (["/a"], [], "a/c/b.jpg", True),
        (["a/"], [], "x/a/b.jpg", True),
        (["a/b"], [], "a/b/c.jpg", True),
        (["a/b"], [], "x/a/b/c.jpg", False),
        (["**/a/b"], [], "x/a/b/c.jpg", True),
        (["./a/*.jpg"], [], "a/c.jpg", True),
        (["a/*.jpg"], [], "a/b/c.jpg", False),
        (["a/**/*.jpg"], [], "a/c.jpg", True),
        (["*.jpg", "*.png"], [], "b.png", True),
        ([], ["*.png"], "b.png", False),
        ([], ["thumbs"], "a/thumbs/b.jpg", False),
        ([], ["thumbs"], "a/thumbs.jpg", True),
        ([], ["*.png", "x"], "x/b.jpg", False),
        (["*.jpg"], ["a"], "a/b.jpg", False),
        (["a/b.jpg"], ["*.jpg"], "a/b.jpg", False),
        ([], [".*"], ".b.jpg", False),
        ([], ["*.jpg"], ".b.jpg", False),
    ],
)
def test_exclusion_wins_and_what_matches_a_folder_holds_below_it(
    include: list[str], exclude: list[str], name: str, stays: bool
) -> None:
    assert NameFilter(include, exclude).accepts(name) is stays


@given(
    st.lists(st.lists(PARTS, min_size=1, max_size=3), max_size=3),
    st.lists(st.lists(PARTS, min_size=1, max_size=3), max_size=3),
    st.lists(NAMES, min_size=1, max_size=4),
)
def test_the_order_of_patterns_says_nothing_and_a_closed_folder_holds_no_name_that_stays(
    include: list[list[str]], exclude: list[list[str]], name: list[str]
) -> None:
    with_, without = ["/".join(parts) for parts in include], ["/".join(parts) for parts in exclude]
    stays = NameFilter(with_, without).accepts("/".join(name))
    for some, others in itertools.product(itertools.permutations(with_), itertools.permutations(without)):
        assert NameFilter(some, others).accepts("/".join(name)) is stays
    if stays:
        choice = NameFilter(with_, without)
        assert all(choice.enters("/".join(name[:depth])) for depth in range(1, len(name)))


def filled(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names(argument: Path, *, recursive: bool = False) -> list[str]:
    return [source.name for source in find_images([argument], recursive=recursive)]


@given(pattern=st.lists(PARTS, min_size=1, max_size=4).filter(lambda parts: is_pattern(parts[0])))
def test_a_quoted_pattern_gives_what_the_shell_would_have_given(
    pattern: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.getbasetemp() / "patterns"
    every = ["/".join((*above, "x.jpg")) for n in range(4) for above in itertools.product(["a", "b", ".a"], repeat=n)]
    if not root.exists():
        filled(root, *every)
    text = "/".join(pattern)
    wanted = set()
    for name in every:
        above = name.rpartition("/")[0]
        # A folder that matches is an argument, too, and its pictures are taken; `**` begins with no folder at all.
        around = matches(text, above, shell=True) if above else set(pattern) == {"**"}
        if around or matches(text, name, shell=True):
            wanted.add(name)
    try:
        found = names(root / text)
    except NoInputsError:
        found = []
    assert set(found) == wanted
    assert len(found) == len(set(found))


def test_names_start_where_the_wildcards_do_and_come_in_natural_order(tmp_path: Path) -> None:
    filled(tmp_path, "in/10/b.jpg", "in/9/b.jpg", "in/9/a10.jpg", "in/9/a9.jpg", "in/9/notes.txt", "in/.9/x.jpg")
    expected = ["9/a9.jpg", "9/a10.jpg", "9/b.jpg", "10/b.jpg"]
    assert names(tmp_path / "in/**/*.jpg") == names(tmp_path / "in/*/*") == expected
    assert names(tmp_path / "in/9/a*") == ["a9.jpg", "a10.jpg"]
    assert names(tmp_path / "in/*") == expected  # the folders match, and their files are taken
    assert names(tmp_path / "i*", recursive=True) == [f"in/{name}" for name in expected]


def test_a_file_that_is_called_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    filled(tmp_path, "a[1].jpg", "a1.jpg")
    assert names(tmp_path / "a[1].jpg") == ["a[1].jpg"]
    (tmp_path / "a[1].jpg").unlink()
    assert names(tmp_path / "a[1].jpg") == ["a1.jpg"]


def test_a_pattern_with_a_suffix_of_its_own_takes_what_it_matches(tmp_path: Path) -> None:
    filled(tmp_path, "a.dat", "b.dat", "c.jpg", "notes.txt")
    assert names(tmp_path / "*.dat") == ["a.dat", "b.dat"]
    assert names(tmp_path / "*") == ["c.jpg"]
    with pytest.raises(NoInputsError, match="0 of 1 files that match this pattern are images") as caught:
        names(tmp_path / "n*")
    assert caught.value.where.endswith("n*")
    with pytest.raises(NoInputsError, match="no file matches this pattern"):
        names(tmp_path / "*.jpeg")
    with pytest.raises(NoInputsError) as caught:
        names(tmp_path / "gone" / "*.jpg")
    assert "There is no folder" in caught.value.fix


def test_links_to_folders_are_followed_where_the_pattern_names_them_only(tmp_path: Path) -> None:
    filled(tmp_path, "in/real/x.jpg")
    (tmp_path / "in/link").symlink_to(tmp_path / "in/real", target_is_directory=True)
    (tmp_path / "in/real/up").symlink_to(tmp_path / "in", target_is_directory=True)
    assert names(tmp_path / "in/**/*.jpg") == ["real/x.jpg"]
    assert names(tmp_path / "in/l*/*.jpg") == ["link/x.jpg"]
    assert names(tmp_path / "in/*/*.jpg") == ["link/x.jpg"]  # the same file again is left out
    assert names(tmp_path / "in/*/*/*/*.jpg") == ["link/up/link/x.jpg"]
