"""One function opens what is named from outside: no other call does, and what is no regular file is not waited for."""

from __future__ import annotations

import ast
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import cnnviz_cli
from cnnviz_cli.cli.preflight import _check_file
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.file_reading import NotRegularFileError, OversizeError, open_regular, read_regular, same_file_path

PACKAGE = Path(cnnviz_cli.__file__).parent
ROOT = PACKAGE.parent

OPENS = {
    "open", "fdopen", "read_text", "read_bytes", "load", "load_file", "safe_open", "ZipFile", "TarFile", "GzipFile",
    "BZ2File", "LZMAFile", "fromfile", "loadtxt", "genfromtxt", "memmap", "mmap", "copyfile", "FileIO",
}  # fmt: skip
"""Names of what opens a file in Python and in the libraries we use, and of what may be handed a path to open."""

# Each call by such a name that stays: what it opens is ours, the system's, or open already.
OTHERS = {
    "core/file_reading.py": {"os.open(path, flags)", "os.fdopen(fd, 'rb')"},
    # a place of ours: beside the code, or written by this process under a name that nothing had
    "models/spec/catalog.py": {
        "(Path(__file__).parent / file).read_text(encoding='utf-8')",
    },
    "core/palettes.py": {"Path(__file__).with_name('palettes.txt').read_text(encoding='utf-8')"},
    "report/page.py": {
        "order.read_text(encoding='utf-8')",
        "room.joinpath('app', name).read_text(encoding='utf-8')",
        "vendor.read_text(encoding='utf-8')",
    },
    "cli/report.py": {"webbrowser.open(made.path.resolve().as_uri())"},  # the browser, for a page that was written
    "api/export.py": {"written.read_text(encoding='utf-8')"},  # a page that was just written
    # The copy that was just written from what `open_regular` gave, and a look at what it says of a person.
    "exports/common/copies.py": {
        "target.open('xb')",
        "path.open('rb')",
        "mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)",
        "Image.open(path, formats=[name for name in _TAGGED if name in Image.OPEN])",
    },
    "models/load/hub.py": {"json.load(file)"},  # opened by `open_regular`
    "report/storage.py": {"temporary.open('xb')"},
    "files/output/sink.py": {
        "temporary.open('xb')",
        "pickle.load(self._file)",
        "os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)",
    },
    "models/load/download.py": {"partial.open('xb')", "opener.open(asked, timeout=_TIMEOUT)"},
    # a network, through the functions of `models` above
    "run/dream_painter.py": {
        "Session.load(command, settings, reporter, local_rank)",
        "Folder.open(self._fields.against, settings)",  # images, through the functions of `files`
    },
    "run/dream_run.py": {"Folder.open(fields.against, settings)"},
    "studies/tcav/study.py": {"Folder.open(path, self.settings)"},
    "api/dream.py": {"Folder.open(chosen.against, session.settings)"},
    "run/dream_scores.py": {"Image.open(locate(root, output.path))"},  # hashed before
    "run/study.py": {
        "Session.load(command, settings, reporter)",
        "Session.load(command, settings, reporter, local_rank)",
    },
    "run/explain.py": {"Session.load(command, settings, reporter, local_rank, threads)"},
    # rows of numbers, of a file that `open_regular` has opened
    "files/output/feature_store.py": {"mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)"},
    # the system's own
    "core/control_groups.py": {"open(path, encoding='ascii')"},
    "files/output/run_report.py": {"status.read_text(encoding='ascii', errors='replace')"},
    "cli/process.py": {
        "os.open(os.devnull, os.O_RDWR)",
        "os.open(os.devnull, os.O_WRONLY)",
        "Path(os.devnull).open('w', encoding='utf-8')",
    },
    "run/replica_process.py": {"os.open(os.devnull, os.O_RDWR)", "mmap.mmap(-1, mmap.PAGESIZE)"},
    "run/workers.py": {
        "os.fdopen(os.dup(0), 'rb')",
        "os.fdopen(os.dup(1), 'wb')",
        "os.open(os.devnull, os.O_RDWR)",
        "pickle.load(jobs)",
        "pickle.load(cast('IO[bytes]', process.stdout))",
    },
    # the journal, which is created and locked as it is opened, and looked at through its descriptor
    "files/output/file_lock.py": {"os.open(path, flags, 438)"},
    # what was opened by `open_regular`, or is in memory
    "files/inputs/tar_archive.py": {
        "gzip.GzipFile(fileobj=file, mode='rb')",
    },
    "models/spec/network.py": {"zipfile.ZipFile(file)"},
    "models/load/load_errors.py": {"zipfile.ZipFile(opened)", "zipfile.ZipFile(file)", "archive.open(name)"},
    "models/load/checkpoint.py": {
        "torch.load(file, map_location='cpu', weights_only=True)",
        "load_file(same_file_path(file, path))",
    },
    "models/load/programs.py": {"torch.jit.load(file, map_location='cpu')", "torch.export.load(file)"},
    # no file: a client of a store, the output folder, settings
    "files/inputs/remote.py": {"store.open(path, 'rb', block_size=0)"},
}


