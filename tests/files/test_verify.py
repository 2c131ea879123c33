"""Whether an output folder still holds what its manifest says."""

import json
import re
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image
from sealing import sealed

from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.records import Arrays, Cost, ImageRecord, ModelRecord, Output, Run, Summary, Tool
from cnnviz_cli.files.output.journal import Journal
from cnnviz_cli.files.output.manifest import write_manifest
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.files.output.verify import Problem, verify

PICTURE = "cats/x.jpg/saliency.png"


def png(width: int, height: int) -> bytes:
    buffer = BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A small run's output: one picture of 7 x 5 pixels and its raw arrays."""
    sink = Sink(tmp_path / "out")
    sink.open()
    arrays = Arrays(path="cats/x.jpg/arrays.npz", sha256=sink.write("cats/x.jpg/arrays.npz", b"numbers"))
    output = Output(
        family="saliency", method=None, layer=None, target=None, path=PICTURE, sha256=sink.write(PICTURE, png(7, 5)),
        width=7, height=5, range=None, state="ok",
    )  # fmt: skip
    record = ImageRecord(
        source="cats/x.jpg", sha256="0" * 64, width=9, height=9, status="ok", error=None, predictions=[],
        outputs=[output], arrays=arrays,
    )  # fmt: skip
    with Journal(sink, "manifest.jsonl") as journal:
        write_manifest(
            sink,
            [journal.append(record).record],
            tool=Tool(cnnviz="0", python="3", torch="2", torchvision="0", pillow="0"),
            run=Run(
                command="all", status="ok", config={}, config_sha256="", device="cpu", precision="fp32",
                plan=Cost(forwards=1, backwards=1, variants=0),
            ),
            model=ModelRecord(name="m", weights="w", weights_sha256="", num_classes=1, preprocessing={}),
            summary=Summary(images=1, ok=1, failed=0, outputs=1),
        )  # fmt: skip
    return sink.root


def rewrite(out: Path, **changes: object) -> None:
    """Change the picture's record in the manifest, and its digest with it."""
    path = out / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["images"][0]["outputs"][0].update(changes)
    path.write_text(json.dumps(sealed(manifest)))


def kinds(problems: list[Problem]) -> list[tuple[str, str]]:
    return [(problem.kind, problem.path) for problem in problems]


def test_an_untouched_folder_is_fine_wherever_it_is_moved(out: Path, tmp_path: Path) -> None:
    assert verify(out) == []
    assert verify(out.rename(tmp_path / "moved")) == []


@pytest.mark.parametrize("name", [PICTURE, "cats/x.jpg/arrays.npz"])
def test_one_flipped_bit_is_found(out: Path, name: str) -> None:
    data = bytearray((out / name).read_bytes())
    data[-1] ^= 1
    (out / name).write_bytes(data)
    assert kinds(verify(out)) == [("changed", name)]


def test_missing_files_and_folders_in_their_place_are_found(out: Path) -> None:
    (out / PICTURE).unlink()
    assert kinds(verify(out)) == [("missing", PICTURE)]
    (out / PICTURE).mkdir()
    assert kinds(verify(out)) == [("changed", PICTURE)]


def test_a_wrong_size_is_found(out: Path) -> None:
    rewrite(out, width=8)
    (problem,) = verify(out)
    assert problem.kind == "size"
    assert problem.detail == "7 x 5 pixels instead of 8 x 5 pixels"


def test_an_extra_picture_is_told_but_is_no_failure(out: Path) -> None:
    (out / "cats" / "stray.PNG").write_bytes(b"x")
    (out / "notes.txt").write_bytes(b"x")
    (problem,) = verify(out)
    assert (problem.kind, problem.path, problem.failure) == ("extra", "cats/stray.PNG", False)
    assert all(Problem(kind, "x", "").failure for kind in ("missing", "changed", "size", "unreadable", "escapes"))


