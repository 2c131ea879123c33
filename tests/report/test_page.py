"""A page says what the manifests say, and nothing in them can be more than text. No browser is needed."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports.saved import CAT, DOG, failed, image, keep, output, save
from PIL import Image
from report.made_up import CLASSES, COUNT, HOSTILE, NEGATIVE, TITLES, make_run, name_of
from report.reading import Read, levels

from cnnviz_cli.core.accuracy import AccuracyCounter
from cnnviz_cli.core.errors import UsageError
from cnnviz_cli.core.rank_statistics import spearman
from cnnviz_cli.core.records import Arrays, Prediction
from cnnviz_cli.core.text import escape_text
from cnnviz_cli.files.output.sink import Sink
from cnnviz_cli.report import ReportOptions, shown_manifests, write_report
from cnnviz_cli.report.survey import FAILED, RIGHT, STATES, UNKNOWN, WRONG

OUTCOMES = {RIGHT: "right", WRONG: "wrong", UNKNOWN: "unknown", FAILED: "failed"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two runs over the same photographs, and the folder of these."""
    root = tmp_path_factory.mktemp("runs")
    photos = root / "photos"
    return (
        make_run(root / "real", photos, weights="trained"),
        make_run(root / "odd", photos, weights="random:1"),
        photos,
    )


@pytest.fixture(scope="module")
def page(runs: tuple[Path, Path, Path]) -> Read:
    real, odd, photos = runs
    return Read(write_report([real, odd], ReportOptions(photos=(photos,), titles=TITLES)).path)


