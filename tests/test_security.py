"""The rules of docs/security.md: each names a test that exists, and those without a test elsewhere have one here."""

from __future__ import annotations

import ast
import getpass
import importlib
import json
import os
import platform
import re
import socket
import stat
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hostile
import pytest
from PIL import Image, PngImagePlugin
from run.resuming import files_of, listed, photographs, run, tiny_model

from cnnviz_cli.core.errors import ImageError, OutputError
from cnnviz_cli.files.images.decode import _readable, read_image
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.verify import verify

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "security.md"
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@pytest.fixture(autouse=True)
def tiny_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run loads the tiny network."""
    monkeypatch.setattr(importlib.import_module("cnnviz_cli.run.session"), "load_model", tiny_model)


def rules() -> list[str]:
    """The rules of the page: the items of its lists, up to the section of what is not promised."""
    promised = PAGE.read_text(encoding="utf-8").split("## What is not promised")[0]
    return re.findall(r"^- (.*?)(?=^- |^#|\Z)", promised, re.MULTILINE | re.DOTALL)


def test_every_rule_names_a_test_that_exists() -> None:
    found = rules()
    assert len(found) > 20
    for rule in found:
        named = _NAMED.findall(rule)
        assert named, f"no test holds this rule: {rule}"
        for path, name in named:
            tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{path}::{name}"


def state_of(folder: Path) -> dict[str, Any]:
    """Everything there is to see of what lies below a folder, links not followed."""
    found = {}
    for path in sorted(folder.rglob("*")):
        facts = path.lstat()
        data = path.read_bytes() if stat.S_ISREG(facts.st_mode) else None
        found[str(path)] = (facts.st_mode, facts.st_mtime_ns, facts.st_size, facts.st_ino, data)
    return found


def run_in(out: Path, sources: Sequence[Source], **settings: Any) -> dict[str, Any]:
    """The manifest of a run."""
    run(out, sources, **settings)
    manifest: dict[str, Any] = json.loads((out / "manifest.json").read_bytes())
    return manifest


# A place in the output folder, and whether a run goes on over a link that was planted there.
PLACES = {
    "manifest.json": True,
    "run.json": True,
    "0.png/gradcam.png": True,
    ".cnnviz-0123456789ab.tmp": True,
    "manifest.jsonl": False,
    "0.png": False,
}


@pytest.mark.parametrize("target", ["file", "folder", "nothing"])
@pytest.mark.parametrize(("place", "goes_on"), PLACES.items())
def test_links_planted_in_the_output_folder_are_not_followed(
    tmp_path: Path, place: str, goes_on: bool, target: str
) -> None:
    sources = photographs(tmp_path / "in", 2)
    outside, out = tmp_path / "outside", tmp_path / "out"
    (outside / "folder").mkdir(parents=True)
    (outside / "file").write_text("precious")
    (outside / "folder" / "gradcam.png").write_text("precious")
    (out / place).parent.mkdir(parents=True)
    (out / place).symlink_to(outside / target)
    before = state_of(outside)
    if goes_on:
        assert run(out, sources).summary.ok == 2
        assert not (out / place).is_symlink()
        assert not any(problem.failure for problem in verify(out))
    else:
        with pytest.raises(OutputError) as caught:
            run(out, sources)
        assert str(out) in caught.value.where
        assert "ink" in caught.value.what + caught.value.fix
    assert state_of(outside) == before


@pytest.mark.parametrize("place", ["manifest.json", "run.json", "0.png/gradcam.png", "manifest.jsonl"])
def test_a_pipe_planted_in_the_output_folder_is_not_waited_for(tmp_path: Path, place: str) -> None:
    sources, out = photographs(tmp_path / "in", 1), tmp_path / "out"
    (out / place).parent.mkdir(parents=True)
    os.mkfifo(out / place)
    if place == "manifest.jsonl":
        with pytest.raises(OutputError):
            run(out, sources)
    else:
        assert run(out, sources).summary.ok == 1


def test_inputs_are_never_modified(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    photographs(folder, 3)
    for name in ("words.jpg", "float.tiff", "moving.webp", "cut.png"):
        (folder / name).write_bytes(hostile.FILES[name][0]())
    with zipfile.ZipFile(folder / "packed.zip", "w") as packed:
        packed.write(folder / "0.png", "inner.png")
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    before = state_of(folder)
    sources = find_images([folder, folder / "packed.zip"], recursive=False)
    manifest = run_in(tmp_path / "out", sources, save_arrays="true")
    run(tmp_path / "out", sources, force=True)
    assert state_of(folder) == before
    assert manifest["summary"]["ok"] == 5
    assert not any(problem.failure for problem in verify(tmp_path / "out"))


def test_the_manifest_and_the_pictures_tell_nothing_of_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, user, secret = "machine-4d1f", "user-77ab", "secret-9c20"
    monkeypatch.setattr(platform, "node", lambda: machine)
    monkeypatch.setattr(socket, "gethostname", lambda: machine)
    monkeypatch.setattr(getpass, "getuser", lambda: user)
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, user)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    out = tmp_path / "out"
    run(out, photographs(tmp_path / "in", 4), save_arrays="true")
    files = {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert machine in files.pop("run.json").decode(), "which is where it belongs"
    assert {"manifest.json", "manifest.jsonl", "gradcam.png", "arrays.npz"} <= set(files)
    for name, data in files.items():
        for word in (machine, user, secret, str(tmp_path), str(Path.home())):
            assert word.encode() not in data, f"{word} in {name}"


OUR_FACTS = {"Software", "Method", "Layer", "Target", "Model", "Settings"}
"""What a figure says of itself, which is nothing of the photograph's."""