def calls_that_open() -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in OPENS:
                continue
            imported = name in ("load", "read_bytes", "read_text") and isinstance(
                node.func, ast.Name
            )  # functions of ours
            first = ast.unparse(node.args[0]) if node.args else ""
            # `load()` of an image that is open, and what is in memory.
            harmless = imported or (name == "load" and not first) or first.startswith("BytesIO(")
            harmless = harmless or (
                ast.unparse(node).casefold().startswith("sink") and name == "open"
            )  # the output folder
            if not harmless:
                found.setdefault(path.relative_to(PACKAGE).as_posix(), set()).add(ast.unparse(node))
    return found


def test_no_other_call_opens_a_file() -> None:
    assert calls_that_open() == OTHERS


def special_files(folder: Path) -> dict[str, Path]:
    """One of each kind that is no regular file, and a link to each."""
    folder.mkdir(parents=True, exist_ok=True)
    made = {"pipe": folder / "pipe", "socket": folder / "socket", "device": Path("/dev/zero"), "folder": folder / "dir"}
    os.mkfifo(made["pipe"])
    made["folder"].mkdir()
    here = Path.cwd()
    os.chdir(folder)  # the path of a socket has 108 bytes at most
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind("socket")
    finally:
        os.chdir(here)
    for kind, path in list(made.items()):
        made[f"link to {kind}"] = folder / f"{kind}.link"
        made[f"link to {kind}"].symlink_to(path)
    return made


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    for kind, path in special_files(tmp_path).items():
        with pytest.raises(OSError, match=r"it is a .*, not a file") as caught:
            open_regular(path)
        assert kind.split()[-1] in str(caught.value.strerror)
        assert isinstance(caught.value, IsADirectoryError if "folder" in kind else NotRegularFileError)
    (tmp_path / "x").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("x")
    assert read_regular(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OversizeError, match="larger than 4 bytes"):
        read_regular(tmp_path / "x", 4)
    with pytest.raises(OSError, match="it is a link"):
        open_regular(tmp_path / "link", follow=False)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone")
    with open_regular(tmp_path / "x") as file:
        assert Path(same_file_path(file, tmp_path / "x")).read_bytes() == b"12345"
        assert not os.get_inheritable(file.fileno())


def test_a_file_swapped_for_a_pipe_after_the_look_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptor decides: between the look at the path and the opening anything may happen."""
    path, genuine = tmp_path / "x", os.open
    path.write_bytes(b"x")

    def swapped(name: Path, *arguments: int, **named: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return genuine(name, *arguments, **named)

    monkeypatch.setattr(os, "open", swapped)
    with pytest.raises(NotRegularFileError, match="it is a pipe, not a file"):
        open_regular(path)


def test_a_file_that_grows_while_it_is_read_stays_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, genuine = tmp_path / "x", os.fdopen
    path.write_bytes(b"x" * 10)

    def grown(fd: int, mode: str) -> object:
        with path.open("ab") as more:
            more.write(b"y" * 100)
        return genuine(fd, mode)

    monkeypatch.setattr(os, "fdopen", grown)
    with pytest.raises(OversizeError):
        read_regular(path, 50)


EVERY_READER = """
import os, sys
from pathlib import Path
from cnnviz_cli.core.errors import CnnvizError, ImageError
from cnnviz_cli.config.yamlfile import read_file as read
from cnnviz_cli.files.output.input_list import read_input_list
from cnnviz_cli.files.output.resume import is_unchanged
from cnnviz_cli.files.tables.labels import read_labels
from cnnviz_cli.files.images.region_masks import open_masks
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.images.decode import read_reference_image
from cnnviz_cli.files.inputs.image_source import Source
from cnnviz_cli.files.inputs.search import find_images as find
from cnnviz_cli.files.tables.text_table import read_text
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.models.load.checkpoint import read_state_dict as read_state, sha256_of_file
from cnnviz_cli.models.spec.network import file_kind as kind_of

