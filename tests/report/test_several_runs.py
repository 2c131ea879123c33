"""Runs side by side, photographs by their bytes, and folders that are not as they should be."""

from __future__ import annotations

import base64
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports.saved import CAT, DOG, NET, RUN, TOOL, failed, image, keep, output, save
from PIL import Image
from report.reading import Read, levels

from cnnviz_cli.core.errors import CnnvizError, ExitCode, OutputError, UsageError
from cnnviz_cli.core.records import ImageRecord, Picture, Window
from cnnviz_cli.report import ReportOptions, write_report
from cnnviz_cli.report.survey import RIGHT, WRONG


def photo(folder: Path, name: str, colour: str = "teal", form: str = "PNG") -> str:
    """A photograph of 300 by 200 pixels; returns its SHA-256."""
    from hashlib import sha256

    place = folder / name
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (300, 200), colour).save(place, form)
    return sha256(place.read_bytes()).hexdigest()


def numbered(name: str, number: int, *outputs: Any, **facts: Any) -> ImageRecord:
    """An image whose bytes are those of a number."""
    return image(name, *outputs, sha256=f"{number:064x}", **facts)


# ---- several runs


@pytest.mark.parametrize("seed", range(6))
def test_images_of_equal_bytes_are_joined_by_name_and_else_in_their_order(tmp_path: Path, seed: int) -> None:
    """Against a search through all entries for each image."""
    rng = np.random.default_rng(seed)
    folders, told = [], []
    for run in range(3):
        names = [f"{name}.png" for name in rng.permutation(12)[: rng.integers(4, 11)]]
        digests = [int(rng.integers(0, 3)) for _ in names]
        told.append(list(zip(names, digests, strict=True)))
        folders.append(save(tmp_path / str(run), *(numbered(name, digest) for name, digest in told[-1])))
    entries: list[list[tuple[str, int] | None]] = []
    for run, images in enumerate(told):
        for entry in entries:
            entry.append(None)
        earlier = len(entries)
        names = [next(one[0] for one in entry if one) for entry in entries]
        for name, digest in images:
            same = [
                at for at in range(earlier)
                if entries[at][run] is None and any(one and one[1] == digest for one in entries[at])
            ]  # fmt: skip
            best = [at for at in same if names[at] == name] or same
            if best:
                entries[best[0]][run] = (name, digest)
            else:
                entries.append([None] * run + [(name, digest)])
    read = Read(write_report(folders).path)
    found = [[one and one["source"] for one in record] for record in read.records]
    assert found == [[one and one[0] for one in entry] for entry in entries]


def test_a_run_says_how_many_images_it_has(tmp_path: Path) -> None:
    first = save(tmp_path / "first", numbered("a.png", 1))
    other = save(tmp_path / "other", numbered("a.png", 1), numbered("b.png", 2))
    assert [run["images"] for run in Read(write_report([first, other]).path).index["runs"]] == [1, 2]


def test_runs_are_joined_by_bytes_and_not_by_name(tmp_path: Path) -> None:
    first = save(tmp_path / "first", numbered("a.png", 1), numbered("b.png", 2), numbered("c.png", 3))
    other = save(tmp_path / "other", numbered("renamed.png", 3), numbered("a.png", 2), numbered("new.png", 4))
    made = write_report([first, other])
    read = Read(made.path)
    assert read.index["sources"] == ["a.png", "b.png", "c.png", "new.png"]
    sides = [[said and said["source"] for said in record] for record in read.records]
    assert sides == [["a.png", None], ["b.png", "a.png"], ["c.png", "renamed.png"], [None, "new.png"]]
    assert [run["name"] for run in read.index["runs"]] == ["first", "other"]
    assert "1 image of first is not in other." in made.missing
    assert "1 image of other is not in first." in made.missing
    assert read.column("width").tolist() == [8] * 4


