"""Pictures by URL: the same as those of a folder, and nothing of a URL that is a secret."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from cnnviz_cli.core.errors import CnnvizError, ImageError, NoInputsError, OutputError, UsageError
from cnnviz_cli.files.images.decode import read_bytes, read_image
from cnnviz_cli.files.inputs import remote
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.remote import is_url, parse_url
from cnnviz_cli.files.inputs.search import find_images
from cnnviz_cli.files.output.resume import is_unchanged, read_stamp
from cnnviz_cli.files.output.sink import Sink

SECRET = "hush5ecret"

TREE = (
    "img2.jpg",
    "img10.JPG",
    "Img1.png",
    ".hidden.jpg",
    "notes.txt",
    "scan",
    "a/deep/1.png",
    "a/2.png",
    "a/.git/x.png",
    "b/left/x_left.png",
    "b/right/x_right.png",
    "thumbs/t.webp",
    "odd [1]*?.png",
)


def picture(shade: int = 90) -> bytes:
    buffer = BytesIO()
    Image.fromarray(np.full((6, 8, 3), shade, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> MemoryFileSystem:
    """fsspec's store in memory, empty, with the tree in the bucket ``box``."""
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setattr(MemoryFileSystem, "pseudo_dirs", [""])
    store = MemoryFileSystem()
    for at, name in enumerate(TREE):
        store.pipe_file(f"/box/{name}", picture(at))
    return store


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The same tree in a folder."""
    for at, name in enumerate(TREE):
        path = tmp_path / "box" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture(at))
    return tmp_path / "box"


def names(*arguments: Path | str, **how: Any) -> list[str]:
    return [source.name for source in find_images(arguments, **{"recursive": False, **how})]


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("below", "how"),
    [
        ("", {}),
        ("", {"recursive": True}),
        ("/a", {}),
        ("/a", {"recursive": True}),
        ("", {"recursive": True, "include": ("*_left.png", "thumbs")}),
        ("", {"recursive": True, "exclude": ("thumbs", "b/right")}),
        ("/*.jpg", {}),
        ("/*/*.png", {}),
        ("/**/*.png", {}),
        ("/**", {}),
        ("/s*", {}),
        ("/b*", {"recursive": True}),
        ("/scan", {}),
        ("/.hidden.jpg", {}),
        ("/odd [1]*?.png", {}),
    ],
)
def test_a_store_gives_the_names_that_a_folder_with_the_same_files_gives(
    below: str, how: dict[str, Any], disk: Path
) -> None:
    def outcome(root: str) -> list[str] | type[Exception]:
        try:
            return names(f"{root}{below}", **how)
        except CnnvizError as error:
            return type(error)

    there, here = outcome("memory://box"), outcome(str(disk))
    assert there == here
    assert there != []


@pytest.mark.usefixtures("memory")
def test_each_picture_has_the_bytes_of_its_object(disk: Path) -> None:
    there, here = (find_images([root], recursive=True) for root in ("memory://box", disk))
    assert [read_bytes(source) for source in there] == [read_bytes(source) for source in here]
    assert [read_image(source).sha256 for source in there] == [read_image(source).sha256 for source in here]
    assert read_image(pickle.loads(pickle.dumps(there[0]))).image.size == (8, 6)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("lines", [["img2.jpg", "a/2.png"], ["a/2.png", "a/deep/1.png"], ["img2.jpg"], ["a", "b/"]])
def test_a_list_gives_the_names_that_a_list_of_paths_gives(lines: list[str], disk: Path, tmp_path: Path) -> None:
    def listed(root: str) -> list[str]:
        (tmp_path / "list").write_text("\n".join(f"{root}/{line}" for line in lines))
        return names(files_from=tmp_path / "list", recursive=True)

    assert listed("memory://box") == listed(str(disk))


@pytest.mark.usefixtures("memory")
def test_a_list_mixes_paths_and_urls_in_its_order(disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(disk)
    (tmp_path / "list").write_text("memory://box/b/left/x_left.png\nimg2.jpg\nmemory://box/a/2.png\n")
    assert names(files_from=tmp_path / "list") == ["b/left/x_left.png", "img2.jpg", "a/2.png"]


@pytest.mark.usefixtures("memory")
def test_what_a_list_names_and_no_store_has_fails_alone(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("memory://box/gone.png\nmemory://box/img2.jpg\nmemory://box/p.zip\n")
    gone, there, packed = find_images([], recursive=False, files_from=tmp_path / "list")
    assert read_bytes(there) == picture(0)
    with pytest.raises(ImageError, match="no such object"):
        read_bytes(gone)
    with pytest.raises(ImageError, match="archives"):
        read_bytes(packed)
    (tmp_path / "list").write_text("memory://box/gone.png\n")
    with pytest.raises(UsageError, match="none of the 1 files"):
        find_images([], recursive=False, files_from=tmp_path / "list")


def test_an_object_is_explained_once_and_equal_names_are_told_apart(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/other/img2.jpg", picture())
    assert names("memory://box/a", "memory://box", recursive=True).count("2.png") == 1
    assert names("memory://box/img2.jpg", "memory://box/img2.jpg") == ["img2.jpg"]
    assert names("memory://box/img2.jpg", "memory://other/img2.jpg") == ["box/img2.jpg", "other/img2.jpg"]


def test_a_marker_of_a_folder_is_no_picture(memory: MemoryFileSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    real = MemoryFileSystem.ls

    def with_marker(self: MemoryFileSystem, path: str, **how: Any) -> list[dict[str, Any]]:
        return [{"name": f"{path.rstrip('/')}/", "size": 0, "type": "file"}, *real(self, path, **how)]

    monkeypatch.setattr(MemoryFileSystem, "ls", with_marker)
    assert names("memory://box/a", recursive=True) == ["2.png", "deep/1.png"]
    assert memory.isdir("/box/a")


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("url", "kind", "what"),
    [
        ("memory://box/gone.jpg", UsageError, "no such object or folder"),
        ("memory://nowhere/", UsageError, "no such object or folder"),
        ("memory://box/thumbs/*.png", NoInputsError, "0 of 0 objects that match"),
        ("ssh://box/x.jpg", UsageError, r"not read from ssh://"),
        ("file:///etc/hostname", UsageError, r"not read from file://"),
        ("s3:///x.jpg", UsageError, "no bucket"),
        ("https://pictures.example/", UsageError, "does not list"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(url: str, kind: type[CnnvizError], what: str) -> None:
    with pytest.raises(kind, match=what):
        find_images([url], recursive=False)


def test_an_archive_is_not_fetched(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/box/p.zip", b"PK")
    with pytest.raises(UsageError, match="archives"):
        find_images(["memory://box/p.zip"], recursive=False)


def test_another_file_system_named_behind_a_double_colon_is_not_asked(memory: MemoryFileSystem, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(picture())
    for url in (f"memory://box/x.png::file://{tmp_path}/x.png", f"simplecache::file://{tmp_path}/x.png"):
        with pytest.raises(UsageError):
            find_images([url], recursive=False)
    assert "/x.png" not in memory.store


@pytest.mark.parametrize("text", ["C:/x.jpg", "x.jpg", "a/b", "s3:/box", "simplecache::s3://box"])
def test_a_path_is_no_url(text: str) -> None:
    assert not is_url(text)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://key:{SECRET}@box/x.jpg",
        f"https://{SECRET}@host/x.jpg",
        f"abfs://user:{SECRET}@account.dfs.core.windows.net/x.jpg",
        f"s3://box/x.jpg?X-Amz-Signature={SECRET}",
        f"ftp://user:{SECRET}@host/x.jpg",
    ],
)
def test_secrets_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(url)
    assert SECRET not in "".join((caught.value.what, caught.value.where, caught.value.fix, repr(caught.value)))


def test_azure_writes_a_container_in_front_of_its_account() -> None:
    address = parse_url("abfs://box@account.dfs.core.windows.net/a/x.jpg")
    assert (address.store, address.key) == ("box@account.dfs.core.windows.net", "a/x.jpg")


def test_limits_hold_before_and_while_an_object_is_fetched(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/box/big.png", b"x" * 5000)
    memory.pipe_file("/box/empty.png", b"")
    (big,), (empty,) = (find_images([f"memory://box/{name}.png"], recursive=False) for name in ("big", "empty"))
    assert len(read_bytes(big, 5000)) == 5000
    with pytest.raises(ImageError, match="larger than"):
        read_bytes(big, 4999)
    with pytest.raises(ImageError, match="empty"):
        read_bytes(empty)
    memory.pipe_file("/box/big.png", b"x" * 9000)  # it has grown since it was listed
    with pytest.raises(ImageError, match="larger than"):
        read_bytes(big, 5000)


def test_a_changed_object_is_noticed_by_what_the_store_says_of_it(memory: MemoryFileSystem) -> None:
    def found() -> Source:
        return find_images(["memory://box/img2.jpg"], recursive=False)[0]

    before = found()
    stamp, digest = read_stamp(before), sha256(picture(0)).hexdigest()
    assert stamp is not None
    assert stamp[0][0] == len(picture(0))
    assert is_unchanged(found(), stamp[0], "no digest is looked at")
    memory.pipe_file("/box/img2.jpg", picture(0))
    assert is_unchanged(found(), stamp[0], digest), "the same bytes, written anew"
    memory.pipe_file("/box/img2.jpg", picture(7))
    assert not is_unchanged(found(), stamp[0], digest)


class Web(MemoryFileSystem):
    """A web server with one picture behind a signature; whatever it says quotes the whole URL."""

    protocol = "https"
    cachable = False
    wrong: ClassVar[Exception | None] = None
    asked: ClassVar[list[str]] = []

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path

    def info(self, path: str, **_how: Any) -> dict[str, Any]:
        self._refuse(path)
        return {"name": path, "size": None, "type": "file", "ETag": '"1"'}

    def open(self, path: str, mode: str = "rb", block_size: int | None = None, **_how: Any) -> Any:
        self._refuse(path)
        assert (mode, block_size) == ("rb", 0), "a server need not know of ranges"
        return BytesIO(picture())

    def _refuse(self, path: str) -> None:
        self.asked.append(path)
        if self.wrong:
            raise self.wrong
        if SECRET not in path:
            raise FileNotFoundError(path)


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Web]]:
    monkeypatch.setitem(sys.modules, "aiohttp", SimpleNamespace())
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "https", Web)
    monkeypatch.setattr(remote, "_stores", {})
    monkeypatch.setattr(Web, "asked", [])
    monkeypatch.setattr(Web, "wrong", None)
    return Web


SIGNED = f"https://host.example/tenants/{SECRET}/x.png?sig={SECRET}&n="


def test_of_a_signed_address_only_host_and_file_are_shown(web: type[Web], tmp_path: Path) -> None:
    (tmp_path / "list").write_text(f"{SIGNED}1\n{SIGNED}2\n{SIGNED}1\n")
    sources = find_images([SIGNED], recursive=False, files_from=tmp_path / "list")
    assert [source.name for source in sources] == ["x.png", "x~2.png", "x~3.png"]
    assert [read_bytes(source) for source in sources] == [picture()] * 3
    shown = [f"{source.folder} {source.below} {source.name}" for source in sources]
    assert SECRET not in "".join(shown)
    assert any(url.endswith("&n=2") for url in web.asked)


class RefusalError(Exception):
    """What aiohttp raises, and fsspec makes a missing file of."""

    status = 403


def forbidden() -> FileNotFoundError:
    error = FileNotFoundError(SIGNED)
    error.__cause__ = RefusalError(SIGNED)
    return error


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (FileNotFoundError(SIGNED), "no such object"),
        (forbidden(), "the server answers 403"),
        (PermissionError(f"403 for {SIGNED}"), "permission denied"),
        (TimeoutError(SIGNED), "no answer in time"),
        (OSError(104, SIGNED), "Connection reset"),
        (RuntimeError(SIGNED), "RuntimeError"),
    ],
)
def test_a_failure_is_told_without_quoting_the_library(web: type[Web], wrong: Exception, what: str) -> None:
    (source,) = find_images([SIGNED], recursive=False)
    web.wrong = wrong
    with pytest.raises(ImageError, match=what) as reading:
        read_image(source)
    with pytest.raises(UsageError, match=what) as finding:
        find_images([SIGNED], recursive=False)
    for error in (reading.value, finding.value):
        assert SECRET not in "".join((error.what, error.where, error.fix, repr(error)))
        assert SECRET not in repr(error.__cause__)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize("missing", ["fsspec", "s3fs"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(name: str) -> Any:
        if name == missing:
            raise ImportError(name)
        return fsspec

    monkeypatch.setattr(remote, "import_module", without)
    with pytest.raises(UsageError, match=re.escape("s3:// addresses are read with s3fs")) as caught:
        find_images(["s3://box/photos/"], recursive=False)
    assert "pip install" in caught.value.fix


@pytest.mark.parametrize("output", ["s3://box/out", "memory://box"])
def test_nothing_is_written_to_a_store(output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="not written"):
        Sink(Path(output)).open()
    assert not list(tmp_path.iterdir())