def test_metadata_of_a_photograph_are_never_copied(tmp_path: Path) -> None:
    folder, mark = tmp_path / "in", "Greenwich 51.4779 N"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x010E] = exif[0x013B] = mark  # its description and its artist
    photo = hostile.photograph(32, 32)
    photo.save(folder / "x.jpg", exif=exif, icc_profile=mark.encode() * 9, comment=mark.encode())
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Comment", mark)
    photo.save(folder / "x.png", exif=exif, icc_profile=mark.encode() * 9, pnginfo=texts, dpi=(300, 300))
    photo.save(folder / "x.webp", exif=exif, icc_profile=mark.encode() * 9, xmp=mark.encode())
    assert all(mark.encode() in path.read_bytes() or path.suffix == ".png" for path in folder.iterdir())
    out = tmp_path / "out"
    manifest = run_in(out, listed(folder), save_arrays="true")
    assert manifest["summary"] | {"outputs": 0} == {"images": 3, "ok": 3, "failed": 0, "outputs": 0}
    for path in (path for path in out.rglob("*") if path.is_file()):
        assert mark.encode() not in path.read_bytes()
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.load()
                assert set(picture.info) <= {"transparency", *OUR_FACTS}


def test_no_file_has_another_program_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **_named: Any) -> None:
        raise AssertionError(f"started: {arguments}")

    for module, name in ((subprocess, "Popen"), (os, "system"), (os, "posix_spawn"), (os, "execv"), (os, "execvp")):
        monkeypatch.setattr(module, name, refuse)
    hostile.write(tmp_path / "in")
    said = []
    for path in (tmp_path / "in").iterdir():
        try:
            read_image(path)
        except ImageError as error:
            said.append(error.what)
    assert len(said) == sum(bool(words) for _, words in hostile.FILES.values())
    assert not any("started" in what for what in said)
    assert {"JPEG", "PNG"} <= set(_readable()) <= {"JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "PPM"}


NAMES = [
    "../../up.png",
    "/etc/root.png",
    "a/../../b.png",
    "C:\\c.png",
    "con.png",
    "trailing. /x.png",
    "new\nline.png",
    "escape\x1b[2J.png",
    "backwards\u202egnp.png",
    "long" * 100 + ".png",
    "same/x.png",
    "same/X.png",
    "same/x.png",
    "same/x.png/gradcam.png",
    "manifest.json/x.png",
    "run.json.png",
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_whatever_inputs_are_called_everything_lies_below_the_output_folder(tmp_path: Path) -> None:
    picture = hostile.encoded(hostile.photograph(16, 14), "PNG")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for name in [*NAMES, "nul_.png"]:
            packed.writestr(zipfile.ZipInfo(name), picture)
    data = (tmp_path / "x.zip").read_bytes()
    (tmp_path / "x.zip").write_bytes(data.replace(b"nul_", b"nul\0"))
    before = state_of(tmp_path)
    out = tmp_path / "deep" / "out"
    sources = find_images([tmp_path / "x.zip"], recursive=False)
    manifest = run_in(out, sources)
    assert [image["status"] for image in manifest["images"]] == ["ok"] * (len(NAMES) + 1)
    after = state_of(tmp_path)
    assert {path: facts for path, facts in after.items() if not path.startswith(str(tmp_path / "deep"))} == before
    pictures = [output["path"] for image in manifest["images"] for output in image["outputs"]]
    assert len({path.casefold() for path in pictures}) == len(pictures) == len(NAMES) + 1
    assert verify(out) == []
    for path in pictures:
        assert not any(part in ("", ".", "..") or part.endswith((".", " ")) for part in path.split("/"))
        assert not re.search(r'[<>:"|?*\\\x00-\x1f\x7f\u202e]', path)
        assert all(len(part.encode()) <= 255 for part in path.split("/"))


def test_hostile_files_cost_nothing_but_themselves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    hostile.write(folder)
    sources = find_images(sorted(folder.iterdir()), recursive=False)
    read_image(folder / "fax.tiff")
    assert "Fax4Decode" in capfd.readouterr().err, "a library speaks where nobody keeps it from that"
    manifest = run_in(out, sources, workers="1")
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
    found = {image["source"]: (image["status"], image["error"] or "") for image in manifest["images"]}
    assert found.keys() == hostile.FILES.keys()
    for name, (_, words) in hostile.FILES.items():
        status, error = found[name]
        assert status == ("failed" if words else "ok"), (name, error)
        assert words in error
    assert verify(out) == []
    again = tmp_path / "again"
    run(again, sources)
    assert files_of(again) == files_of(out)