def test_equal_photographs_of_one_run_stay_apart(tmp_path: Path) -> None:
    first = save(tmp_path / "first", numbered("a.png", 1), numbered("b.png", 1))
    other = save(tmp_path / "other", numbered("b.png", 1), numbered("a.png", 1))
    read = Read(write_report([first, other]).path)
    assert [[said and said["source"] for said in record] for record in read.records] == [["a.png"] * 2, ["b.png"] * 2]


def test_a_name_that_two_photographs_have_is_told_apart(tmp_path: Path) -> None:
    first = save(tmp_path / "first", numbered("a.png", 1))
    others = [save(tmp_path / f"other{n}", numbered("a.png", n)) for n in (2, 3)]
    read = Read(write_report([first, *others]).path)
    assert read.index["sources"] == ["a.png", "a.png (other2)", "a.png (other3)"]


def test_a_photograph_that_one_run_could_not_read_is_joined_by_its_name(tmp_path: Path) -> None:
    runs = [save(tmp_path / name, failed("a.png")) for name in ("first", "other")]
    assert Read(write_report(runs).path).index["n"] == 1


def test_runs_of_other_images_are_shown_all_the_same(tmp_path: Path) -> None:
    runs = [save(tmp_path / name, numbered(f"{name}.png", number)) for number, name in enumerate(("first", "other"))]
    made = write_report(runs)
    assert made.images == 2
    assert "first and other have no image in common: there is nothing to compare." in made.missing


def test_runs_in_folders_of_one_name_are_numbered(tmp_path: Path) -> None:
    runs = [save(tmp_path / str(n) / "out", numbered("a.png", 1)) for n in range(2)]
    assert [run["name"] for run in Read(write_report(runs).path).index["runs"]] == ["out (1)", "out (2)"]


