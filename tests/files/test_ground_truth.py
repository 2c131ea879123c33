"""What is true of pictures, by a table or by their folders."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.tables.ground_truth import parent_folder_name, read_ground_truth


def table(folder: Path, content: str) -> Path:
    path = folder / "truth.csv"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """photos/{cats,dogs}/{1,2}.png and photos/1.png, none of which is ever opened."""
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png", "dogs/2.png", "1.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "photos"


def labels_of(content: str, photos: Path) -> dict[str, str | None]:
    """The label of each picture, by its name below `photos`."""
    read = read_ground_truth(table(photos.parent, content))
    found = {}
    for source in find_images([photos], recursive=True):
        path = read.path_of(source)
        found[source.name] = None if path is None else read.entries[path].label
    return found


def test_the_longest_end_of_a_path_decides(photos: Path) -> None:
    assert labels_of("1.png,a\ncats/1.png,b\nphotos/cats/2.png,c\n2.png,d\n", photos) == {
        "1.png": "a",
        "cats/1.png": "b",
        "cats/2.png": "c",
        "dogs/1.png": "a",
        "dogs/2.png": "d",
    }


@pytest.mark.parametrize(
    "row", ["{photos}/cats/1.png", "./cats/1.png", "cats//1.png", "cats\\1.png", "../{name}/photos/cats/1.png"]
)
def test_a_path_may_be_written_in_many_ways(row: str, photos: Path) -> None:
    found = labels_of(row.format(photos=photos, name=photos.parent.name) + ",x\n", photos)
    assert [name for name, label in found.items() if label] == ["cats/1.png"]


def test_an_end_is_made_of_whole_names(photos: Path) -> None:
    assert set(labels_of("s/1.png,x\nng,x\n", photos).values()) == {None}


def test_a_picture_given_by_itself_is_the_same_as_one_found(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_ground_truth(table(photos.parent, "cats/1.png,x\n"))
    monkeypatch.chdir(photos / "cats")
    for argument in (photos / "cats" / "1.png", Path("1.png")):
        (source,) = find_images([argument], recursive=False)
        assert read.path_of(source) == "cats/1.png"
        assert parent_folder_name(source) == "cats"


@pytest.mark.parametrize(
    "content",
    [
        "file,label\ncats/1.png,x\n",
        "\ufeffFile;Label\ncats/1.png;x\n",
        "label,note,path\nx,?,cats/1.png\n",
        "image\tclass\ncats/1.png\tx\n",
        "\n cats/1.png , x \n",
        '"cats/1.png","x"\n',
    ],
)
def test_headers_separators_and_quotes(content: str, photos: Path) -> None:
    assert labels_of(content, photos)["cats/1.png"] == "x"


def test_folders_count_in_archives_too(photos: Path) -> None:
    archive = photos.parent / "more.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("birds/3.png", b"")
        packed.writestr("4.png", b"")
    sources = find_images([archive], recursive=False)
    assert [parent_folder_name(source) for source in sources] == ["more.zip", "birds"]
    read = read_ground_truth(table(photos.parent, "birds/3.png,x\nmore.zip/4.png,y\n"))
    assert [read.path_of(source) for source in sources] == ["more.zip/4.png", "birds/3.png"]


def test_folders_count_in_stores_too(photos: Path) -> None:
    source = Source("s3://bucket/birds", "3.png", "3.png")
    assert parent_folder_name(source) == "birds"
    read = read_ground_truth(table(photos.parent, "birds/3.png,x\n"))
    assert read.path_of(source) == "birds/3.png"


def test_links_are_not_followed(photos: Path) -> None:
    (photos.parent / "lions").symlink_to(photos / "cats")
    (source, *_) = find_images([photos.parent / "lions"], recursive=True)
    assert parent_folder_name(source) == "lions"


def test_a_picture_without_a_folder_has_no_name_of_one() -> None:
    assert parent_folder_name(Source("/", "x.png", "x.png")) == ""


def test_the_same_twice_is_no_contradiction(photos: Path) -> None:
    assert labels_of("cats/1.png,x\n./cats/1.png,x\n", photos)["cats/1.png"] == "x"


@pytest.mark.parametrize(
    ("content", "what", "fix"),
    [
        ("", "truth.csv has no rows", ""),
        ("1.png,a\n./1.png,b\n", "truth.csv:2: '1.png' is 'a' in line 1, and here 'b'", ""),
        ("1.png\n", "truth.csv:1: this row needs a file and a label", ""),
        ("file,label\n1.png,\n", "truth.csv:2: this row needs a file and a label", ""),
        ("1.png,tiger,cat\n", "truth.csv:1: this row has more than a file and a label", "file,label"),
    ],
)
def test_mistakes_say_where_they_are(content: str, what: str, fix: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read_ground_truth(table(tmp_path, content))
    assert what in caught.value.what
    assert fix in caught.value.fix
    assert caught.value.where == "--truth"


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_ground_truth(tmp_path / "truth.csv")