def placed(name):
    place = folder / name.replace("*", "x")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(special)
    return place

def all_fail(place):
    sources = find([place], recursive=False)
    for source in sources:
        try:
            source.reader.read(source.path, 100) if source.reader else read_reference_image(source.path)
        except CnnvizError as error:
            print("   ", error.what)
        else:
            raise SystemExit("it was read")
    assert sources
    raise UsageErrorLike

class UsageErrorLike(Exception): ...

readers = {
    "config": lambda: read(placed("cnnviz.yaml")),
    "files-from": lambda: find([], recursive=False, files_from=placed("list.txt")),
    "labels": lambda: read_labels(placed("labels.txt")),
    "truth": lambda: read_text(placed("truth.csv"), "--truth"),
    "region": lambda: open_masks(placed("mask.png")),
    "similarity": lambda: read_reference_image(placed("other.png")),
    "image": lambda: all_fail(placed("image.png")),
    "zip": lambda: all_fail(placed("a.zip")),
    "tar": lambda: all_fail(placed("a.tar")),
    "tgz": lambda: all_fail(placed("a.tgz")),
    "txz": lambda: all_fail(placed("a.tar.xz")),
    "verify": lambda: verify(placed("v/manifest.json").parent),
    "merge": lambda: merge_shards(placed("m/manifest.0-of-2.jsonl").parent),
    "weights": lambda: read_state(placed("w.pth")),
    "safetensors": lambda: read_state(placed("w.safetensors")),
    "digest": lambda: sha256_of_file(placed("d.pth")),
}
for special in map(Path, sys.argv[2:]):
    folder = Path(sys.argv[1]) / special.name
    for name, reader in readers.items():
        print(name, flush=True)
        try:
            reader()
        except (CnnvizError, UsageErrorLike) as error:
            print("   ", getattr(error, "what", ""), flush=True)
        else:
            raise SystemExit(f"{name}: it was read")
    print("an input that became one before resuming", flush=True)
    assert not is_unchanged(Source(str(special.parent), special.name, "x.png"), None, "0" * 64)
    print("the list of inputs", flush=True)
    try:
        list(read_input_list(placed("l/manifest.inputs-" + "0" * 16 + ".jsonl").parent, "0" * 64))
    except CnnvizError as error:
        print("   ", error.what)
    print("kind", kind_of(placed("k.pth")), flush=True)
    # Folders that hold such a thing: the manifest makes nobody wait, and the pictures beside it are found.
    for name in ("manifest.json", "manifest.jsonl", "manifest.0-of-2.jsonl"):
        place = placed(f"in-{name}/{name}").parent
        (place / "x.png").write_bytes(b"x")
        assert len(find([place], recursive=True)) == 1, name
    print("all done")
"""


def test_no_reader_waits_for_what_is_no_file(tmp_path: Path) -> None:
    special = special_files(tmp_path / "special")
    kinds = [str(special[kind]) for kind in ("pipe", "socket", "device")]
    done = watched(EVERY_READER, str(tmp_path / "places"), *kinds)  # in one process, which imports torch once
    assert done.returncode == 0, done.stdout + done.stderr
    *said, rest = done.stdout.split("all done\n")
    assert (len(said), rest) == (3, "")
    for one in said:
        assert one.count("not a file") >= 12, done.stdout


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_a_table_of_what_is_true_is_refused_before_the_network_is_loaded(tmp_path: Path, kind: str) -> None:
    special = special_files(tmp_path / "special")[kind]
    with pytest.raises(UsageError, match="cannot be read: it is a "):
        _check_file(special)


def watched(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process with this code, ended by a watchdog if it hangs."""
    try:
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"it hangs after: {error.stdout!r}") from None