def test_random_weights_are_known(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png"))
    text = (root / "manifest.json").read_text(encoding="utf-8")
    (root / "manifest.json").write_text(text.replace("of 2024", "random:3"), encoding="utf-8")
    assert Read(write_report([root]).path).index["runs"][0]["random"] is True


def told(folder: Path, name: str, *truths: Any) -> Path:
    """A run over images that are called a cat with 0.75, each with this truth."""
    records = [numbered(f"{at}.png", at, truth=truth) for at, truth in enumerate(truths)]
    return save(folder / name, *records)


def test_each_run_is_judged_by_the_truth_that_it_was_told(tmp_path: Path) -> None:
    first, other, silent = (
        told(tmp_path, "first", CAT, DOG, None),
        told(tmp_path, "other", DOG, DOG, DOG),
        told(tmp_path, "silent", None, None, None),
    )
    made = write_report([first, other, silent])
    read = Read(made.path)

    def words(name: str) -> list[str | None]:
        return [read.label(int(place)) for place in read.column(name)]

    cat, dog = CAT.label, DOG.label
    assert words("truth") == [cat, dog, dog]
    assert words("truth.1") == [dog, dog, dog]
    assert {"truth.0", "truth.2"}.isdisjoint(read.index["columns"])  # which say what "truth" does
    outcomes = [[int(one) for one in read.column(f"outcome.{run}")] for run in range(3)]
    assert outcomes == [[RIGHT, WRONG, WRONG], [WRONG, WRONG, WRONG], [RIGHT, WRONG, WRONG]]
    assert read.column("truth_probability.1").tolist() == [DOG.probability] * 3
    said = "1 image has another truth in other than in a run before it: each is judged by its own."
    assert [one for one in made.missing if "truth" in one] == [said]
    only = write_report([first, other], ReportOptions(only=dog))
    assert only.images == 3


WIDE, SQUARE = (0.0, 4.0, 80.0, 54.0), (13.0, 0.0, 63.0, 60.0)


def slow_disagreement(maps: list[Any], boxes: list[Any]) -> float:
    """Sampled one point after the other, in double precision, where both maps lie."""
    stats = pytest.importorskip("scipy.stats")
    left, top = (max(box[side] for box in boxes) for side in (0, 1))
    right, bottom = (min(box[side] for box in boxes) for side in (2, 3))
    found: list[list[float]] = [[], []]
    for row in range(14):
        for column in range(14):
            x, y = left + (right - left) * (column + 0.5) / 14, top + (bottom - top) * (row + 0.5) / 14
            for values, box, into in zip(maps, boxes, found, strict=True):
                height, width = values.shape
                across = min(max((x - box[0]) / (box[2] - box[0]) * width - 0.5, 0), width - 1)
                down = min(max((y - box[1]) / (box[3] - box[1]) * height - 0.5, 0), height - 1)
                i, j = min(int(down), height - 2), min(int(across), width - 2)
                at, of = down - i, across - j
                above = values[i, j] * (1 - of) + values[i, j + 1] * of
                below = values[i + 1, j] * (1 - of) + values[i + 1, j + 1] * of
                into.append(above * (1 - at) + below * at)
    return 1 - float(stats.spearmanr(*found).statistic)


def ranked_run(root: Path, values: Any, box: Any) -> Path:
    """A run over an image of 80 by 60 pixels, of which the network saw a box."""
    window = None if box is None else Window(size=(8, 8), box=box)
    one = output("a.png/g.png", range=(0, 1), scale=(0, 1))
    return save(root, keep(root, numbered("a.png", 1, one, width=80, height=60, seen=window), {"g.map": values[None]}))


@pytest.mark.parametrize("other", [WIDE, (20.0, 10.0, 40.0, 30.0), (62.0, 53.0, 80.0, 60.0), SQUARE])
def test_maps_are_compared_where_both_lie_on_the_image(tmp_path: Path, other: Any) -> None:
    rng = np.random.default_rng(5)
    maps, boxes = [rng.random((7, 6)), rng.random((5, 7))], [SQUARE, other]
    runs = [ranked_run(tmp_path / f"run{at}", *one) for at, one in enumerate(zip(maps, boxes, strict=True))]
    made = write_report(runs)
    assert Read(made.path).column("disagreement.0") == pytest.approx([slow_disagreement(maps, boxes)], abs=2e-3)
    assert not any("not compared" in sentence for sentence in made.missing)


def test_the_same_map_of_two_runs_is_compared_first(tmp_path: Path) -> None:
    rng, runs = np.random.default_rng(5), []
    for at in range(2):
        names = ("gradcam", "layercam")
        outputs = [output(f"a.png/{name}.png", method=name) for name in names]
        arrays = {f"{name}.map": rng.random((1, 5, 5)) for name in names}
        root = tmp_path / f"run{at}"
        runs.append(save(root, keep(root, numbered("a.png", 1, *outputs), arrays)))
    index = Read(write_report(runs).path).index
    assert [one["views"] for one in index["disagreements"]] == [[0, 2], [1, 3], [0, 1], [0, 3], [1, 2], [2, 3]]
    assert [one["cross"] for one in index["disagreements"]] == [False, False, False, True, True, False]
    titles = [one["title"] for one in index["disagreements"]]
    assert titles[1:4] == [
        "layercam, conv · run0 / run1",
        "gradcam, conv / layercam, conv · run0",
        "gradcam, conv · run0 / layercam, conv · run1",
    ]


@pytest.mark.parametrize("other", [(63.0, 0.0, 80.0, 60.0), (0.0, 0.0, 10.0, 10.0), None])
def test_maps_of_parts_with_nothing_in_common_are_not_compared(tmp_path: Path, other: Any) -> None:
    values = np.random.default_rng(5).random((7, 6))
    made = write_report([ranked_run(tmp_path / f"run{at}", values, box) for at, box in enumerate((SQUARE, other))])
    assert np.isnan(Read(made.path).column("disagreement.0")).all()
    said = "Maps of 1 image lie apart on it, or it is not said where: they are not compared."
    assert said in made.missing


# ---- photographs


def test_photographs_are_found_by_name_and_held_to_their_bytes(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    digests = {name: photo(photos, name, colour) for name, colour in [("in/a.png", "red"), ("moved/b.png", "blue")]}
    photo(photos, "first/b.png", "green")  # of the same name, and another
    changed = photo(photos, "c.png", "white")
    photo(photos, "c.png", "black")
    big = {"width": 300, "height": 200}
    root = save(
        tmp_path / "run",
        image("in/a.png", sha256=digests["in/a.png"], **big),
        image("b.png", sha256=digests["moved/b.png"], **big),
        image("c.png", sha256=changed, **big),
        image("gone.png", sha256="5" * 64, **big),
    )
    made = write_report([root], ReportOptions(photos=(photos,), thumbnails=96))
    read = Read(made.path)
    found = [one["photo"] and read.file(one["photo"]) for one in read.entries]
    assert found == [photos / "in/a.png", photos / "moved/b.png", None, None]
    sizes = [Image.open(BytesIO(base64.b64decode(one["thumb"]))).size for one in read.entries[:2]]
    assert sizes == [(96, 64)] * 2
    assert [one["thumb"] for one in read.entries[2:]] == ["", ""]
    assert made.missing == (
        "1 image was not found below --photos.",
        "1 image below --photos is not as explained: the bytes differ.",
        "2 images have no thumbnail.",
    )
    assert made.lost


def test_photographs_in_an_archive_become_previews(tmp_path: Path) -> None:
    digest = photo(tmp_path / "photos", "in/a.png")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.write(tmp_path / "photos/in/a.png", "in/a.png")
    root = save(tmp_path / "run", image("in/a.png", sha256=digest, width=300, height=200))
    options = {"photos": (tmp_path / "photos.zip",)}
    read = Read(write_report([root], ReportOptions(**options)).path)
    assert read.entries[0]["photo"] is None
    assert read.entries[0]["thumb"]
    read = Read(write_report([root], ReportOptions(**options, previews=240)).path)
    with Image.open(read.file(read.entries[0]["photo"])) as preview:
        assert (preview.format, preview.size) == ("WEBP", (240, 160))


def test_what_a_browser_does_not_show_becomes_a_preview(tmp_path: Path) -> None:
    digest = photo(tmp_path / "photos", "a.tif", form="TIFF")
    root = save(tmp_path / "run", image("a.tif", sha256=digest, width=300, height=200))
    read = Read(write_report([root], ReportOptions(photos=(tmp_path / "photos",), previews=300)).path)
    assert read.entries[0]["photo"] == "report-data/previews/000000.webp"


def test_without_photographs_the_figures_stand_for_them(tmp_path: Path) -> None:
    root = tmp_path / "run"
    digest = photo(root, "a.png/g.png", "olive")
    made = write_report([save(root, image("a.png", output("a.png/g.png", sha256=digest)))])
    read = Read(made.path)
    assert read.entries[0]["drawn"] is True
    assert Image.open(BytesIO(base64.b64decode(read.entries[0]["thumb"]))).size == (128, 85)
    assert "palette and opacity change nothing" in read.index["fixed"]


def test_a_place_of_photographs_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png"))
    with pytest.raises(UsageError, match="no such folder or archive"):
        write_report([root], ReportOptions(photos=(tmp_path / "no",)))


def test_a_place_without_photographs_is_said(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png"))
    (tmp_path / "empty").mkdir()
    made = write_report([root], ReportOptions(photos=(tmp_path / "empty",)))
    assert "1 image was not found below --photos." in made.missing


# ---- folders that are not as they should be


def journal_of(root: Path, *records: ImageRecord, name: str = "manifest.jsonl", header: bool = True) -> Path:
    """What an unfinished run leaves."""
    from cnnviz_cli.files.output.journal import Journal
    from cnnviz_cli.files.output.sink import Sink

    sink = Sink(root)
    sink.open()
    with Journal(sink, name) as journal:
        if header:
            facts = {"run": RUN, "model": NET, "tool": TOOL}
            journal.write_header({key: value.model_dump(mode="json") for key, value in facts.items()})
        for record in records:
            files = tuple((one.path, 0) for one in record.outputs)
            journal.append(record, None, files)
    return root


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    root = journal_of(tmp_path / "run", numbered("b.png", 1), numbered("a.png", 2), numbered("b.png", 3))
    made = write_report([root])
    read = Read(made.path)
    assert read.index["sources"] == ["b.png", "a.png"]
    assert [record[0]["sha256"] for record in read.records if record[0]] == [f"{n:064x}" for n in (3, 2)]
    assert read.index["runs"][0]["status"] == "unfinished"
    assert read.index["runs"][0]["manifest"] is None
    assert "run: The run is not finished. What it has finished so far is here." in made.missing


def test_shards_that_are_not_merged_are_shown_together(tmp_path: Path) -> None:
    root = tmp_path / "run"
    for shard in (1, 2):
        journal_of(root, numbered(f"{shard}.png", shard), name=f"manifest.{shard}-of-2.jsonl")
    made = write_report([root])
    assert Read(made.path).index["sources"] == ["1.png", "2.png"]
    assert "Its shards are not merged: cnnviz merge does that." in made.missing[0]


def test_a_manifest_that_another_program_has_written_anew_is_read(tmp_path: Path) -> None:
    root = tmp_path / "run"
    record = keep(root, image("a.png", output("a.png/g.png")), {"g.map": np.array([[[0.0, 2.0]]])})
    place = save(root, record) / "manifest.json"
    place.write_text(json.dumps(json.loads(place.read_text(encoding="utf-8"))), encoding="utf-8")
    read = Read(write_report([root]).path)
    assert levels(read.entries[0]["maps"][0]).tolist() == [[0, 255]]


def spoil_nothing(_root: Path) -> None:
    """The folder is empty."""


def spoil_text(root: Path) -> None:
    (root / "manifest.json").write_text("{}", encoding="utf-8")


def spoil_header(root: Path) -> None:
    journal_of(root)


def spoil_fifo(root: Path) -> None:
    os.mkfifo(root / "manifest.json")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (spoil_nothing, "no run has written into this folder"),
        (spoil_text, "no valid manifest"),
        (spoil_header, "has finished no image yet"),
        (spoil_fifo, "a pipe, not a file"),
    ],
)
def test_a_folder_without_a_run_is_a_mistake(tmp_path: Path, spoil: Callable[[Path], None], words: str) -> None:
    root = tmp_path / "run"
    root.mkdir()
    spoil(root)
    before = sorted(root.iterdir())
    with pytest.raises(UsageError, match=words) as raised:
        write_report([root])
    assert raised.value.code == ExitCode.USAGE
    assert sorted(root.iterdir()) == before


def test_a_folder_that_is_not_there_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such folder"):
        write_report([tmp_path / "no"])


@pytest.mark.parametrize("path", ["../secret.npz", "/etc/passwd", "link/secret.npz", "a\\..\\secret.npz"])
def test_no_path_of_a_manifest_leads_out_of_its_folder(tmp_path: Path, path: str) -> None:
    """The bytes are there, and the digest is right: they are not read, and not linked."""
    from hashlib import sha256

    from cnnviz_cli.core.records import Arrays
    from cnnviz_cli.run.present import encode_arrays

    (tmp_path / "secrets").mkdir()
    data = encode_arrays({"g.map": np.array([[[0.0, 2.0]]], np.float32)})
    for place in (tmp_path / "secret.npz", tmp_path / "secrets" / "secret.npz"):
        place.write_bytes(data)
    picture = BytesIO()
    Image.new("RGB", (9, 9)).save(picture, "WEBP")
    (tmp_path / "secret.webp").write_bytes(picture.getvalue())
    root = tmp_path / "run"
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "secrets")
    named = Picture(path=path.replace("npz", "webp"), sha256=sha256(picture.getvalue()).hexdigest(), width=9, height=9)
    record = image(
        "a.png",
        output(path.replace("npz", "png"), array="g.map", grey=named),
        arrays=Arrays(path=path, sha256=sha256(data).hexdigest()),
        thumbnail=named,
    )
    made = write_report([save(root, record)])
    read = Read(made.path)
    (one,) = read.entries[0]["maps"]
    assert not {"data", "small", "figure", "file", "image"} & one.keys()
    assert read.entries[0]["thumb"] == ""
    assert made.lost
    assert any("out of its folder, and" in sentence for sentence in made.missing)


