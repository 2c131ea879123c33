"""What a run writes for its report: which array or grey picture is a map's, and a thumbnail of each image."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from run.resuming import BROKEN, Listener, files_of, photographs, run

from cnnviz_cli.cli.main import main
from cnnviz_cli.core.families import FAMILIES
from cnnviz_cli.core.panels import Panel, SingleMap
from cnnviz_cli.core.records import ImageRecord, Manifest, Output
from cnnviz_cli.files.images.decode import read_image
from cnnviz_cli.files.inputs.search import Source, find_images
from cnnviz_cli.files.output.journal import parse_record, record_paths, to_compact_json
from cnnviz_cli.files.output.merge_shards import merge_shards
from cnnviz_cli.files.output.shards import Shard
from cnnviz_cli.files.output.small_pictures import encode_thumbnail, thumbnail_of
from cnnviz_cli.files.output.verify import verify
from cnnviz_cli.run import present

pytestmark = pytest.mark.usefixtures("tiny_network")

COMPUTED = ("--device", "cpu", "--workers", "0", "--batch-size", "1", "-q")


def manifest_of(out: Path) -> Manifest:
    return Manifest.model_validate_json((out / "manifest.json").read_bytes())


def arrays_of(out: Path, record: ImageRecord) -> dict[str, np.ndarray[Any, Any]]:
    if record.arrays is None:
        return {}
    with np.load(out / record.arrays.path) as file:
        return {name: file[name] for name in file.files}


def beside(out: Path) -> list[str]:
    """The files that a usual run has not."""
    return [name for name in files_of(out) if name.endswith((".webp", ".npz"))]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[Panel, Any]]:
    """By the place of its file the panel that each figure is drawn of, and the scale that it is drawn on."""
    found: dict[str, tuple[Panel, Any]] = {}
    genuine = present.Presenter._write_figure

    def write(self: Any, one: Any, path: str, figure: Any, caption: Any) -> Output:
        output = genuine(self, one, path, figure, caption)
        found[output.path] = one.panel, caption.scale
        return output

    monkeypatch.setattr(present.Presenter, "_write_figure", write)
    return found


def every_method(images: Path, out: Path, *more: str) -> Manifest:
    """A run of every method of every family, two targets and two layers where there are any."""
    asked = ["all", str(images), "--method", "all", "--target", "top2", "--gradcam-layer", "conv1,conv2"]
    main([*asked, "--features-layer", "conv1,conv2", *COMPUTED, "-o", str(out), *more])
    return manifest_of(out)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    photographs(tmp_path / "in", 5)
    return tmp_path / "in" / "0.png"


def test_every_figure_names_the_arrays_that_it_is_drawn_of(
    tmp_path: Path, picture: Path, drawn: dict[str, tuple[Panel, Any]]
) -> None:
    (record,) = every_method(picture, tmp_path / "out", "--save-arrays").images
    kept, named = arrays_of(tmp_path / "out", record), []
    made = [output for output in record.outputs if output.method is not None]
    assert {output.family for output in made} == set(FAMILIES)
    assert len({output.method for output in made}) > 30
    for output in made:
        panel = drawn[output.path][0]
        if isinstance(panel, SingleMap):
            assert output.array is not None
            assert output.arrays is None
            np.testing.assert_array_equal(kept[output.array], np.asarray(panel.values, np.float32))
            named.append(output.array)
        else:
            assert output.array is None
            assert output.arrays is not None
            assert set(output.arrays) == set(panel.arrays())
            for what, name in output.arrays.items():
                np.testing.assert_array_equal(kept[name], np.asarray(panel.arrays()[what]))
            named += output.arrays.values()
    assert sorted(named) == sorted(kept)
    for output in record.outputs:
        assert (output.method is None) == (output.array is None and output.arrays is None)
        assert output.grey is None
    assert record.thumbnail is None


def test_a_report_keeps_the_maps_that_a_palette_colours(
    tmp_path: Path, picture: Path, drawn: dict[str, tuple[Panel, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "MOST_VALUES", 40)  # fewer than the input has, more than the last layer
    out = tmp_path / "out"
    (record,) = every_method(picture, out, "--report").images
    kept, named = arrays_of(out, record), []
    seen = {"array": 0, "grey": 0, "neither": 0}
    for output in record.outputs:
        panel = drawn[output.path][0] if output.method else None
        assert output.arrays is None
        if not isinstance(panel, SingleMap) or panel.in_colour:
            assert (output.array, output.grey) == (None, None)
            seen["neither"] += 1
        elif np.size(panel.values) <= 40:
            assert output.array is not None
            assert output.grey is None
            np.testing.assert_array_equal(kept[output.array], np.asarray(panel.values, np.float32))
            named.append(output.array)
            seen["array"] += 1
        else:
            assert output.array is None
            assert (output.grey is None) == (output.scale is None)
            if output.grey and output.scale:
                seen["grey"] += 1
                low, high = output.scale
                with Image.open(out / output.grey.path) as opened:
                    shares = np.asarray(opened)[:, :, 0] / 255
                assert shares.shape == np.asarray(panel.values).shape[1:]
                exact = np.asarray(panel.values, np.float64)[0].clip(low, high)
                np.testing.assert_allclose(low + (high - low) * shares, exact, rtol=0, atol=(high - low) / 509)
    assert min(seen.values()) >= 3, seen
    assert sorted(named) == sorted(kept)
    assert verify(out) == []


def test_a_thumbnail_is_of_the_upright_image_whatever_the_network_sees(tmp_path: Path) -> None:
    pixels = np.zeros((90, 300, 3), np.uint8)
    pixels[:, :150], pixels[:, 150:] = (200, 30, 30), (30, 30, 200)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    (tmp_path / "in").mkdir()
    Image.fromarray(pixels).save(tmp_path / "in" / "turned.jpg", exif=exif)
    (source,) = find_images([tmp_path / "in"], recursive=False)
    run(tmp_path / "out", [source], report=True)
    (record,) = manifest_of(tmp_path / "out").images
    assert record.thumbnail is not None
    assert (record.width, record.height) == (90, 300)
    assert (record.thumbnail.width, record.thumbnail.height) == (38, 128)
    with Image.open(tmp_path / "out" / record.thumbnail.path) as opened:
        found = np.asarray(opened.convert("RGB")).astype(int)
    assert found[10, 19, 0] - found[10, 19, 2] > 100  # the left is above
    assert found[-10, 19, 2] - found[-10, 19, 0] > 100
    data = (tmp_path / "out" / record.thumbnail.path).read_bytes()
    assert data == encode_thumbnail(thumbnail_of(read_image(source).image))


def test_figures_are_the_same_with_and_without(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "plain", sources)
    run(tmp_path / "told", sources, report=True)
    plain, told = files_of(tmp_path / "plain"), files_of(tmp_path / "told")
    figures = {name: data for name, data in told.items() if name.endswith(".png")}
    assert figures == {name: data for name, data in plain.items() if name.endswith(".png")}
    assert beside(tmp_path / "plain") == []
    done = [source.name for source in sources if source.name != BROKEN]
    assert sorted(beside(tmp_path / "told")) == sorted(
        f"{name}/{file}" for name in done for file in ("arrays.npz", "thumbnail.webp")
    )
    first, second = (manifest_of(tmp_path / name) for name in ("plain", "told"))
    assert first.run == second.run
    for one, other in zip(first.images, second.images, strict=True):
        bare = [output.model_copy(update={"array": None}) for output in other.outputs]
        assert one == other.model_copy(update={"thumbnail": None, "arrays": None, "outputs": bare})
        assert (other.thumbnail is None) == (other.status == "failed")
        assert len({output.path for output in other.outputs} | set(other.paths)) == len(other.paths)


def test_the_files_of_a_record_are_those_that_its_journal_lists() -> None:
    picture = {"path": "a/t.webp", "sha256": "0", "width": 1, "height": 1}
    output = {
        "family": "f", "method": "m", "layer": None, "target": None, "path": "a/1.png", "sha256": "0", "width": 1,
        "height": 1, "range": None, "state": "ok",
    }  # fmt: skip
    outputs = [output, {**output, "path": "a/2.png", "grey": {**picture, "path": "a/g.webp"}}]
    record = ImageRecord.model_validate(
        {
            "source": "a", "sha256": "0", "width": 1, "height": 1, "status": "ok", "error": None, "predictions": [],
            "outputs": outputs, "thumbnail": picture, "arrays": {"path": "a/arrays.npz", "sha256": "0"},
        }
    )  # fmt: skip
    assert record.paths == ["a/1.png", "a/2.png", "a/arrays.npz", "a/t.webp", "a/g.webp"]
    assert record_paths(parse_record(to_compact_json(record.model_dump(mode="json")))) == record.paths


@pytest.mark.parametrize("settings", [{}, {"scale": "run"}, {"scale": "fixed:-1,1", "target": "top2"}])
@pytest.mark.parametrize("most", [4096, 2])
def test_the_bytes_depend_on_nobody(
    settings: dict[str, Any], most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "MOST_VALUES", most)
    sources = photographs(tmp_path / "in", 9)
    run(tmp_path / "one", sources, report=True, **settings)
    one = files_of(tmp_path / "one")
    assert sum(name.endswith("thumbnail.webp") for name in one) == 8
    assert any(name.endswith("grey-map.webp") for name in one) == (most == 2)
    assert any(name.endswith(".npz") for name in one) == (most == 4096)
    if most == 4096 and "target" in settings:  # processes of workers begin anew, and know nothing of the patch
        run(tmp_path / "workers", sources, report=True, workers="2", **settings)
        assert files_of(tmp_path / "workers") == one
    run(tmp_path / "replicas", sources, report=True, replicas="2", **settings)
    assert files_of(tmp_path / "replicas") == one
    if "scale" not in settings or settings["scale"] != "run":
        for index in (1, 0):
            run(tmp_path / "parts", sources, report=True, shard=Shard(index, 2), **settings)
        merge_shards(tmp_path / "parts")
        parts = files_of(tmp_path / "parts")
        assert {name: data for name, data in parts.items() if name in one} == one
        assert verify(tmp_path / "parts") == []


def test_a_run_without_thumbnails_is_completed_and_one_with_them_stays(tmp_path: Path, sources: list[Source]) -> None:
    out = tmp_path / "out"
    run(tmp_path / "at-once", sources, report=True, batch_size="1")
    run(out, sources[:5], batch_size="1")
    run(out, sources, report=True, batch_size="1")
    found = files_of(out)
    assert found == files_of(tmp_path / "at-once")
    heard = Listener()
    run(out, sources, heard, report=True, batch_size="1")
    assert heard.done_ == [BROKEN]
    heard = Listener()
    run(out, sources, heard, batch_size="1")  # without --report there is nothing to do, and nothing is lost
    assert heard.done_ == [BROKEN]
    assert files_of(out) == found
    (out / "0.png" / "thumbnail.webp").unlink()
    heard = Listener()
    run(out, sources, heard, report=True, batch_size="1")
    assert sorted(heard.done_) == ["0.png", BROKEN]
    assert files_of(out) == found


def test_it_is_said_how_many_are_done_again_for_a_report(tmp_path: Path, sources: list[Source]) -> None:
    run(tmp_path / "out", sources)
    heard = Listener()
    run(tmp_path / "out", sources, heard, report=True)
    assert "6 images were explained without --report, and are done again" in heard.said
    heard = Listener()
    run(tmp_path / "out", sources, heard, report=True)
    assert not any("without --report" in text for text in heard.said)
    run(tmp_path / "single", sources[:1])
    heard = Listener()
    run(tmp_path / "single", sources[:1], heard, report=True)
    assert "an image was explained without --report, and is done again" in heard.said


def test_a_run_with_nothing_to_do_knows_it_without_the_network(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    rerun = importlib.import_module("cnnviz_cli.run.rerun")
    for module in (rerun, importlib.import_module("cnnviz_cli.run.lifecycle")):
        monkeypatch.setattr(module, "run_seal", lambda *_about: "sealed")
    good = [source for source in sources if source.name != BROKEN]
    settings = importlib.import_module("cnnviz_cli.config.load").load_settings

    def conclude(*, report: bool) -> Any:
        flags = {("output",): str(tmp_path / "out"), ("batch_size",): "3", ("report",): report}
        return rerun.conclude_if_done("gradcam", settings("gradcam", flags, None, {}), good, Listener())

    run(tmp_path / "out", good)
    assert conclude(report=False) is not None
    assert conclude(report=True) is None
    run(tmp_path / "out", good, report=True)
    assert conclude(report=True) is not None
    assert conclude(report=False) is not None


def test_images_called_like_the_report_are_beside_it(tmp_path: Path) -> None:
    names = ["report.html/a.png", "Report-Data/b.png", "report-data.png", "report.htm/c.png"]
    for name in names:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (9, 90, 9)).save(tmp_path / "in" / name)
    run(tmp_path / "out", find_images([tmp_path / "in"], recursive=True), report=True)
    folders = {path.parent.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.webp")}
    tops = {folder.partition("/")[0].casefold() for folder in folders}
    assert not tops & {"report.html", "report-data"}
    assert {"report-data.png", "report.htm"} <= tops
    assert len(folders) == 4


def test_what_changed_of_the_small_pictures_is_found_and_the_report_is_passed_over(
    tmp_path: Path, sources: list[Source], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "MOST_VALUES", 2)
    out = tmp_path / "out"
    run(out, sources[:2], report=True)
    (out / "report.html").write_text("<!doctype html>")
    (out / "report-data").mkdir()
    (out / "report-data" / "preview.webp").write_bytes((out / "0.png" / "thumbnail.webp").read_bytes())
    assert verify(out) == []
    grey = next(out.rglob("0.png/*.grey-map.webp"))
    for path in (out / "0.png" / "thumbnail.webp", grey):
        before = path.read_bytes()
        path.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        name = path.relative_to(out).as_posix()
        assert [(problem.kind, problem.path) for problem in verify(out)] == [("changed", name)]
        path.unlink()
        assert [(problem.kind, problem.path) for problem in verify(out)] == [("missing", name)]
        path.write_bytes(before)
    (out / "0.png" / "report-data").mkdir()
    (out / "0.png" / "report-data" / "x.webp").write_bytes(b"")
    assert [problem.kind for problem in verify(out)] == ["extra"]
    whole = json.loads((out / "manifest.json").read_text())
    whole["images"][0]["thumbnail"]["width"] += 1
    del whole["sha256"]
    (out / "manifest.json").write_text(json.dumps(whole))
    assert "size" in [problem.kind for problem in verify(out)]


def test_maps_that_a_report_kept_can_be_judged_and_others_say_why_not(
    tmp_path: Path, picture: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(present, "MOST_VALUES", 40)
    asked = ["all", str(picture), "--report", "--gradcam-layer", "conv2", *COMPUTED]
    main([*asked, "--saliency-method", "gradient", "-o", str(tmp_path / "run")])
    judged = [str(picture), "--measure", "sparseness", *COMPUTED]
    main(["evaluate", str(tmp_path / "run"), *judged, "-o", str(tmp_path / "judged")])
    (record,) = manifest_of(tmp_path / "judged").images
    assert record.status == "failed"
    assert record.error == "its arrays have no 'saliency.map', which the run keeps under --save-arrays"
    capsys.readouterr()
    main(["gradcam", str(picture), "--report", "--layer", "conv2", *COMPUTED, "-o", str(tmp_path / "cam")])
    assert main(["evaluate", str(tmp_path / "cam"), *judged, "-o", str(tmp_path / "again")]) == 0
    assert main(["evaluate", *judged, "--report", "--method", "gradcam", "-o", str(tmp_path / "both")]) == 0
    (record,) = manifest_of(tmp_path / "both").images
    assert record.thumbnail is not None
    assert [output.array for output in record.outputs if output.method] == ["gradcam.map"]