def manifest(root: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    return found


def test_columns_say_what_the_manifests_say(runs: tuple[Path, Path, Path], page: Read) -> None:
    for run, root in enumerate(runs[:2]):
        records = manifest(root)["images"]
        assert page.index["sources"] == [escape_text(one["source"]) for one in records]
        said, probability = page.column(f"predicted.{run}"), page.column(f"probability.{run}")
        truth, known = page.column("truth"), page.column(f"truth_probability.{run}")
        for at, record in enumerate(records):
            first = (record["predictions"] or [None])[0]
            assert page.label(said[at]) == (first and first["label"])
            assert probability[at] == pytest.approx(first["probability"] if first else np.nan, nan_ok=True)
            assert page.label(truth[at]) == (record["truth"] and record["truth"]["label"])
            true = record["truth"] and record["truth"]["probability"]
            assert known[at] == pytest.approx(np.nan if true is None else true, nan_ok=True)
            assert (page.column("width")[at], page.column("height")[at]) == (
                record["width"] or 0,
                record["height"] or 0,
            )
            states = [one["state"] for one in record["outputs"]]
            worst = "failed" if record["status"] == "failed" else max(states, key=STATES.index)
            assert page.index["states"][page.column(f"state.{run}")[at]] == worst


def test_a_probability_that_is_almost_1_is_not_1(tmp_path: Path) -> None:
    shares = [0.99999999, 1e-50, 0.999196]
    records = [
        image(f"{at}.png", predictions=[CAT.model_copy(update={"probability": share})], sha256=f"{at:064x}")
        for at, share in enumerate(shares)
    ]
    assert list(Read(write_report([save(tmp_path / "run", *records)]).path).column("probability.0")) == shares


def test_outcomes_are_counted_as_the_summary_counts_them(runs: tuple[Path, Path, Path], page: Read) -> None:
    for run, root in enumerate(runs[:2]):
        records = manifest(root)["images"]
        tally = AccuracyCounter(len(CLASSES))
        for record in records:
            tally.add(record)
        accuracy = tally.accuracy
        assert accuracy is not None
        assert accuracy.top1 is not None
        counts = {word: int((page.column(f"outcome.{run}") == code).sum()) for code, word in OUTCOMES.items()}
        bad = sum(record["status"] == "failed" for record in records)
        assert counts == {
            "right": accuracy.top1,
            "wrong": accuracy.known - accuracy.top1,
            "failed": bad,
            "unknown": COUNT - accuracy.known - bad,
        }


def test_what_one_run_was_not_told_another_tells(tmp_path: Path) -> None:
    told = save(tmp_path / "told", image("a.png", truth=DOG), image("b.png", truth=CAT, sha256="3" * 64))
    untold = save(tmp_path / "untold", image("a.png"), image("b.png", sha256="3" * 64))
    read = Read(write_report([told, untold]).path)
    assert [list(read.column(f"outcome.{run}")) for run in (0, 1)] == [[WRONG, RIGHT]] * 2
    alone = Read(write_report([untold]).path)
    assert list(alone.column("outcome.0")) == [UNKNOWN, UNKNOWN]


def test_entries_say_what_the_manifests_say(runs: tuple[Path, Path, Path], page: Read) -> None:
    for run, root in enumerate(runs[:2]):
        for at, record in enumerate(manifest(root)["images"]):
            entry, said = page.entries[at], page.entries[at]["runs"][run]
            assert page.records[at][run] == record
            assert entry["size"] == ([record["width"], record["height"]] if record["width"] else None)
            assert entry["seen"] == (record["seen"] and record["seen"]["box"])
            assert said["error"] == record["error"]
            assert [[page.label(one[0]), one[1]] for one in said["predictions"]] == [
                [one["label"], one["probability"]] for one in record["predictions"]
            ]
            assert (said["truth"] and page.label(said["truth"][0])) == (record["truth"] and record["truth"]["label"])
            maps = [one for one in entry["maps"] if page.index["views"][one["view"]]["run"] == run]
            for one, written in zip(maps, record["outputs"], strict=True):
                view = page.index["views"][one["view"]]
                assert (view["method"], view["title"]) == (written["method"], TITLES[written["method"]])
                assert page.label(one["target"]) == written["target"]["label"]
                assert one["scale"] == written["scale"]
                assert one.get("range", one["scale"]) == written["range"]
                assert one.get("state", "ok") == written["state"]
                assert one["measures"] == written["measures"]
                first, true = record["predictions"][0]["index"], (record["truth"] or {}).get("index")
                role = {(True, True): "both", (True, False): "says", (False, True): "true", (False, False): "asked"}
                index = written["target"]["index"]
                assert one["role"] == role[index == first, index == true]
                address = page.figure(one, entry)
                assert address is not None
                assert page.file(address) == root / written["path"]
                assert page.file(address).is_file()


def test_maps_are_shares_of_their_scale(runs: tuple[Path, Path, Path], page: Read) -> None:
    checked = 0
    for run, root in enumerate(runs[:2]):
        for at, record in enumerate(manifest(root)["images"]):
            maps = [one for one in page.entries[at]["maps"] if page.index["views"][one["view"]]["run"] == run]
            with np.load(root / record["arrays"]["path"]) if record["arrays"] else np.load(_empty()) as arrays:
                for one, written in zip(maps, record["outputs"], strict=True):
                    values = next(
                        arrays[key][0] for key in arrays if written["path"].endswith(f"/{key.removesuffix('.map')}.png")
                    )
                    if written["scale"] is None:
                        assert "data" not in one
                        assert "small" not in one
                        continue
                    low, high = written["scale"]
                    shown = (values.astype(float) - low) / (high - low) * 255
                    found = levels(one) if "data" in one else _grey(page.file(one["image"]).read_bytes())
                    assert one["shape"] == list(values.shape)
                    assert np.abs(found - shown.clip(0, 255)).max() <= 0.5 + 1e-4
                    checked += 1
    assert checked > 4 * COUNT


def _empty() -> BytesIO:
    data = BytesIO()
    np.savez(data)
    data.seek(0)
    return data


def _grey(data: bytes) -> Any:
    return np.asarray(Image.open(BytesIO(data)).convert("L")).astype(float)


def test_views_know_what_their_maps_have_in_common(runs: tuple[Path, Path, Path], page: Read) -> None:
    views = {(view["run"], view["method"]): view for view in page.index["views"]}
    for run, root in enumerate(runs[:2]):
        scales: dict[str, list[list[float]]] = {}
        for record in manifest(root)["images"]:
            for one in record["outputs"]:
                if one["scale"]:
                    scales.setdefault(one["method"], []).append(one["scale"])
        for method, found in scales.items():
            view = views[run, method]
            assert view["shared"] == [min(low for low, _ in found), max(high for _, high in found)]
            assert view["signed"] is (method == "lime")
            assert view["palette"] == ("blue-red" if method == "lime" else "inferno")
            assert view["kind"] == ("pixels" if method == "gradient" else "map")


def test_disagreement_is_one_less_the_rank_correlation(runs: tuple[Path, Path, Path], page: Read) -> None:
    """Against a bilinear interpolation of our own in double precision, over 14 x 14 cells."""
    real, odd, _ = runs
    titles = {one["title"]: one for one in page.index["disagreements"]}
    pairs = {
        "Grad-CAM / Layer-CAM · real": ((real, "gradcam"), (real, "layercam")),
        "Grad-CAM · real / odd": ((real, "gradcam"), (odd, "gradcam")),
    }
    for title, sides in pairs.items():
        column = page.column(titles[title.replace("Layer-CAM", TITLES["layercam"])]["column"])
        for at in range(20):
            maps = [_first_map(root, at, method) for root, method in sides]
            if any(one is None for one in maps):
                assert np.isnan(column[at])
            else:
                cells = [_bilinear(one, 14) for one in maps if one is not None]
                assert column[at] == pytest.approx(1 - spearman(*cells), abs=2e-3)


def _first_map(root: Path, at: int, method: str) -> Any:
    record = manifest(root)["images"][at]
    written = next((one for one in record["outputs"] if one["method"] == method), None)
    if written is None or written["scale"] is None:
        return None
    with np.load(root / record["arrays"]["path"]) as arrays:
        return arrays[f"{Path(written['path']).stem}.map"][0].astype(float)


def _bilinear(values: Any, side: int) -> Any:
    """Sampled between the centres of cells, which are constant beyond the outer ones."""
    places = [((np.arange(side) + 0.5) * n / side - 0.5).clip(0, n - 1) for n in values.shape]
    low = [np.floor(at).astype(int) for at in places]
    high = [np.minimum(one + 1, n - 1) for one, n in zip(low, values.shape, strict=True)]
    y, x = (at - one for at, one in zip(places, low, strict=True))
    rows = values[low[0]] * (1 - y)[:, None] + values[high[0]] * y[:, None]
    return rows[:, low[1]] * (1 - x) + rows[:, high[1]] * x


def test_measures_can_be_sorted_by(runs: tuple[Path, Path, Path], page: Read) -> None:
    names = {one["title"]: one["column"] for one in page.index["measures"]}
    column = page.column(names["removal_gain · Grad-CAM · real"])
    for at, record in enumerate(manifest(runs[0])["images"]):
        first = next((one for one in record["outputs"] if one["method"] == "gradcam"), None)
        assert column[at] == pytest.approx(first["measures"]["removal_gain"] if first else np.nan, nan_ok=True)


def test_thumbnails_and_photographs_are_those_that_were_explained(runs: tuple[Path, Path, Path], page: Read) -> None:
    for at in range(COUNT):
        entry = page.entries[at]
        photo = runs[2] / name_of(at)
        assert page.file(entry["photo"]).resolve() == photo.resolve()
        assert not entry["drawn"]
        thumb = Image.open(BytesIO(base64.b64decode(entry["thumb"])))
        with Image.open(photo) as whole:
            assert max(thumb.size) == min(128, max(whole.size))
            small = np.asarray(whole.convert("RGB").resize(thumb.size)).astype(float)
        assert np.abs(np.asarray(thumb.convert("RGB")).astype(float) - small).mean() < 12
    assert page.index["photos"] is True
    assert page.index["fixed"] is None


@pytest.mark.parametrize("single", [False, True])
def test_nothing_that_a_manifest_says_is_more_than_text(
    runs: tuple[Path, Path, Path], tmp_path: Path, single: bool
) -> None:
    """Names that would end a script, begin a tag or call a function are in this run, and a class is called so."""
    real, odd, photos = runs
    title = "</title><script>window.BAD=9</script>\u2028"
    made = write_report(
        [real, odd], ReportOptions(photos=(photos,), output=tmp_path / "r.html", single_file=single, title=title)
    )
    read = Read(made.path)
    assert read.index["sources"][5 : 5 + len(HOSTILE)] == [escape_text(name) for name in HOSTILE]
    assert read.elements.title == escape_text(title)
    chunks = -(-COUNT // 50) * 2 if single else 0
    assert len(read.elements.scripts) == chunks + 3
    assert {tag for tag, _ in read.elements.found} == {
        "html", "head", "meta", "title", "style", "body", "noscript", "p", "div", "script", *(() if single else ("a",)),
    }  # fmt: skip
    assert not [name for _, attributes in read.elements.found for name in attributes if name.startswith("on")]
    for name, text in read.blocks.items():
        assert "<" not in text, name
        assert text.isascii(), name
    if not single:
        for chunk in (tmp_path / "r-data").glob("*.js"):
            data = chunk.read_bytes()
            assert b"<" not in data
            assert data.isascii()


def test_the_policy_allows_our_scripts_alone(page: Read) -> None:
    policy = next(
        attributes["content"] for tag, attributes in page.elements.found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )  # fmt: skip
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    sources = re.search(r"script-src ([^;]*);", policy)
    assert sources is not None
    run = [text for attributes, text in page.elements.scripts if not attributes]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in run]
    assert sources[1].split() == [*hashes, "file:", "'self'"]
    assert "unsafe-inline" not in sources[1]
    assert "connect-src" not in policy
    assert not [attributes for _, attributes in page.elements.found if "src" in attributes]


def test_scripts_of_ours_end_no_script() -> None:
    from cnnviz_cli.report.page import app_files

    vendor, app, css = app_files()
    assert vendor
    assert app
    assert css
    for text in (vendor, app):
        assert "</script" not in text.lower()
        assert "<!--" not in text
    assert "</style" not in css.lower()


def test_the_same_folders_give_the_same_bytes(tmp_path: Path) -> None:
    """Wherever they lie, and whatever time it is."""
    found = []
    for place in ("here", "somewhere/else"):
        root = tmp_path / place
        photos = root / "photos"
        folders = [make_run(root / name, photos, weights=name, count=12) for name in ("real", "odd")]
        for options in ({}, {"single_file": True, "output": root / "one.html"}):
            made = write_report(folders, ReportOptions(photos=(photos,), **options))
            data = made.path.with_name(f"{made.path.stem}-data")
            files = [made.path, *sorted(one for one in data.rglob("*") if one.is_file())]
            found.append([(one.relative_to(root).as_posix(), one.read_bytes()) for one in files])
            assert made.size == sum(len(data) for _, data in found[-1])
            assert not [name for name, data in found[-1] if str(tmp_path).encode() in data]
    assert found[:2] == found[2:]


def test_addresses_are_relative_and_lead_there_whatever_files_are_called(tmp_path: Path) -> None:
    name = "a#b%41?c&d 'e'.png"
    root = save(
        tmp_path / "o#t %20", image(name, output(f"{name}/gradcam.1.png"), output(f"{name}/x y#.png", method="b"))
    )
    (root / name).mkdir()
    for figure in ("gradcam.1.png", "x y#.png"):
        (root / name / figure).write_bytes(b"")
    read = Read(write_report([root], ReportOptions(output=tmp_path / "pages" / "p.html")).path)
    entry = read.entries[0]
    addresses = [read.figure(one, entry) for one in entry["maps"]]
    assert addresses[0] == "../o%23t%20%2520/a%23b%2541%3Fc%26d%20%27e%27.png/gradcam.1.png"
    assert [read.file(one or "") for one in addresses] == [
        root / name / figure for figure in ("gradcam.1.png", "x y#.png")
    ]
    assert read.file(read.index["runs"][0]["manifest"]).read_bytes() == (root / "manifest.json").read_bytes()


def test_a_single_file_leads_nowhere(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    real, odd, photos = runs
    options = ReportOptions(photos=(photos,), output=tmp_path / "one.html", single_file=True, previews=100)
    read = Read(write_report([real, odd], options).path)
    assert [one.name for one in tmp_path.iterdir()] == ["one.html"]
    assert [run["manifest"] for run in read.index["runs"]] == [None, None]
    for entry in read.entries:
        assert entry["photo"].startswith("data:image/webp;base64,")
        assert all(said["folder"] is None for said in entry["runs"])
        assert not [one for one in entry["maps"] if "figure" in one or "file" in one or "image" in one]
    small = next(one for entry in read.entries for one in entry["maps"] if "small" in one)
    assert Image.open(BytesIO(base64.b64decode(small["small"]))).size == (72, 72)


def test_a_page_knows_which_manifests_it_is_of(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    made = write_report(runs[:2], ReportOptions(output=tmp_path / "r.html"))
    digests = [manifest(root)["sha256"] for root in runs[:2]]
    assert shown_manifests(made.path) == digests
    assert [run["sha256"] for run in Read(made.path).index["runs"]] == digests
    other = tmp_path / "other.html"
    other.write_text("<!doctype html>", encoding="utf-8")
    assert shown_manifests(other) is None
    assert shown_manifests(tmp_path / "none.html") is None


def test_of_two_classes_with_one_name_the_number_is_said(tmp_path: Path) -> None:
    cranes = [Prediction(index=number, label="crane", probability=0.4) for number in (134, 517)]
    first = save(tmp_path / "a", image("a.png", predictions=[cranes[0], CAT], truth=cranes[1]))
    other = save(tmp_path / "b", image("a.png", predictions=[CAT.model_copy(update={"index": 3})]))
    read = Read(write_report([first, other]).path)
    assert read.index["labels"] == ["crane (134)", "crane (517)", "tiger cat"]
    assert [read.label(read.column(f"predicted.{run}")[0]) for run in (0, 1)] == ["crane (134)", "tiger cat"]
    assert list(read.column("outcome.0")) == [WRONG]


def test_a_map_that_holds_no_number_has_none_in_the_page(tmp_path: Path) -> None:
    root = tmp_path / "run"
    bad = np.array([[[0.0, np.nan], [1.0, 2.0]]])
    record = keep(root, image("a.png", output("a.png/g.png", state="nonfinite")), {"g.map": bad})
    read = Read(write_report([save(root, record)]).path)
    (one,) = read.entries[0]["maps"]
    assert "data" not in one
    assert one["state"] == "nonfinite"
    assert "overflowed" in one["sentence"]


def test_a_run_that_names_its_arrays_is_believed(tmp_path: Path) -> None:
    root = tmp_path / "run"
    values = np.arange(4.0).reshape(1, 2, 2)
    record = image("a.png", output("a.png/g.png", array="other", scale=(0, 3)))
    record = keep(root, record, {"other": values, "g.map": -values})
    (one,) = Read(write_report([save(root, record)]).path).entries[0]["maps"]
    assert levels(one).tolist() == [[0, 85], [170, 255]]


def test_only_a_part(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    whole = Read(write_report(runs[:2], ReportOptions(output=tmp_path / "whole.html")).path)

    def sources(**options: Any) -> list[str]:
        return Read(write_report(runs[:2], ReportOptions(output=tmp_path / "part.html", **options)).path).index[
            "sources"
        ]

    every = whole.index["sources"]
    for code, word in OUTCOMES.items():
        assert sources(only=word) == [every[at] for at in np.flatnonzero(whole.column("outcome.0") == code)]
    assert sources(only="negative") == [escape_text(name_of(NEGATIVE))]
    espresso = whole.index["labels"].index("espresso")
    named = [whole.column(name) == espresso for name in ("truth", "predicted.0", "predicted.1")]
    assert sources(only="espresso") == [every[at] for at in np.flatnonzero(np.any(named, axis=0))]
    assert sources(limit=7) == every[:7]
    by_name = sorted(map(name_of, range(COUNT)), key=lambda name: (name.casefold(), name))
    assert sources(order="name") == [escape_text(name) for name in by_name]
    probability = np.nan_to_num(whole.column("probability.0"), nan=-1)
    assert sources(order="sure", limit=5) == [every[at] for at in np.argsort(-probability, kind="stable")[:5]]
    with pytest.raises(UsageError, match="no outcome, no state and no class"):
        sources(only="espreso")


def test_the_gravest_mistakes_come_first(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    read = Read(write_report(runs[:1], ReportOptions(output=tmp_path / "r.html", order="mistake")).path)
    outcome = read.column("outcome.0")
    wrong = int((outcome == WRONG).sum())
    assert set(outcome[:wrong]) == {WRONG}
    assert wrong > 5
    assert set(outcome[wrong : wrong + int((outcome == RIGHT).sum())]) == {RIGHT}
    margin = (read.column("probability.0") - read.column("truth_probability.0"))[:wrong]
    assert (np.diff(margin) <= 0).all()


def test_the_first_records_thumbnail_and_grey_map_are_taken_as_they_are(tmp_path: Path) -> None:
    """A run with --report has written both."""
    from cnnviz_cli.files.output.small_pictures import write_grey, write_thumbnail

    root = tmp_path / "run"
    sink = Sink(root)
    sink.open()
    values = np.linspace(0, 2, 80 * 70).reshape(80, 70)
    grey = write_grey(sink, "a.png/g.grey.webp", values, (0, 2))
    thumbnail = write_thumbnail(sink, "a.png/t.webp", Image.new("RGB", (200, 100), "teal"))
    record = image("a.png", output("a.png/g.png", grey=grey), width=200, height=100, thumbnail=thumbnail)
    made = write_report([save(root, record)])
    entry = Read(made.path).entries[0]
    assert base64.b64decode(entry["thumb"]) == (root / "a.png" / "t.webp").read_bytes()
    (one,) = entry["maps"]
    assert one["image"] == "a.png/g.grey.webp"
    assert one["shape"] == [80, 70]
    assert max(Image.open(BytesIO(base64.b64decode(one["small"]))).size) == 64
    assert not any("numbers" in sentence for sentence in made.missing)  # a grey picture is a map's numbers
    shutil.rmtree(root / "a.png")
    gone = write_report([root])
    again = Read(gone.path).entries[0]
    assert again["thumb"] == ""
    assert "image" not in again["maps"][0]
    assert "The numbers of the maps of 1 image are gone, or not those of the run." in gone.missing
    assert gone.lost


def test_arrays_of_another_run_are_not_taken(tmp_path: Path) -> None:
    root = tmp_path / "run"
    record = keep(root, image("a.png", output("a.png/g.png")), {"g.map": np.ones((1, 2, 2))})
    assert record.arrays is not None
    lied = record.model_copy(update={"arrays": Arrays(path=record.arrays.path, sha256="0" * 64)})
    made = write_report([save(root, lied)])
    assert "data" not in Read(made.path).entries[0]["maps"][0]
    assert made.lost
    assert any("are gone, or not those of the run" in one for one in made.missing)


def test_a_failed_image_is_there_with_its_reason(tmp_path: Path) -> None:
    read = Read(write_report([save(tmp_path / "run", failed("a.png", "the file is <b>cut</b> off"))]).path)
    assert list(read.column("outcome.0")) == [FAILED]
    assert read.entries[0]["runs"][0]["error"] == "the file is <b>cut</b> off"
    assert read.entries[0]["maps"] == []