@pytest.mark.parametrize("name", ["..", ".", ""])
def test_no_name_of_a_figure_leads_upwards(tmp_path: Path, name: str) -> None:
    root = save(tmp_path / "run", image("a.png", output("a.png/g.png"), output(f"a.png/{name}", method="b")))
    (root / "a.png").mkdir()
    (root / "a.png" / "g.png").write_bytes(b"")
    entry = Read(write_report([root]).path).entries[0]
    assert entry["maps"][0]["file"] == "g.png"
    assert "file" not in entry["maps"][1]
    assert ".." not in str(entry["maps"][1].get("figure"))


def test_arrays_and_figures_that_are_gone_are_counted(tmp_path: Path) -> None:
    root = tmp_path / "run"
    record = keep(root, image("a.png", output("a.png/g.png")), {"g.map": np.ones((1, 2, 2))})
    save(root, record)
    shutil.rmtree(root / "a.png")
    made = write_report([root])
    assert "The numbers of the maps of 1 image are gone, or not those of the run." in made.missing
    assert made.lost


def test_a_run_without_numbers_says_how_to_keep_them(tmp_path: Path) -> None:
    made = write_report([save(tmp_path / "run", image("a.png", output("a.png/g.png")))])
    assert "The maps of 1 image have no numbers: the run did not keep them. With --report it does." in made.missing