def test_paths_that_lead_out_are_not_followed(out: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes((out / PICTURE).read_bytes())
    for path in ("../secret.png", str(secret), "link/secret.png"):
        if not (out / "link").exists():
            (out / "link").symlink_to(tmp_path, target_is_directory=True)
        rewrite(out, path=path)
        assert ("escapes", path) in kinds(verify(out))
    rewrite(out, path=PICTURE)
    (out / PICTURE).unlink()
    (out / PICTURE).symlink_to(secret)
    assert kinds(verify(out)) == [("changed", PICTURE)]


def test_without_a_valid_manifest_nothing_is_verified(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no manifest"):
        verify(tmp_path / "nowhere")
    rewrite(out, width="wide")
    with pytest.raises(UsageError, match=r"images\.0\.outputs\.0\.width") as caught:
        verify(out)
    assert caught.value.where.endswith("manifest.json")
    (out / "manifest.json").write_bytes(b"\xff{")
    with pytest.raises(UsageError, match="no valid manifest"):
        verify(out)


def edited(out: Path, change: Callable[[str], str]) -> None:
    path = out / "manifest.json"
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")


EDITS: dict[str, Callable[[str], str]] = {
    "the width of a photograph": lambda text: text.replace('"width":9', '"width":8'),
    "the name of an image": lambda text: text.replace('"source":"cats/x.jpg"', '"source":"cats/y.jpg"'),
    "the version": lambda text: text.replace('"cnnviz": "0"', '"cnnviz": "1"'),
    "the summary": lambda text: text.replace('"failed": 0', '"failed": 1'),
    "an image too few": lambda text: re.sub(r"\[\n  \{.*\n \]", "[]", text),
    "the digest": lambda text: re.sub(r'"sha256": "..', '"sha256": "zz', text),
    "a second value under a key": lambda text: text.replace(' "summary": {', ' "summary": {\n  "failed": 7,'),
    "a second value in a record": lambda text: text.replace('"status":"ok"', '"status":"failed","status":"ok"'),
    "a second list of images": lambda text: text.replace(' "images": [', ' "images": [], "images": ['),
    "another list of images behind the first": lambda text: text.replace(' "model": {', ' "images": [],\n "model": {'),
    "another form, and a number": lambda text: json.dumps(json.loads(text.replace('"width":9', '"width":8'))),
}


@pytest.mark.parametrize("change", EDITS.values(), ids=list(EDITS))
def test_an_edited_manifest_is_noticed(out: Path, change: Callable[[str], str]) -> None:
    edited(out, change)
    assert ("changed", "manifest.json") in kinds(verify(out))
    assert any(problem.failure for problem in verify(out))


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
@pytest.mark.parametrize("whole", [False, True])
def test_a_number_that_json_has_not_is_no_valid_manifest(out: Path, number: str, *, whole: bool) -> None:
    """In our own form and in one of another program: where a schema lets any value through, a digest cannot be had."""
    if whole:
        edited(out, lambda text: json.dumps(json.loads(text), indent=2))
    edited(out, lambda text: text.replace('"config": {}', f'"config": {{"x": {number}}}'))
    assert number in (out / "manifest.json").read_text()
    with pytest.raises(UsageError, match="this is no valid manifest: "):
        verify(out)


def test_the_digest_is_that_of_everything_else_however_it_is_set(out: Path) -> None:
    manifest = json.loads((out / "manifest.json").read_bytes())
    assert sealed(manifest) == manifest
    edited(out, lambda text: json.dumps(json.loads(text), indent=4))
    assert verify(out) == []


def test_an_old_manifest_says_that_it_has_none(out: Path) -> None:
    edited(out, lambda text: re.sub(r'\n "sha256": "\w+",', "", text))
    (problem,) = verify(out)
    assert (problem.kind, problem.path, problem.failure) == ("undigested", "manifest.json", False)
    (out / PICTURE).write_bytes(b"x")
    assert ("changed", PICTURE) in kinds(verify(out))


def test_an_edited_run_report_is_allowed(out: Path) -> None:
    (out / "run.json").write_text('{"note": "mine"}')
    assert verify(out) == []