def test_a_page_that_is_not_ours_is_not_replaced(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png"))
    (root / "report.html").write_text("<h1>mine</h1>", encoding="utf-8")
    with pytest.raises(OutputError, match="was not written by cnnviz"):
        write_report([root])
    assert (root / "report.html").read_text(encoding="utf-8") == "<h1>mine</h1>"
    (root / "report.html").unlink()
    (root / "report-data").mkdir()
    (root / "report-data" / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match=r"mine\.txt"):
        write_report([root])
    assert sorted(one.name for one in root.iterdir()) == ["manifest.json", "report-data"]


def test_a_page_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(120)))
    write_report([root])
    before = {one: one.read_bytes() for one in root.rglob("*") if one.is_file()}

    def stop(done: int, _whole: int) -> None:
        if done > 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report([root], ReportOptions(progress=stop, title="another"))
    assert {one: one.read_bytes() for one in root.rglob("*") if one.is_file()} == before
    write_report([root], ReportOptions(limit=10))
    assert sorted(one.name for one in (root / "report-data").iterdir()) == ["chunk-00000.js"]


def test_a_single_file_that_would_be_too_large_is_refused(tmp_path: Path) -> None:
    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(60)))
    place = tmp_path / "one.html"
    with pytest.raises(OutputError, match=r"about 0\.\d+ MB, and 0\.1 are allowed") as raised:
        write_report([root], ReportOptions(output=place, single_file=True, max_size=0.1))
    assert "--only wrong" in raised.value.fix
    assert raised.value.code == ExitCode.OUTPUT
    assert [one.name for one in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("name", ["page.txt", "page"])
def test_a_page_is_called_html(tmp_path: Path, name: str) -> None:
    root = save(tmp_path / "run", image("a.png"))
    with pytest.raises(UsageError, match=r"ends in \.html"):
        write_report([root], ReportOptions(output=tmp_path / name))


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png"))
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(CnnvizError, match="cannot be written") as raised:
        write_report([root], ReportOptions(output=tmp_path / "file" / "page.html"))
    assert raised.value.code == ExitCode.OUTPUT


def test_an_empty_part_is_an_empty_page(tmp_path: Path) -> None:
    root = save(tmp_path / "run", image("a.png", truth=CAT), image("b.png", truth=DOG, sha256="9" * 64))
    assert write_report([root], ReportOptions(only="failed")).images == 0
    assert Read(root / "report.html").index["sources"] == []


def test_records_are_held_one_chunk_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many there are."""
    from cnnviz_cli.files.output.saved_run import SavedRun

    root = save(tmp_path / "run", *(numbered(f"{n}.png", n) for n in range(230)))
    read: list[int] = []
    usual = SavedRun.record

    def counted(self: SavedRun, number: int) -> Any:
        read.append(number)
        return usual(self, number)

    monkeypatch.setattr(SavedRun, "record", counted)
    told: list[tuple[int, int]] = []
    write_report([root], ReportOptions(progress=lambda done, _whole: told.append((done, len(read))), order="name"))
    assert [done for done, _ in told] == [50, 100, 150, 200, 230]
    # Once for the survey, and once for its entry.
    assert [count for _, count in told] == [230 + done for done, _ in told]


def test_a_map_with_a_grey_picture_of_its_numbers_has_numbers(tmp_path: Path) -> None:
    """So a run of maps of pixels is one without arrays, and lacks nothing."""
    from cnnviz_cli.files.output.sink import Sink
    from cnnviz_cli.files.output.small_pictures import write_grey

    root = tmp_path / "run"
    grey = write_grey(Sink(root), "a.png/g.grey.webp", np.linspace(0, 2, 80 * 70).reshape(80, 70), (0, 2))
    grey_one = output("a.png/g.png", grey=grey)
    lacking = "The maps of 1 image have no numbers: the run did not keep them. With --report it does."
    assert lacking not in write_report([save(root, image("a.png", grey_one))]).missing
    assert lacking in write_report([save(root, image("a.png", grey_one, output("a.png/h.png")))]).missing


def test_two_names_that_are_escaped_alike_are_two_images(tmp_path: Path) -> None:
    names = ["a\u2028b.jpg", r"a\u2028b.jpg"]
    root = save(tmp_path / "run", *(numbered(name, at) for at, name in enumerate(names)))
    read = Read(write_report([root]).path)
    assert len(set(read.index["sources"])) == 2
    assert [record[0]["source"] for record in read.records if record[0]] == names


@pytest.mark.parametrize("width", [-5, 2**32, 2**64, 10**30])
def test_sides_that_no_image_has_stop_nothing(tmp_path: Path, width: int) -> None:
    root = save(tmp_path / "run", image("a.png", width=width), numbered("b.png", 1))
    assert list(Read(write_report([root]).path).column("width")) == [0, 8]


@pytest.mark.parametrize("palette", [["x"], {}, 7])
def test_a_palette_that_is_no_name_is_none(tmp_path: Path, palette: Any) -> None:
    root = save(tmp_path / "run", image("a.png", output("a.png/g.png")))
    place = root / "manifest.json"
    told = json.loads(place.read_text(encoding="utf-8"))
    told["run"]["config"]["palette"] = palette
    place.write_text(json.dumps(told), encoding="utf-8")
    assert Read(write_report([root]).path).index["views"][0]["palette"] == "inferno"


def test_images_that_are_thumbnails_alone_are_said(tmp_path: Path) -> None:
    """Where it is not known where they lie, and where no browser shows them from here."""
    root, photos = tmp_path / "run", tmp_path / "photos"
    digest = photo(root, "small.webp", "navy", "WEBP")
    small = Picture(path="small.webp", sha256=digest, width=300, height=200)
    names = [("a.png", "PNG"), ("b.tif", "TIFF")]
    save(root, *(image(n, sha256=photo(photos, n, "navy", kind), thumbnail=small) for n, kind in names))

    def told(**options: Any) -> list[str]:
        return [one for one in write_report([root], ReportOptions(**options)).missing if "alone" in one]

    closer = "alone: --previews 640 adds copies to look at closely."
    assert told() == [
        "The page has 2 images as thumbnails alone, not knowing where they lie: cnnviz report OUT --photos DIR."
    ]
    assert told(photos=(photos,)) == [f"The page has 1 image as a thumbnail {closer}"]
    single = {"photos": (photos,), "single_file": True, "output": tmp_path / "one.html"}
    assert told(**single) == [f"The page has 2 images as thumbnails {closer}"]
    assert told(**single, previews=100) == told(photos=(photos,), previews=100) == []
    assert told(photos=(tmp_path / "run",)) == []  # which says that they were not found
